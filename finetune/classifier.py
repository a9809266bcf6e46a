"""Train, compare and evaluate the classifier of films: `python -m finetune.classifier train|compare|evaluate --data DIR`.

Knows folders of labelled films and one recipe. Does not know language or how a classifier is served.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from finetune.fitting import Fit, Recipe, indices, positive_of, predict
from finetune.metrics import auc, bootstrap, counts, grade, shortcut_auc
from finetune.records import RecordError
from finetune.samples import Sample, find_samples, leave_seen_out, list_seen, publish
from vision.evidence import CheckpointError
from vision.resnet import Classifier, load_classifier, resnet34

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parents[1] / "models/resnet34-cxr"


def split_samples(samples: list[Sample], labels: tuple[str, ...]) -> dict[str, list[Sample]]:
    """The samples of each part. Raises RecordError when a class is missing from one that teaches or calibrates."""
    parts = {split: [s for s in samples if s.split == split] for split in ("train", "val", "test")}
    if len(labels) < 2:
        raise RecordError(f"There is one class, {labels[0]}. A classifier needs a second folder beside it.")
    for split, what in (("train", "trained on"), ("val", "calibrated on")):
        for label in labels:
            if not any(s.label == label for s in parts[split]):
                count = sum(s.label == label for s in samples)
                raise RecordError(
                    f"No image of {label} falls into the part that is {what}: it has {count} in all. "
                    "Add images of other patients to that folder."
                )
    return parts


def train(
    data: Path, out: Path, recipe: Recipe, start: Path | None = None, folds: int = 0, each: Recipe | None = None
) -> tuple[Classifier, list[Sample]]:
    """Train one classifier and export it to `out`; with `folds`, also `each` of so many for the out-of-fold predictions.

    The classifier, and the films held out.
    """
    samples = find_samples(data)
    labels = tuple(sorted({s.label for s in samples}))
    parts = split_samples(samples, labels)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    classifier = Fit(parts, labels, recipe, out, load_classifier(start).model if start else resnet34(labels)).run()
    publish(classifier, out)
    list_seen([*parts["train"], *parts["val"]], out)
    if folds:
        cross_fit(parts, labels, each or recipe, out, folds)
    return classifier, parts["test"]


def cross_fit(parts: dict[str, list[Sample]], labels: tuple[str, ...], recipe: Recipe, out: Path, folds: int) -> None:
    """Write `out_of_fold.csv`: each training film's probabilities by a classifier that never saw its patient.

    Fold k trains with seed k on the other folds, calibrates on the validation part; the table has `file,label,fold` and a
    column per label.
    """
    rows = ["file,label,fold," + ",".join(labels)]
    patients = sorted({s.patient for s in parts["train"]})
    order = np.random.default_rng(0).permutation(len(patients))
    fold_of = {patients[p]: int(k) % folds for k, p in enumerate(order)}
    for fold in range(folds):
        inside = [s for s in parts["train"] if fold_of[s.patient] == fold]
        outside = [s for s in parts["train"] if fold_of[s.patient] != fold]
        place = out / f"fold-{fold}"
        place.mkdir(exist_ok=True)
        torch.manual_seed(fold)
        model = Fit({**parts, "train": outside}, labels, replace(recipe, seed=fold), place, resnet34(labels)).run()
        publish(model, place)
        said = model.calibration.probabilities(predict(model, inside, True))
        for sample, values in zip(inside, said, strict=True):
            name = sample.path.name.replace('"', "")
            rows.append(f'"{name}",{sample.label},{fold},' + ",".join(f"{v:.5f}" for v in values))
        scores = predict(model, parts["test"], True) if parts["test"] else None
        if scores is not None:
            sick = labels.index(positive_of(labels))
            logits = scores[:, sick] - np.delete(scores, sick, 1).max(1)
            log.info("fold %d: test AUC %s", fold, auc(logits, indices(parts["test"], labels) == sick))
    (out / "out_of_fold.csv").write_text("\n".join(rows) + "\n", "utf-8")


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "resnet18": {"model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "resnet34": {"model_type": "resnet", "layer_type": "basic", "depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 256, 512]},
    "resnet50": {"model_type": "resnet"},
    "convnext-atto": {"model_type": "convnext", "depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]},
    "mobilenet-v2": {"model_type": "mobilenet_v2"},
    "vit-tiny": {"model_type": "vit", "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
}


def architecture(name: str, labels: Sequence[str], size: int) -> nn.Module:
    """One of `ARCHITECTURES` with random weights."""
    fields = dict(ARCHITECTURES[name])
    if fields["model_type"] in {"vit", "mobilenet_v2", "convnext"}:
        fields["image_size"] = size
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    config = AutoConfig.for_model(fields.pop("model_type"), **fields, **named)
    return cast(nn.Module, AutoModelForImageClassification.from_config(config))


def compare(data: Path, out: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """One epoch of each of `ARCHITECTURES` on the same films: parameters, images a second and AUC on the last part."""
    samples = find_samples(data)
    labels = tuple(sorted({s.label for s in samples}))
    parts = split_samples(samples, labels)
    rows = []
    for name in ARCHITECTURES:
        torch.manual_seed(recipe.seed)
        model = architecture(name, labels, recipe.size)
        started = time.perf_counter()
        trained = Fit(parts, labels, replace(recipe, epochs=1), out / name, model).run()
        seconds = time.perf_counter() - started
        found = evaluate(trained, parts["test"], True, 0)
        weights = sum(p.numel() for p in model.parameters())
        rows.append({"architecture": name, "parameters": weights, "seconds": round(seconds), "auc": found["auc"]})
        log.info("%s", rows[-1])
    return rows


def evaluate(classifier: Classifier, samples: Sequence[Sample], mirrored: bool, rounds: int = 1000) -> dict[str, Any]:
    """Every number of `grade` at the shipped threshold, with confusion, intervals over patients and the shortcut baseline."""
    positive = classifier.calibration.positive or positive_of(classifier.labels)
    sick = np.array([s.label == positive for s in samples])
    logits = predict(classifier, samples, mirrored)
    probabilities = classifier.calibration.probabilities(logits)
    scores = probabilities[:, classifier.labels.index(positive)].astype(np.float64)
    threshold = classifier.calibration.threshold
    patients = [s.patient for s in samples]
    sets = [classifier.calibration.label_set(p, classifier.labels) for p in probabilities]
    held = [s.label in told for s, told in zip(samples, sets, strict=True)]
    return {
        "n": len(samples),
        "positive": positive,
        "threshold": threshold,
        "tta": mirrored,
        **grade(scores, sick, threshold),
        "confusion": counts(scores, sick, threshold),
        "intervals": bootstrap(lambda i: grade(scores[i], sick[i], threshold), patients, rounds),
        "conformal": {"coverage": float(np.mean(held)), "one_label": float(np.mean([len(told) == 1 for told in sets]))},
        "shortcut_auc": shortcut_auc(np.array([_shortcuts(s.path) for s in samples]), sick, patients),
    }


def _shortcuts(path: Path) -> tuple[float, float, float, float]:
    """File size, aspect ratio, mean and standard deviation of grey."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L"), np.float32)
        return float(path.stat().st_size), image.width / image.height, float(grey.mean()), float(grey.std())


