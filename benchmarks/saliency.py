"""The saliency map: where it points, when its gate fires, what it costs, and that it depends on the weights.

    python -m benchmarks.saliency --data ../shared/data/kermany224/train [--masks ../shared/data/lung_masks/masks] [--json]

Films are of the last part of the split, which nothing was fitted on. Pointing: opacities are blended into normal films; counted
where they make the call and the map is trusted. A hit is a maximum within the opacity's box, give or take the tolerance.
What ends in `_by_prior` is the same maps in the same run, judged by lungs guessed from grey values instead of the U-Net's.
Gate: letters, tubes, leads and borders are pasted on; counted where the map goes to them, by itself (the thing makes the call
or moves the maximum onto itself), or planted there (its cell made to speak for the label as loudly as any film's ever does).
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from benchmarks import machine
from benchmarks.pasted import PASTES, Grey, blend_opacity
from finetune.classifier import SHIPPED
from finetune.reference import read_map
from finetune.samples import Sample, find_samples
from finetune.segmenter import SHIPPED as SEGMENTER
from vision.lung_prior import GRID, find_lungs
from vision.reference import Limits, Reference
from vision.resnet import Classifier, load_classifier
from vision.saliency import Saliency, explain, find_doubt, grad_cam, join, read_stages, target
from vision.unet import Segmenter, load_segmenter

SEED = 77_000
Where = NDArray[np.bool_]


def load_grey(sample: Sample) -> Grey:
    return np.asarray(Image.open(sample.path).convert("L"), np.float32) / np.float32(255)


def film_of(grey: Grey) -> Image.Image:
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")


def lungs_of(sample: Sample, masks: Path | None, grey: Grey) -> Where:
    """The true lungs where there is a mask, else the prior's; bool of the film's size."""
    found = sorted(masks.glob(f"*{sample.path.stem}.*")) if masks else []
    size = (grey.shape[1], grey.shape[0])
    if found:
        return np.asarray(Image.open(found[0]).resize(size, Image.Resampling.NEAREST)) > 200
    return np.asarray(Image.fromarray(find_lungs(grey).inside).resize(size, Image.Resampling.NEAREST))


def top_of(saliency: Saliency, size: tuple[int, int]) -> tuple[float, float]:
    """(x, y) of the map's maximum, in the pixels of an image of (width, height)."""
    assert saliency.heatmap is not None
    row, column = divmod(int(saliency.heatmap.values.argmax()), GRID)
    return (column + 0.5) / GRID * size[0], (row + 0.5) / GRID * size[1]


def probability_of(classifier: Classifier, film: Image.Image, label: str) -> float:
    """What `read_map` says, without a map: most films are asked for no more."""
    pixels = classifier.pixels([film])
    logits = classifier.see(torch.cat([pixels, pixels.flip(-1)]), with_stages=False).logits
    return float(classifier.calibration.probabilities(logits.mean(0, keepdims=True))[0][classifier.labels.index(label)])


def by_prior(saliency: Saliency, limits: Limits) -> str | None:
    """What would speak against a map if no segmenter had said where the lungs are."""
    shares = {name: share for name, share in saliency.shares.items() if name != "outside_mask"}
    return find_doubt(shares, limits) if shares else saliency.doubt


def point(
    classifier: Classifier,
    reference: Reference,
    segmenter: Segmenter,
    label: str,
    normal: Sequence[Sample],
    masks: Path | None,
    draws: int,
) -> dict[str, Any]:
    """The pointing game (Zhang et al. 2018) on blended opacities, trusted maps and all, with and without a reference."""
    rng, threshold = np.random.default_rng(SEED), classifier.calibration.threshold
    hits: dict[str, list[tuple[bool, ...]]] = {"trusted": [], "trusted_by_prior": [], "all": [], "all_without_reference": []}
    drawn = 0
    for sample in tqdm(normal, desc="pointing", disable=None):
        grey = load_grey(sample)
        if probability_of(classifier, film_of(grey), label) >= threshold:
            continue
        lungs = lungs_of(sample, masks, grey)
        for _ in range(draws):
            changed, box = blend_opacity(rng, grey, lungs)
            film, drawn = film_of(changed), drawn + 1
            if probability_of(classifier, film, label) < threshold:
                continue
            saliency = read_map(classifier, film, label, reference, segmenter)[2]
            for name, read in (("all", saliency), ("all_without_reference", read_map(classifier, film, label, Reference())[2])):
                x, y = top_of(read, film.size)
                cell = film.width / _cells(classifier, film)
                slack = (0.0, cell / 2, cell)
                hits[name].append(tuple(box.left - t <= x < box.right + t and box.top - t <= y < box.bottom + t for t in slack))
            if saliency.trusted:
                hits["trusted"].append(hits["all"][-1])
            if not by_prior(saliency, reference.limits):
                hits["trusted_by_prior"].append(hits["all"][-1])
    names = ("in_box", "within_half_a_cell", "within_a_cell")
    rates = {k: dict(zip(names, np.mean(v, 0).round(3).tolist(), strict=True)) | {"n": len(v)} for k, v in hits.items() if v}
    return {"opacities": drawn, **rates}


