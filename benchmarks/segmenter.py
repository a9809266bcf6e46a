"""What the segmenter is worth: `python -m benchmarks.segmenter --data DIR [--adults DIR ...] [--others DIR] [--gas DIR ...]`.

`--data` holds images/ and masks/ of lungs (only films that it was not trained on are measured), `--adults` pictures of any
format, of which those count that the classifier's gate takes for frontal chest films, `--others` what is no chest film. `--gas`
is a segmenter that `finetune.segmenter train` made from phantoms of five classes, `--phantoms` others of them
(`finetune.seg_phantom --seed 1`). Times are medians of one film after another: the mask, then all that an examination does.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks import machine
from finetune.classifier import SHIPPED as CLASSIFIER
from finetune.seg_pairs import Pair
from finetune.segmenter import SHIPPED, evaluate, unseen
from vision.examiner import Examiner, load_examiner
from vision.study import Study, StudyError, read_trusted
from vision.unet import Segmenter, load_segmenter


def milliseconds(films: list[Image.Image], *calls: Callable[[Image.Image], object]) -> list[float]:
    """Median time of each call on one film at its own size, in turns."""
    spent = np.zeros((len(films) + 1, len(calls)))
    for row, film in enumerate([films[0], *films]):
        for column, call in enumerate(calls):
            started = time.perf_counter()
            call(film)
            spent[row, column] = time.perf_counter() - started
    return [round(1000 * float(median), 1) for median in np.median(spent[1:], 0)]


def two_lungs(segmenter: Segmenter, images: Iterable[Image.Image]) -> dict[str, float | int]:
    """How many images get a mask that looks like the lungs of a frontal film."""
    found = [segmenter.segment(image).is_two_lungs for image in images]
    return {"n": len(found), "two_lungs": round(float(np.mean(found)), 3) if found else 0.0}


def examined(examiner: Examiner, studies: Iterable[Study]) -> dict[str, float | int]:
    """Of the pictures that the gate takes for films: how many get a mask of two lungs; the rest get none, and a reason."""
    found = [examiner.examine(study) for study in studies]
    films = [evidence for evidence in found if evidence.is_in_domain]
    shares = {
        "two_lungs": np.mean([bool(evidence.masks) for evidence in films]),
        "two_lungs_or_refused": np.mean([bool(evidence.masks or evidence.mask_reason) for evidence in films]),
    }
    return {"pictures": len(found), "films": len(films)} | {name: round(float(share), 3) for name, share in shares.items()}


def studies_in(folders: Iterable[Path]) -> Iterator[Study]:
    """What can be read of the folders, and of the folders in them."""
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            yield read_trusted(path.read_bytes())
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
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER)
    parser.add_argument("--adults", type=Path, nargs="+")
    for name in ("others", "phantoms", "gas"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/segmenter.json"))
    args = parser.parse_args()
    segmenter, examiner = load_segmenter(args.model), load_examiner(args.classifier, segmenter=args.model)
    pairs, left_out = unseen(args.data, args.model, segmenter.classes)
    result: dict[str, object] = {"machine": machine.describe(), "left_out_as_trained_on": left_out}
    result["lungs"] = evaluate(segmenter, pairs)
    result["two_lungs"] = {name: two_lungs(segmenter, images) for name, images in treated(pairs).items()}
    if args.adults:
        result["adults"] = examined(examiner, studies_in(args.adults))
    if args.others:
        result["others"] = two_lungs(segmenter, (study.image for study in studies_in([args.others])))
    if args.gas and args.phantoms:
        gas = load_segmenter(args.gas)
        result["phantoms"] = evaluate(gas, unseen(args.phantoms, args.gas, gas.classes)[0])
    films = [pair.film() for pair in pairs]
    took = milliseconds(films, segmenter.segment, lambda film: examiner.examine(Study(film.convert("RGB"))))
    result["milliseconds_per_film"] = dict(zip(("mask", "class_map_and_mask"), took, strict=True))
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
