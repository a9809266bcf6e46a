"""Train and evaluate the segmenter of films: `python -m finetune.segmenter train|evaluate --data DIR`.

Knows folders of films with masks and one recipe. Does not know language or how a segmenter is served. What DIR holds:
`finetune.seg_pairs.find_pairs` says.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.records import RecordError
from finetune.samples import leave_seen_out, list_seen, publish
from finetune.seg_fit import Fit, Recipe, parts_of
from finetune.seg_grade import draw_pair, grade, sheet, summarise
from finetune.seg_pairs import Pair, find_pairs
from vision.evidence import CheckpointError
from vision.unet import Segmenter, load_segmenter

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parents[1] / "models/unet-lungs"
WORST = 12


def train(data: Path, out: Path, recipe: Recipe, start: Path | None = None) -> tuple[Segmenter, list[Pair]]:
    """Train one segmenter and export it to `out`, with the hashes of the films that it has seen; and the pairs held out.

    From the weights in the folder `start`, if one is given: its classes must be those of `data`.
    """
    begun = load_segmenter(start) if start else None
    pairs, classes = find_pairs(data, begun.classes if begun else None)
    parts = parts_of(pairs, classes)
    out.mkdir(parents=True, exist_ok=True)
    segmenter = Fit(parts, classes, recipe, out, begun).run()
    publish(segmenter, out)
    list_seen([*parts["train"], *parts["val"]], out)
    return segmenter, parts["test"]


def evaluate(segmenter: Segmenter, pairs: Sequence[Pair], picture: Path | None = None, rounds: int = 1000) -> dict[str, Any]:
    """Dice, IoU and Hausdorff distance per class in the films' own pixels, and into `picture` the films with the worst Dice."""
    grades = np.stack([grade([m.values for m in segmenter.segment(pair.film()).masks], pair.mask) for pair in pairs])
    found = summarise(grades, segmenter.classes, [pair.patient for pair in pairs], rounds)
    if picture:
        each = np.where(np.isnan(grades[:, 0]), 1, grades[:, 0]).min(1)
        worst = [pairs[i] for i in np.argsort(each, kind="stable")[:WORST]]
        sheet([draw_pair(pair.film(), segmenter.segment(pair.film()).masks, pair.mask) for pair in worst]).save(picture, "PNG")
    return {"n": len(pairs), **found}


def unseen(data: Path, folder: Path, classes: tuple[str, ...]) -> tuple[list[Pair], int]:
    """The pairs of `data` that `folder`'s segmenter was neither trained nor stopped on, and how many were left out."""
    return leave_seen_out(find_pairs(data, classes)[0], folder, data)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m finetune.segmenter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recipe = Recipe()
    for name in ("train", "evaluate"):
        command = commands.add_parser(name)
        command.add_argument("--data", type=Path, required=True, help="a folder with images/ and masks/")
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        command.add_argument("--sheet", type=Path, help="a PNG file for the films with the worst Dice")
        if name == "evaluate":
            command.add_argument("--model", type=Path, default=SHIPPED, help="a folder that train wrote")
            continue
        command.add_argument("--out", type=Path, default=Path("runs/unet"))
        command.add_argument("--start", type=Path, help="a folder that train wrote: begin from its weights, of any --size")
        command.add_argument("--crops", action="store_true", help="windows of --size at the films' own scale, not whole films")
        for field in ("size", "epochs", "batch", "rate", "patience", "seed"):
            default = getattr(recipe, field)
            command.add_argument(f"--{field}", type=type(default), default=default)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """What a command prints."""
    if args.command == "evaluate":
        segmenter = load_segmenter(args.model, "cuda" if torch.cuda.is_available() else "cpu")
        pairs, left_out = unseen(args.data, args.model, segmenter.classes)
        return {**evaluate(segmenter, pairs, args.sheet), "left_out_as_trained_on": left_out}
    recipe = Recipe(args.size, args.epochs, args.batch, args.rate, args.patience, args.seed, args.crops)
    segmenter, held_out = train(args.data, args.out, recipe, args.start)
    return evaluate(segmenter, held_out, args.sheet) if held_out else {"n": 0}


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        found = run(args)
    except (RecordError, CheckpointError) as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found) if args.json else "\n".join(f"{name:24} {value}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
