"""The guard: what an adapter must not unlearn, measured on drawn pictures that no training uses.

Knows scenes, drawn radiographs and their truth. Does not know adapters or records. It needs no data of anyone's.
"""

from typing import Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from chat.closed_questions import OPTIONS
from chat.engine.base import Engine, Message, Sampling, Scorer
from chat.prompt import View, layout
from chat.wording import LANGUAGES, Language, evidence_lines
from finetune.ask_films import ask_phantom_kind
from finetune.ask_scenes import ask_kind, claim_of
from finetune.asking import listen
from finetune.phantom import draw_phantom
from finetune.scenes import draw_scene
from vision.evidence import Evidence, Finding
from vision.tiling import Box

SEED = 94_000
KINDS = ("colour", "shape", "position", "count", "size", "exists")
_GREEDY = Sampling(max_new_tokens=48, temperature=0)


class Guarded(Engine, Scorer, Protocol):
    """What is asked: an engine with probabilities."""


def prompt(image: Image.Image, question: str, language: Language, lines: list[str]) -> tuple[Message, ...]:
    return layout(question, (), [View("overview", Box(0, 0, *image.size), image)], lines, (), language)


def measure(engine: Guarded, count: int) -> dict[str, float]:
    """Shares of right answers: `scenes`, and `tool-flip`, about drawn radiographs under evidence that points the wrong way.

    `count` questions each. Raises EngineError.
    """
    return {"scenes": _scenes(engine, count), "tool-flip": _flips(engine, count)}


def _scenes(engine: Guarded, count: int) -> float:
    right, asked, number = 0, 0, 0
    with tqdm(total=count, desc="scenes", disable=None, leave=False) as bar:
        while asked < count:
            number += 1
            rng, language = np.random.default_rng([SEED, 1, number]), LANGUAGES[number % 2]
            scene, kind = draw_scene(rng), KINDS[number // 2 % len(KINDS)]
            exchange = ask_kind(scene, kind, rng, language)
            if exchange is None or exchange.claim is None:
                continue
            said = listen(engine, prompt(scene.image, exchange.question, language, []), _GREEDY)[0].strip()
            right += claim_of(said, kind, language) == exchange.claim
            asked += 1
            bar.update()
    return right / count


def _flips(engine: Guarded, count: int) -> float:
    right = 0
    for number in tqdm(range(count), desc="tool-flip", disable=None, leave=False):
        rng, language = np.random.default_rng([SEED, 2, number]), LANGUAGES[number % 2]
        phantom = draw_phantom(rng, number // 2 % 2 == 0)
        exchange = ask_phantom_kind(phantom, "opacity", rng, language)
        is_there = phantom.opacity is not None
        wrong = Evidence((Finding("PNEUMONIA", 0.08 if is_there else 0.92),), ("NORMAL" if is_there else "PNEUMONIA",))
        messages = prompt(phantom.image, exchange.question, language, evidence_lines(wrong, language))
        yes, no = engine.choose([messages], OPTIONS[language])[0]
        right += (yes > no) == is_there
    return right / count