def _cells(classifier: Classifier, film: Image.Image) -> int:
    features = classifier.look([film]).features
    assert features is not None
    return int(features.shape[-1])


def plant(
    classifier: Classifier,
    film: Image.Image,
    label: str,
    thing: Where,
    reference: Reference,
    segmenter: Segmenter | None = None,
) -> Saliency:
    """The map of a film whose cell that holds most of `thing` was made to speak for `label`; shifts are not judged."""
    look, weights = classifier.look([film]), target(classifier, label)
    assert look.features is not None and weights is not None
    side = look.features.shape[-1]
    amount = ndimage.gaussian_filter(np.asarray(thing, np.float32), thing.shape[0] / side / 2)
    stride = np.arange(side) * thing.shape[0] // side  # a cell looks at its first pixel
    row, column = divmod(int(amount[np.ix_(stride, stride)].argmax()), side)
    loud = 2 * float(np.abs(np.tensordot(weights, look.features[0], 1)).max()) + 10
    look.features[0, :, row, column] += weights * loud / float(weights @ weights)
    unshifted = replace(reference, limits=replace(reference.limits, shift=-1))
    lungs = segmenter.segment(film).lungs if segmenter else ()
    return explain(classifier, film, look, label, lungs, reference=unshifted)


def gate(
    classifier: Classifier, reference: Reference, segmenter: Segmenter, label: str, films: Sequence[Sample]
) -> dict[str, Any]:
    """How often the gate fires on things pasted on, and on films as they are, both where the label is called."""
    rng = np.random.default_rng(SEED + 1)
    clean: Counter[str] = Counter()
    clean_by_prior: Counter[str] = Counter()
    fired: dict[str, list[bool]] = {}

    def note(name: str, saliency: Saliency, limits: Limits = reference.limits) -> None:
        fired.setdefault(name, []).append(not saliency.trusted)
        fired.setdefault(f"{name}_by_prior", []).append(by_prior(saliency, limits) is not None)

    for sample in tqdm(films, desc="gate", disable=None):
        grey = load_grey(sample)
        is_called, _, before = read_map(classifier, film_of(grey), label, reference, segmenter)
        if is_called:
            clean[before.doubt or "trusted"] += 1
            clean_by_prior[by_prior(before, reference.limits) or "trusted"] += 1
        for name, paste in PASTES.items():
            changed, thing = paste(rng, grey)
            film = film_of(changed)
            called_now, _, after = read_map(classifier, film, label, reference, segmenter)
            near = ndimage.distance_transform_edt(~thing) <= film.width / _cells(classifier, film) / 2
            tops = [near[int(y), int(x)] for x, y in (top_of(s, film.size) for s in (before, after))]
            if called_now:
                note(f"pasted_{name}", after)
                if not is_called or (tops[1] and not tops[0]):
                    note("attracted", after)
                    note(f"attracted_{name}", after)
            planted = plant(classifier, film, label, thing, reference, segmenter)
            unshifted = replace(reference.limits, shift=-1)
            note("planted", planted, unshifted)
            note(f"planted_{name}", planted, unshifted)
    shares: dict[str, Any] = {n: {"fires": round(float(np.mean(v)), 3), "n": len(v)} for n, v in sorted(fired.items())}
    for ending, counted in (("", clean), ("_by_prior", clean_by_prior)):
        shares[f"clean_fires{ending}"] = round(1 - counted["trusted"] / max(1, counted.total()), 3)
        shares[f"clean{ending}"] = dict(counted)
    return shares


