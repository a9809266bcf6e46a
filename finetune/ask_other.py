"""Asking about other things: greetings and talk beside the point, and pictures that Hilum does not know.

Knows sentences. Does not know images: `finetune.oddities` draws the unknown ones.
"""

from chat.wording import SECTIONS, Language, section_prompt
from finetune.claims import claim_of
from finetune.exchange import Exchange, Random
from finetune.phrasebook import book

__all__ = ["ODDITY", "TOPICS", "ask_about_oddity", "ask_other", "claim_of"]

TOPICS = ("greeting", "thanks", "who", "can", "privacy", "languages", "nonsense", "offtopic")
ODDITY = "oddity"


def ask_other(rng: Random, language: Language, held_out: bool = False) -> Exchange:
    """One exchange that fits any image; its kind is "other_" and one of `TOPICS`, and it claims nothing."""
    topic = TOPICS[int(rng.integers(len(TOPICS)))]
    words = book("other", language)
    return Exchange(words.ask(topic, rng, held_out), words.say(topic, rng), f"other_{topic}")


def ask_about_oddity(rng: Random, language: Language, turns: int, held_out: bool = False) -> list[Exchange]:
    """A dialogue about a picture that is neither film nor scene: whatever is asked, the claim is "cannot"."""
    words = book("oddity", language)
    told: list[Exchange] = []
    for _ in range(turns):
        way = rng.random()
        pool = "any" if way < 0.6 else "medical"
        question = words.ask(pool, rng, held_out)
        if way > 0.94:
            question = section_prompt(SECTIONS[int(rng.integers(len(SECTIONS)))], language)
        told.append(Exchange(question, words.say(pool, rng), ODDITY, "cannot"))
    return told