def unseen(data: Path, folder: Path, labels: Sequence[str]) -> tuple[list[Sample], int]:
    """The samples of `data` that `folder`'s classifier was neither trained nor calibrated on, and how many were left out."""
    return leave_seen_out(find_samples(data, labels), folder, data)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m finetune.classifier", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recipe = Recipe()
    for name in ("train", "compare", "evaluate"):
        command = commands.add_parser(name)
        command.add_argument("--data", type=Path, required=True, help="a folder per class")
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        if name == "evaluate":
            command.add_argument("--model", type=Path, default=SHIPPED, help="a checkpoint folder or a .pth file")
            command.add_argument("--no-tta", action="store_true", help="one pass a film, without its mirror image")
            continue
        command.add_argument("--out", type=Path, default=Path("runs/resnet34-cxr"))
        command.add_argument("--size", type=int, default=recipe.size, help="pixels a side")
        command.add_argument("--epochs", type=int, default=recipe.epochs)
        command.add_argument("--batch", type=int, default=recipe.batch)
        command.add_argument("--rate", type=float, default=recipe.rate)
        command.add_argument("--patience", type=int, default=recipe.patience)
        command.add_argument("--seed", type=int, default=recipe.seed)
        if name == "train":
            command.add_argument("--folds", type=int, default=0, help="also one classifier per fold: out_of_fold.csv")
            command.add_argument("--fold-size", type=int, help="pixels a side for those; by default --size")
            command.add_argument("--fold-epochs", type=int, help="epochs for those; by default --epochs")
            command.add_argument("--start", type=Path, help="a checkpoint to go on from, at another size say")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> Any:
    """What a command prints."""
    if args.command == "evaluate":
        classifier = load_classifier(args.model, "cuda" if torch.cuda.is_available() else "cpu")
        samples, left_out = unseen(args.data, args.model, classifier.labels)
        found = evaluate(classifier, samples, not args.no_tta)
        return {**found, "left_out_as_trained_on": left_out}
    recipe = Recipe(args.size, args.epochs, args.batch, args.rate, args.patience, args.seed)
    if args.command == "compare":
        return compare(args.data, args.out, recipe)
    each = replace(recipe, size=args.fold_size or recipe.size, epochs=args.fold_epochs or recipe.epochs)
    classifier, held_out = train(args.data, args.out, recipe, args.start, args.folds, each)
    return evaluate(classifier, held_out, True)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        found = run(args)
    except (RecordError, CheckpointError) as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    rows = found if isinstance(found, list) else [found]
    if args.json:
        print(json.dumps(found))
    else:
        for row in rows:
            print("\n".join(f"{name:24} {value}" for name, value in row.items()), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
