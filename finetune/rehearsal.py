"""Rehearsal: drawn scenes with dialogues, as records to mix in so that an adapter does not unlearn what its base can do.

Knows the generators of scenes. Does not know models. No seed of it is one that anything is measured with.
"""

from pathlib import Path

import numpy as np

from chat.wording import LANGUAGES
from finetune.ask_scenes import ask_about_scene
from finetune.jsonl import disk_errors, write_objects
from finetune.record_formats import Exchange, Record, as_row
from finetune.scenes import draw_scene

SEED = 98_000


def draw_records(folder: Path, count: int, seed: int = 0) -> Path:
    """Write so many scenes, with one to three questions each in either language, into `folder`; its records.jsonl."""
    records = []
    for number in range(count):
        rng, language = np.random.default_rng([SEED, seed, number]), LANGUAGES[number % 2]
        scene = draw_scene(rng)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            scene.image.save(folder / f"{number}.png")
        turns = tuple(Exchange(one.question, one.answer) for one in ask_about_scene(scene, rng, language, 1 + number % 3))
        records.append(Record(f"scene-{number}", f"scene-{number}", turns, f"{number}.png", "", "scene", language, "scenes"))
    write_objects(folder / "records.jsonl", [as_row(record, "records") for record in records])
    return folder / "records.jsonl"
