"""Rehearsal: drawn pictures with dialogues, as records to mix in so that an adapter does not unlearn what its base can do.

Knows the generators. Does not know models. No seed of it is one that anything is measured with.
"""

from functools import partial
from pathlib import Path

import numpy as np

from chat.wording import LANGUAGES
from finetune.ask_phantoms import ask_about_phantom
from finetune.ask_scenes import ask_about_scene
from finetune.jsonl import disk_errors, write_objects
from finetune.phantom import Phantom, draw_phantom
from finetune.record_formats import Exchange, Record, as_row
from finetune.scenes import Scene, draw_scene

SEED = 98_000
KINDS = ("scene", "phantom")


def draw_records(folder: Path, count: int, seed: int = 0) -> Path:
    """Write so many pictures into `folder`, every third a phantom and the rest scenes, with one to three questions each in
    either language; its records.jsonl.
    """
    records = []
    for number in range(count):
        rng, language = np.random.default_rng([SEED, seed, number]), LANGUAGES[number % 2]
        is_phantom, turns = number % 3 == 2, 1 + number // 3 % 3
        picture: Scene | Phantom = draw_phantom(rng) if is_phantom else draw_scene(rng)
        ask = partial(ask_about_phantom, picture, None) if isinstance(picture, Phantom) else partial(ask_about_scene, picture)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            picture.image.save(folder / f"{number}.png")
        said, kind = tuple(Exchange(one.question, one.answer) for one in ask(rng, language, turns)), KINDS[is_phantom]
        records.append(Record(f"scene-{number}", f"scene-{number}", said, f"{number}.png", "", kind, language, "scenes"))
    write_objects(folder / "records.jsonl", [as_row(record, "records") for record in records])
    return folder / "records.jsonl"
