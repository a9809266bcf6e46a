"""What the classifier is worth: `python -m benchmarks.classifier --data DIR [--aspect DIR] [--folds DIR]`.

`--data` is the training data's folder per class (only films that it was not trained on are measured), `--aspect` a folder of
films in their own aspect, `--folds` what `finetune.classifier train --folds` wrote: the mean over its seeds is told as well.
"""

import argparse
import json
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import machine
from finetune.classifier import SHIPPED, evaluate, unseen
from finetune.samples import Sample
from vision.examiner import load_examiner
from vision.resnet import Classifier, load_classifier
from vision.study import read_study


def same_when_squashed(classifier: Classifier, files: list[Path]) -> float:
    """Share of films that keep their verdict when they are squashed to 224 x 224 and saved as JPEG."""
    kept = []
    for file in files:
        image = Image.open(file).convert("RGB")
        squashed = BytesIO()
        image.resize((224, 224), Image.Resampling.BICUBIC).save(squashed, "JPEG", quality=90)
        pair = (
            classifier.calibration.probabilities(classifier.logits([image]))[0],
            classifier.calibration.probabilities(classifier.logits([Image.open(squashed).convert("RGB")]))[0],
        )
        kept.append(len({classifier.calibration.verdict(p, classifier.labels) for p in pair}) == 1)
    return float(np.mean(kept))


def examinations_per_second(folder: Path, samples: list[Sample]) -> float:
    """From bytes to evidence, one after another."""
    examiner = load_examiner(folder)
    data = [sample.path.read_bytes() for sample in samples]
    examiner.examine(read_study(data[0]))
    started = time.perf_counter()
    for film in data:
        examiner.examine(read_study(film))
    return len(data) / (time.perf_counter() - started)


def over_seeds(folder: Path, samples: list[Sample]) -> dict[str, object]:
    """AUC of each fold's classifier, every one from another seed and none trained on these films."""
    found = [evaluate(load_classifier(fold), samples, True, 0)["auc"] for fold in sorted(folder.glob("fold-*"))]
    return {"auc": [round(value, 4) for value in found], "mean": round(float(np.mean(found)), 4), "seeds": len(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--aspect", type=Path)
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classifier.json"))
    args = parser.parse_args()
    classifier = load_classifier(args.model)
    samples, left_out = unseen(args.data, args.model, classifier.labels)
    result: dict[str, object] = {"machine": machine.describe(), "left_out_as_trained_on": left_out}
    for name, mirrored in (("tta", True), ("no_tta", False)):
        result[name] = evaluate(classifier, samples, mirrored)
    if args.folds:
        result["over_seeds"] = over_seeds(args.folds, samples)
    if args.aspect:
        result["same_when_squashed"] = same_when_squashed(classifier, sorted(args.aspect.iterdir()))
    result["examinations_per_second"] = round(examinations_per_second(args.model, samples[:100]), 1)
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
