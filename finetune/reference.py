"""Make what a classifier's maps are read against: `python -m finetune.reference --data DIR [--model DIR]`.

Knows films, a trained classifier, its maps and lungs. Does not know how it was trained or how maps are drawn.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from finetune.classifier import SHIPPED
from finetune.records import RecordError
from finetune.samples import Sample, find_samples
from finetune.segmenter import SHIPPED as SEGMENTER
from vision.evidence import CheckpointError
from vision.reference import GRADIENT, Baseline, Floats, Limits, Reference
from vision.resnet import Classifier, Look, load_classifier
from vision.saliency import Saliency, Weights, contrast, explain, target
from vision.unet import Segmenter, load_segmenter

LOST = {"border": 0.02, "marker": 0.04, "outside_lungs": 0.02, "outside_mask": 0.02, "shift": 0.02}
"""What each check may lose of the called validation films: a tenth in all, for lungs are asked once, and most to the check that
finds least."""

LEAST_SPREAD = 0.1
"""Of the median: where films hardly differ, as at their edges, next to nothing would be a finding."""


def open_film(sample: Sample) -> Image.Image:
    return Image.open(sample.path).convert("RGB")


def draw_baseline(classifier: Classifier, samples: Sequence[Sample], label: str) -> Baseline:
    """What the maps of `label` are read against, over `samples`.

    Raises CheckpointError for a classifier without maps.
    """
    weights = target(classifier, label)
    if weights is None:
        raise CheckpointError("This classifier has no saliency map to refer to: it has to be a ResNet.")
    coarse, finer, slope = [], [], []
    for start in tqdm(range(0, len(samples), 32), desc=f"not {label}", disable=None, leave=False):
        pixels = classifier.pixels([open_film(sample) for sample in samples[start : start + 32]])
        both = [classifier.see(each, with_stages=False) for each in (pixels, pixels.flip(-1))]
        coarse.append([contrast(_given(look.features).sum(0), weights) for look in both])
        finer.append(np.stack([_given(look.finer) for look in both]))
        slope.append([np.maximum(gradients(classifier, look, weights), 0).sum(0) for look in both])
    cells, gradient = (np.asarray(np.sum(parts, 0) / len(samples), np.float32) for parts in (coarse, slope))
    gradient = gradient.astype(GRADIENT).astype(np.float32)
    maps = np.concatenate([(part * gradient[:, None]).sum(2) for part in finer], 1)
    spread = maps.std(1)
    return Baseline(cells, gradient, maps.mean(1), np.maximum(spread, LEAST_SPREAD * np.median(spread) + np.float32(1e-9)))


def gradients(classifier: Classifier, look: Look, weights: Weights) -> Floats:
    """(n, channels, H, W): of the target with these weights, by the features of the stage before the last."""
    model = cast(Any, classifier.model)
    finer = torch.from_numpy(_given(look.finer)).to(next(model.parameters())).requires_grad_()
    said = model.resnet.encoder.stages[-1](finer).mean((2, 3)) @ torch.from_numpy(weights).to(finer)
    (gradient,) = torch.autograd.grad(said.sum(), finer)
    return cast(Floats, gradient.float().cpu().numpy())


def _given(maps: Floats | None) -> Floats:
    assert maps is not None
    return maps


def read_map(
    classifier: Classifier, image: Image.Image, label: str, reference: Reference, segmenter: Segmenter | None = None
) -> tuple[bool, float, Saliency]:
    """Whether `label` is called, its probability and its map, over the passes that serve: plain, mirrored and moved."""
    pixels = classifier.pixels([image])
    look, mirrored = classifier.see(pixels), classifier.see(pixels.flip(-1))
    probabilities = classifier.calibration.probabilities((look.logits + mirrored.logits) / np.float32(2))[0]
    lungs = segmenter.segment(image).lungs if segmenter else ()
    saliency = explain(classifier, image, look, label, lungs, mirrored, reference)
    called = label in classifier.calibration.label_set(probabilities, classifier.labels)
    return called, float(probabilities[classifier.labels.index(label)]), saliency


def fit_limits(shares: Sequence[Mapping[str, float]]) -> Limits:
    """The limits that lose `LOST` of these maps; those of `Limits` where there are too few to say."""
    told = {name: [s[name] for s in shares if name in s] for name in LOST}
    kept = {name: lost if name == "shift" else 1 - lost for name, lost in LOST.items()}
    enough = {name: values for name, values in told.items() if len(values) >= 1 / min(LOST.values())}
    return Limits(**{name: float(np.quantile(values, kept[name])) for name, values in enough.items()})


def fit(
    classifier: Classifier, samples: Sequence[Sample], most: int, segmenter: Segmenter | None = None
) -> tuple[Reference, dict[str, object]]:
    """The reference by at most `most` training films for each label whose map is shown, its limits by the called validation
    films of the positive label; and what it was made from.
    """
    rng, positive = np.random.default_rng(0), classifier.calibration.positive
    baselines, used = {}, {}
    for label in [positive] if positive else classifier.labels:
        others = [s for s in samples if s.split == "train" and s.label != label]
        drawn = [others[i] for i in sorted(rng.permutation(len(others))[:most])]
        if not drawn:
            raise RecordError(
                f"No training film is without the label {label}. Give the folder that the classifier learned from."
            )
        baselines[label], used[label] = draw_baseline(classifier, drawn, label), len(drawn)
    reference, label = Reference(baselines), positive or classifier.labels[-1]
    checked = [s for s in samples if s.split == "val" and s.label == label]
    films = tqdm(checked, desc="limits", disable=None)
    read = [read_map(classifier, open_film(s), label, reference, segmenter) for s in films]
    shares = [saliency.shares for called, _, saliency in read if called and saliency.shares]
    limits = fit_limits(shares)
    return Reference(baselines, limits), {"films": used, "maps_checked": len(shares), "limits": asdict(limits)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m finetune.reference", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the classifier's own folder per class")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="the classifier's folder, where the file is put")
    parser.add_argument("--segmenter", type=Path, default=SEGMENTER, help="the folder that tells where the lungs are")
    parser.add_argument("--films", type=int, default=400, help="training films per label at most")
    args = parser.parse_args(arguments)
    try:
        classifier = load_classifier(args.model)
        samples, segmenter = find_samples(args.data, classifier.labels), load_segmenter(args.segmenter)
        reference, facts = fit(classifier, samples, args.films, segmenter)
        reference.save(args.model)
    except (RecordError, CheckpointError) as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
