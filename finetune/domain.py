"""Fit and measure the domain check: `python -m finetune.domain fit|evaluate --data DIR --adults DIR [--model DIR]`.

Knows films, adults' films, generated outliers and one linear head. Does not know how a classifier was trained.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors.numpy import save as packed
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from finetune import outliers
from finetune.classifier import SHIPPED
from finetune.outliers import treat
from finetune.records import RecordError
from finetune.samples import find_samples
from finetune.textures import Random
from vision.domain import CLASSES, FACTS, WEIGHTS, Domain, Verdict, describe
from vision.evidence import CheckpointError
from vision.resnet import Classifier, Look, digest, load_classifier
from vision.study import Study, StudyError, read_trusted

log = logging.getLogger(__name__)
Maker = Callable[[Image.Image, Random], Image.Image]

# What is made of a film, or drawn in its place: the class that it belongs to, and how many for each film that is used.
OUTLIERS: dict[str, tuple[str, float, Maker]] = {
    "inverted": ("inverted", 0.5, lambda film, rng: ImageOps.invert(treat(film, rng))),
    "turned": ("turned", 1.0, lambda film, rng: outliers.turn(treat(film, rng), rng)),
    "part": ("other_view", 0.5, lambda film, rng: treat(outliers.part(film, rng), rng)),
    "elsewhere": ("other_view", 0.25, lambda film, rng: outliers.draw_elsewhere(rng)),
    "scattered": ("not_a_film", 0.25, outliers.scatter),
    "embedded": ("not_a_film", 0.25, outliers.embed),
    "drawn": ("not_a_film", 1.0, lambda film, rng: outliers.draw_other(rng)),
}
LOST = 0.005  # of the validation films, as they are and treated, may fall under the threshold
FLAGGED = 0.03  # of the same may be flagged as of another population
STRENGTH = 0.01  # inverse of the ridge penalty on standardised features
VIEWS = 8  # treated copies of each adult's film, for there are few
FEWEST = 20  # adults' films to fit a direction with


@dataclass(frozen=True)
class Material:
    """Where pictures come from: the films of one part of the split, adults' films, and a seed that no other part has."""

    films: list[Path]
    adults: list[Path]
    seed: int


def gather(data: Path, adults: Path, films: int) -> dict[str, Material]:
    """The material of `train`, `val` and `test`: at most `films` films each, one half of the adults for train, one for test.

    Raises RecordError when a part has none, or when there are too few adults to fit a direction with.
    """
    samples = find_samples(data)
    halves: tuple[list[Path], list[Path]] = ([], [])
    for path in sorted(file for file in adults.glob("[!.]*") if file.is_file()):
        halves[hashlib.sha256(path.name.encode()).digest()[0] % 2].append(path)
    if min(map(len, halves)) < FEWEST:
        raise RecordError(f"{adults.name}/ holds too few adults' films: one half is fitted to, and it takes {FEWEST} in each.")
    found = {}
    for seed, (part, theirs) in enumerate({"train": halves[0], "val": [], "test": halves[1]}.items()):
        paths = [s.path for s in samples if s.split == part]
        if not paths:
            raise RecordError(f"No film falls into the {part} part. Add films of other patients to {data.name}/.")
        order = np.random.default_rng(seed).permutation(len(paths))[:films]
        found[part] = Material([paths[i] for i in order], theirs, seed)
    return found


def load(path: Path) -> Image.Image:
    """A picture in RGB, as the product reads it."""
    return read_trusted(path.read_bytes()).image


def pictures(material: Material) -> Iterator[tuple[str, Image.Image]]:
    """Every picture of a part with its kind: `film`, `treated`, `adult`, `adult_treated` and those of `OUTLIERS`."""
    for number, path in enumerate(material.films):
        film, rng = load(path), np.random.default_rng([material.seed, number])
        yield "film", film
        yield "treated", treat(film, rng)
        for kind, (_, share, make) in OUTLIERS.items():
            if number * share % 1 < share:
                yield kind, make(film, rng)
    for number, path in enumerate(material.adults):
        film, rng = load(path), np.random.default_rng([material.seed, number, 1])
        yield "adult", film
        for _ in range(VIEWS):
            yield "adult_treated", treat(film, rng)


def looks(classifier: Classifier, named: Iterable[tuple[str, Image.Image]]) -> Iterator[tuple[str, Image.Image, Look]]:
    """Each named picture with what one pass saw of it alone; the passes go in batches."""
    source = iter(tqdm(named, desc="pictures", disable=None, leave=False))
    while batch := list(islice(source, 16)):
        look = classifier.look([image for _, image in batch])
        for i, (name, image) in enumerate(batch):
            yield name, image, look.of(i)


