"""The data card: what the lessons hold, counted, and some of them to read.

Knows the lessons and how to draw them. Does not know models.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from chat.prompt import render
from chat.wording import LANGUAGES, Language
from finetune.ask_films import ask_about_film, ask_about_phantom
from finetune.ask_other import ask_about_oddity, ask_other
from finetune.ask_scenes import ask_about_scene
from finetune.exchange import Exchange
from finetune.films import Films
from finetune.lessons import MAKERS, OF_FILMS, draw_maker
from finetune.phantom import draw_phantom
from finetune.scenes import draw_scene

TURNS = 8
READ = 2
"""Lessons to read per kind and language."""


def describe(films: Films, count: int, seed: int) -> str:
    """A data card in Markdown: lessons per kind, exchanges per intent, how varied they are, and lessons to read.

    `count` lessons and as many dialogues are drawn with `seed`; the training draws from the same makers with its own.
    """
    rng = np.random.default_rng([seed, 4])
    kinds = Counter(draw_maker(films, rng).__name__.removesuffix("_lesson") for _ in range(count))
    real = f"{len(films.labels)} real films, the rest drawn" if len(films.labels) else "no real films: every picture is drawn"
    lines = ["# Lessons", "", f"{count} lessons, seed {seed}; {real}.", "", *_table("kind", kinds), ""]
    for language in LANGUAGES:
        told = [exchange for number in range(count // TURNS) for exchange in _dialogues(number, seed, language)]
        answer, most = Counter(one.answer for one in told).most_common(1)[0]
        lines += [f"## {language}: {len(told)} exchanges", "", *_table("intent", Counter(one.kind for one in told)), ""]
        lines += [f"{len({one.question for one in told})} different questions, {len({one.answer for one in told})} answers."]
        lines += [f"The most frequent answer is {most / len(told):.1%} of them: {answer}", ""]
    for maker, _ in MAKERS:
        lines += [f"## {maker.__name__.removesuffix('_lesson')}", ""]
        for language in LANGUAGES if len(films.labels) or maker not in OF_FILMS else ():
            for number in range(READ):
                said = maker(films, np.random.default_rng([seed, 5, number]), language).messages
                lines += [render(said[1:] if said[0].role == "system" else said), ""]
    return "\n".join(lines)


def _dialogues(number: int, seed: int, language: Language) -> Iterator[Exchange]:
    """One dialogue of each kind."""
    rng = np.random.default_rng([seed, 6, number])
    yield from ask_about_scene(draw_scene(rng), rng, language, TURNS)
    yield from ask_about_film(number % 3, None, rng, language, TURNS // 2)
    yield from ask_about_phantom(draw_phantom(rng), None, rng, language, TURNS // 4)
    yield from ask_about_oddity(rng, language, 1)
    yield ask_other(rng, language)


def _table(what: str, counts: Counter[str]) -> list[str]:
    return [f"| {what} | count |", "|---|---|", *(f"| {name} | {count} |" for name, count in counts.most_common())]
