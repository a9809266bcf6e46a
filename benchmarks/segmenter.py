"""What the segmenter is worth: `python -m benchmarks.segmenter --data DIR [--adults DIR] [--others DIR] [--phantoms DIR ...]`.

`--data` holds images/ and masks/ of lungs (only films that it was not trained on are measured), `--adults` and `--others`
pictures of any format: frontal chest films of adults, and what is no chest film. `--gas` is a segmenter that
`finetune.segmenter train` made from phantoms of five classes, `--phantoms` others of them (`finetune.seg_phantom --seed 1`).
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks import machine
from finetune.seg_pairs import Pair
from finetune.segmenter import SHIPPED, evaluate, unseen
from vision.study import StudyError, read_study
from vision.unet import Segmenter, load_segmenter


def milliseconds(segmenter: Segmenter, films: list[Image.Image]) -> float:
    """Median time of one film at its own size, one after another."""
    segmenter.segment(films[0])
    spent = []
    for film in films:
        started = time.perf_counter()
        segmenter.segment(film)
        spent.append(time.perf_counter() - started)
    return 1000 * float(np.median(spent))


def two_lungs(segmenter: Segmenter, images: Iterable[Image.Image]) -> dict[str, float | int]:
    """How many images get a mask that looks like the lungs of a frontal film."""
    found = [segmenter.segment(image).is_two_lungs for image in images]
    return {"n": len(found), "two_lungs": round(float(np.mean(found)), 3) if found else 0.0}


def pictures(folder: Path) -> Iterator[Image.Image]:
    """What can be read of a folder, and of the folders in it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            yield read_study(path.read_bytes()).image
        except StudyError:
            continue


def treated(pairs: list[Pair]) -> dict[str, Iterable[Image.Image]]:
    """The films as they are, and as no film should be."""
    films = [pair.film() for pair in pairs]
    return {
        "as it is": films,
        "upside down": map(ImageOps.flip, films),
        "mirrored": map(ImageOps.mirror, films),
        "lying": (film.transpose(Image.Transpose.ROTATE_90) for film in films),
        "negative": map(ImageOps.invert, films),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--data", type=Path, required=True)
    for name in ("adults", "others", "phantoms", "gas"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segmenter.json"))
    args = parser.parse_args()
    segmenter = load_segmenter(args.model)
    pairs, left_out = unseen(args.data, args.model, segmenter.classes)
    result: dict[str, object] = {"machine": machine.describe(), "left_out_as_trained_on": left_out}
    result["lungs"] = evaluate(segmenter, pairs)
    result["two_lungs"] = {name: two_lungs(segmenter, images) for name, images in treated(pairs).items()}
    for name, folder in (("adults", args.adults), ("others", args.others)):
        if folder:
            result[name] = two_lungs(segmenter, pictures(folder))
    if args.gas and args.phantoms:
        gas = load_segmenter(args.gas)
        result["phantoms"] = evaluate(gas, unseen(args.phantoms, args.gas, gas.classes)[0])
    result["milliseconds_per_film"] = round(milliseconds(segmenter, [pair.film() for pair in pairs]), 1)
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