def described(classifier: Classifier, material: Material) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """(n,) kinds and (n, d) features of a part's pictures."""
    found = [(kind, describe([image], look)) for kind, image, look in looks(classifier, pictures(material))]
    return np.array([kind for kind, _ in found]), np.concatenate([row for _, row in found])


def fit(classifier: Classifier, parts: dict[str, Material]) -> tuple[Domain, dict[str, Any]]:
    """The head fitted on the train part, its thresholds on the validation part; and the counts that it rests on."""
    kinds, rows = described(classifier, parts["train"])
    classes = {"film": "child", "treated": "child", "adult": "adult", "adult_treated": "adult"}
    classes |= {kind: name for kind, (name, _, _) in OUTLIERS.items()}
    mean, spread = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    # What hardly varies is not blown up: a channel's rounding differs from one machine, or batch, to the next.
    spread = np.maximum(spread, 0.05 * np.median(spread))
    head = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=300)
    head.fit((rows - mean) / spread, [CLASSES.index(classes[kind]) for kind in kinds])
    weight = head.coef_ / spread
    bias = head.intercept_ - weight @ mean
    domain = Domain(weight.astype(np.float32), bias.astype(np.float32), 0.0, 0.0)

    kept, values = described(classifier, parts["val"])
    odds, population, _ = domain.scores(values)
    is_film = np.isin(kept, ("film", "treated"))
    lowest, highest = np.quantile(odds[is_film], LOST), np.quantile(odds[~is_film], 1 - LOST)
    # Where films and outliers stand apart, the threshold stands in the middle between them; else films come first.
    threshold = float(min(lowest, (lowest + highest) / 2))
    counts = {str(kind): int(count) for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True)}
    facts = {"validation": {"films": int(is_film.sum()), "outliers": int((~is_film).sum())}, "train": counts}
    return Domain(domain.weight, domain.bias, threshold, float(np.quantile(population[is_film], FLAGGED))), facts


def save(domain: Domain, facts: dict[str, Any], folder: Path) -> None:
    """Write the head and its thresholds beside the classifier that it was fitted to."""
    # safetensors writes an array's memory as it lies, whatever its strides say.
    arrays = {"weight": np.ascontiguousarray(domain.weight), "bias": domain.bias}
    (folder / WEIGHTS).write_bytes(packed(arrays))  # its own `save_file` lets nobody else read the file
    written = {"classifier": digest(folder), "film": domain.film, "population": domain.population, "classes": CLASSES, **facts}
    (folder / FACTS).write_text(json.dumps(written, indent=2) + "\n", "utf-8")


def tally(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """How many were refused or, being films, flagged as of another population; and why."""
    reasons = [v.reason for v in verdicts if v.reason]
    return {
        "n": len(verdicts),
        "refused": round(float(np.mean([not v.in_domain for v in verdicts])), 4),
        "flagged": round(float(np.mean([v.in_domain and not v.in_population for v in verdicts])), 4),
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
    }


def evaluate(domain: Domain, classifier: Classifier, named: Iterable[tuple[str, Image.Image]]) -> dict[str, dict[str, Any]]:
    """A tally per name of pictures, through the very check that serves."""
    verdicts: dict[str, list[Verdict]] = {}
    for name, image, look in looks(classifier, named):
        verdicts.setdefault(name, []).append(domain.judge(Study(image), look))
    return {name: tally(found) for name, found in verdicts.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m finetune.domain", description=__doc__)
    parser.add_argument("command", choices=("fit", "evaluate"))
    parser.add_argument("--data", type=Path, required=True, help="the classifier's own folder per class")
    parser.add_argument("--adults", type=Path, required=True, help="frontal chest films of another population")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="the classifier's folder, where the check lies or is put")
    parser.add_argument("--films", type=int, default=2000, help="films of each part at most")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        classifier = load_classifier(args.model)
        if not args.model.is_dir():
            raise CheckpointError(f"{args.model.name} is one file, and the check lies in a classifier's folder: give a folder.")
        parts = gather(args.data, args.adults, args.films)
        if args.command == "fit":
            domain, facts = fit(classifier, parts)
            save(domain, facts, args.model)
            print(json.dumps({"film": domain.film, "population": domain.population, **facts}))
            return 0
        found = Domain.load(args.model)
        if found is None:
            raise CheckpointError(f"There is no domain check in {args.model.name}. Run python -m finetune.domain fit first.")
        print(json.dumps(evaluate(found, classifier, pictures(parts["test"]))))
    except (RecordError, CheckpointError, StudyError) as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
