"""Quizzes: terse questions about all there is in a scene, one after the other.

Knows scenes and a handful of phrasings. Does not know dialogues, models or tokens. A lookup that takes a sentence to ask and
another to answer teaches as much as one that takes ten words, and costs three times as many.
"""

from chat.wording import Language
from finetune.exchange import Exchange, Random, closed_answer
from finetune.phrasebook import capital
from finetune.scene_ko import RANKS
from finetune.scene_said import listed
from finetune.scene_speaker import OPEN, Speaker
from finetune.scene_view import USUAL, pick
from finetune.scene_words import Ref
from finetune.scenes import Scene

COUNTED = 4
"""Groups of a scene that are counted at most: there are many more of them than of its items."""

_ASKED: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "colour": ("{it:the}: colour?", "colour of {it:the}?", "what colour is {it:the}?"),
        "shape": ("{it:the}: shape?", "shape of {it:the}?", "what is {it:the}?"),
        "position": ("{it:the}: where?", "place of {it:the}?", "where is {it:the}?"),
        "size": ("{it:the}: size?", "size of {it:the}?", "how big is {it:the}?"),
        "count": ("{it:many}: how many?", "number of {it:many}?", "how many {it:many}?"),
        "exists": ("{it:a}?", "any {it:many}?", "is there {it:a}?"),
    },
    "ko": {
        "colour": ("{it}: 색?", "{it}의 색은?", "{it:은} 무슨 색?"),
        "shape": ("{it}: 모양?", "{it}의 모양은?", "{it:은} 뭐?"),
        "position": ("{it}: 위치?", "{it}의 자리는?", "{it:은} 어디?"),
        "size": ("{it}: 크기?", "{it}의 크기는?", "{it:은} 얼마나 커?"),
        "count": ("{it}: 몇 개?", "{it}의 수는?", "{it:은} 몇 개?"),
        "exists": ("{it}?", "{it:이} 있어?", "{it} 있나?"),
    },
}  # fmt: skip


def ask_quiz(scene: Scene, rng: Random, language: Language, turns: int) -> list[Exchange]:
    """At most so many questions, none of them twice."""
    speaker = Speaker(scene, rng, language, False)
    known = list({(kind, ref): (kind, ref, claim) for kind, ref, claim in _known(speaker)}.values())
    return [_exchange(speaker, *known[i]) for i in rng.permutation(len(known))[:turns]]


def _known(speaker: Speaker) -> list[tuple[str, Ref, str]]:
    """What can be asked and is true: of each item the attributes that not all share, how many of each group, what is there.

    What all share can be answered without finding the item, and so teaches nothing of finding. Where not all has a name,
    groups are left out.
    """
    view, rng = speaker.view, speaker.rng
    found: list[tuple[str, Ref, str]] = []
    truths = [view.truth(index) for index in range(len(view.items))]
    for kind, attribute in OPEN.items():
        values = [getattr(truth, attribute) for truth in truths]
        for index, value in enumerate(values if len(set(values)) > 1 else ()):
            refs = view.refs(index, attribute)
            if value and refs:
                found.append((kind, pick(rng, refs, [USUAL[ref.length] for ref in refs]), value))
    if not all(item.kind and item.colour for item in view.items):
        return found
    groups = {Ref(kind=item.kind, colour=item.colour) for item in view.items}
    groups |= {Ref(kind=ref.kind) for ref in groups} | {Ref(colour=ref.colour) for ref in groups} | {Ref()}
    counted = sorted(groups, key=str)
    found += [("count", counted[i], str(len(view.fitting(counted[i])))) for i in rng.permutation(len(counted))[:COUNTED]]
    things = [thing for there in (True, False, False) if (thing := view.thing(rng, there))]
    return found + [("exists", thing, "yes" if view.fitting(thing) else "no") for thing in things]


def _exchange(speaker: Speaker, kind: str, ref: Ref, claim: str) -> Exchange:
    question = pick(speaker.rng, _ASKED[speaker.language][kind]).format(it=speaker.noun(ref))
    if kind == "size" and speaker.korean:
        answer = RANKS[claim]
    elif kind == "exists":
        answer = closed_answer(claim == "yes", speaker.language)
    elif kind == "count":
        parts = speaker.places(speaker.view.fitting(ref))
        answer = f"{listed(parts)}: {claim}" if parts else claim
        return Exchange(capital(question), f"{capital(answer)}.", kind, claim, parts=parts)
    else:
        answer = format(speaker.value(OPEN[kind], claim))
    return Exchange(capital(question), f"{capital(answer)}.", kind, claim, tuple(speaker.view.fitting(ref)))