def interleaved(*calls: Callable[[], object], rounds: int) -> list[float]:
    """The median seconds of each call, taken in turns."""
    seconds = np.zeros((rounds, len(calls)))
    for number, (index, call) in ((n, ic) for n in range(rounds) for ic in enumerate(calls)):
        started = time.perf_counter()
        call()
        seconds[number, index] = time.perf_counter() - started
    return [float(s) for s in np.median(seconds, 0)]


def cost(
    classifier: Classifier, reference: Reference, segmenter: Segmenter, label: str, film: Image.Image, rounds: int
) -> dict[str, float]:
    """Class and map over the plain forward pass; the same through `see`, which also sums up every stage for the domain check;
    and the milliseconds of the map with its own extra pass and all its checks, the lungs' mask among them.
    """
    pixels, model = classifier.pixels([film]), cast(Any, classifier.model)
    look, base = classifier.see(pixels), reference.baselines.get(label)

    @torch.inference_mode()
    def forward() -> object:
        return model(pixel_values=pixels).logits.numpy()

    def mapped_from(with_stages: bool) -> object:
        seen, weights = classifier.see(pixels, with_stages), target(classifier, label)
        assert weights is not None
        return seen.logits, join(read_stages(seen, weights, base))

    def checked() -> object:
        return explain(classifier, film, look, label, segmenter.segment(film).lungs, look, reference)

    calls = (forward, lambda: mapped_from(False), lambda: mapped_from(True), checked)
    interleaved(*calls, rounds=3)
    plain, mapped, through, judged = interleaved(*calls, rounds=rounds)
    ratios = {"map_over_forward": round(mapped / plain, 3), "look_and_map_over_forward": round(through / plain, 3)}
    return ratios | {"forward_ms": round(1e3 * plain, 1), "checked_map_ms": round(1e3 * judged, 1)}


def randomised(classifier: Classifier, label: str, films: Sequence[Image.Image]) -> dict[str, float]:
    """Mean correlation of the maps with those after the head, then the last stage too, got random weights (Adebayo 2018).

    It is the last thing that is done to the classifier.
    """
    model: Any = classifier.model

    def maps() -> Iterator[NDArray[np.float32]]:
        return (grad_cam(f, target(classifier, label)).ravel() for f in classifier.look(films).features)  # type: ignore[arg-type,union-attr]

    def alike(others: Sequence[NDArray[np.float32]]) -> float:
        pairs = [np.corrcoef(a, b)[0, 1] for a, b in zip(kept, others, strict=True) if a.std() and b.std()]
        return round(float(np.mean(np.abs(pairs))), 3) if pairs else 0.0

    kept = list(maps())
    torch.manual_seed(SEED)
    torch.nn.init.normal_(model.classifier[-1].weight, std=0.05)
    headless = alike(list(maps()))
    for weight in model.resnet.encoder.stages[-1].parameters():
        torch.nn.init.normal_(weight, std=0.05)
    return {"head": headless, "last_stage": alike(list(maps()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the classifier's own folder per class")
    parser.add_argument("--masks", type=Path, help="lung masks by the films' names")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--segmenter", type=Path, default=SEGMENTER)
    parser.add_argument("--films", type=int, default=80, help="films per class at most")
    parser.add_argument("--draws", type=int, default=6, help="opacities per normal film")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/saliency.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    classifier, reference = load_classifier(args.model), Reference.load(args.model)
    segmenter = load_segmenter(args.segmenter)
    label = classifier.calibration.positive or classifier.labels[-1]
    held = [s for s in find_samples(args.data, classifier.labels) if s.split == "test"]
    sick, normal = [s for s in held if s.label == label], [s for s in held if s.label != label]
    some = [*sick[:: -(-len(sick) // args.films)], *normal[:: -(-len(normal) // args.films)]]
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "cost": cost(classifier, reference, segmenter, label, film_of(load_grey(sick[0])), 40),
        "pointing": point(classifier, reference, segmenter, label, normal, args.masks, args.draws),
        "gate": gate(classifier, reference, segmenter, label, some),
        "randomised": randomised(classifier, label, [film_of(load_grey(s)) for s in sick[:32]]),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
