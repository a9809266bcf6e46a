"""Search in very large images: does it find what is there, does it say so when nothing is, and what does that cost?

    python -m benchmarks.search [--scenes 48] [--size 3000x1902] [--model FOLDER] [--budgets 10 20 40 80] [--fit] [--json]

Half of the scenes hold the target. `hit@1`: the best hit's centre within the target's size; `top 8`: the target among the eight
places that the cheap rank puts first. `correlation` is plain normalised correlation of grey values at the reference's own size,
`features` the rank of the finest tiles by the vision tower (best patch to patch), where there is a checkpoint. The earlier way
is a sentence about every tile, in order: measured on a few tiles and multiplied. `--fit` fits when a hit is believed, on other
scenes, and writes it beside the checkpoint. Without `--model` no engine is asked: what the rank alone is worth. `--views`
measures the close-ups of ordinary chat instead, over scenes with few to many things: the share of questions whose thing stands
whole in a crop (`in`), and has there at least two patches of LLaVA-1.5's vision tower (`seen`); crops chosen for a question
that names its colour, for one that names none, and even tiles.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import fft, ndimage
from sklearn.linear_model import LogisticRegression

from benchmarks import machine
from benchmarks.search_scenes import Case, draw_case, draw_described
from chat.acceptance import Acceptance, log_odds, read_acceptance, write_acceptance
from chat.assistant import Assistant
from chat.choosing import SEEN, close_ups
from chat.closed_questions import OPTIONS
from chat.engine import checkpoint
from chat.engine.base import Sampling
from chat.engine.local import LocalEngine
from chat.finding import WIDER, Search, Wanted, find
from chat.prompt import layout_search
from chat.wording import search_prompt
from finetune.pairs import is_at
from vision.matching import Likeness, Match, compare, find_matches
from vision.search import plan_search, shared, zoomed
from vision.study import Study
from vision.tiling import Box, cut, even_tiles, plan_tiles

SEED, FITTED = 81_000, 82_000
EARLIER_TILES = 2
DENSITIES = (0.5, 2.0, 8.0, 60.0)
CROPS, LLAVA_SIDE, READABLE = 4, 336, 28
FALSE_FOUND = MISSED = 0.08
"""The shares of scenes that a threshold may get wrong where it is fitted: found though absent, and missed."""
LEAST_THRESHOLD, FIT = 0.3, 2.0
FIT_SCENES = 100
"""Fewer tell too little of what is believed wrongly."""


def cases(seed: int, count: int, size: tuple[int, int]) -> Iterator[Case]:
    return (draw_case(np.random.default_rng([seed, i]), size, present=i % 2 == 0) for i in range(count))


def ranked(case: Case) -> list[Match]:
    *_, (_, matches) = find_matches(case.image, case.reference)
    return matches


def correlate(case: Case) -> Box:
    """The best place of plain normalised correlation, at the reference's own size."""
    scene, part = (np.asarray(i.convert("L"), np.float32) for i in (case.image, case.reference))
    part = part - part.mean()
    size = [fft.next_fast_len(a + b, real=True) for a, b in zip(scene.shape, part.shape, strict=True)]
    found = fft.irfft2(fft.rfft2(scene, size) * np.conj(fft.rfft2(part, size)), size)
    found = found[: scene.shape[0] - part.shape[0] + 1, : scene.shape[1] - part.shape[1] + 1]
    mean = ndimage.uniform_filter(scene, part.shape)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(scene**2, part.shape) - mean**2, 25))
    middle = spread[part.shape[0] // 2 :, part.shape[1] // 2 :][: found.shape[0], : found.shape[1]]
    top, left = np.unravel_index(int((found / middle).argmax()), found.shape)
    return Box(int(left), int(top), int(left) + part.shape[1], int(top) + part.shape[0])


def rank_by_features(engine: LocalEngine, case: Case) -> int:
    """Where the vision tower alone ranks a tile that holds the target: each tile's best patch-to-patch cosine."""
    tiles = plan_search(case.image.size, engine.input_side)[0]
    seen = engine.features([cut(case.image, box).image for box in tiles])
    wanted = engine.features([case.reference])[0]
    seen, wanted = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (seen, wanted))
    likeness = (seen @ wanted[len(wanted) // 2]).max(1)
    order = np.argsort(-likeness)
    inside = [i for i, k in enumerate(order) if case.target and is_inside(case.target, tiles[k])]
    return min(inside, default=len(tiles))


def is_inside(box: Box, tile: Box) -> bool:
    x, y = (box.left + box.right) // 2, (box.top + box.bottom) // 2
    return tile.left <= x < tile.right and tile.top <= y < tile.bottom


def fit(engine: LocalEngine | None, count: int, size: tuple[int, int]) -> Acceptance:
    """The logistic regression of `Acceptance`, on the likeliest places of scenes of their own: three by the edges, three by the
    verifier.
    """
    rows: list[list[float]] = []
    truths: list[bool] = []
    absent: list[range] = []
    for case in cases(FITTED, count, size):
        matches, first = ranked(case), len(rows)
        by_edges = sorted(range(len(matches)), key=lambda k: -matches[k].score)
        likely = sorted({*range(len(matches))[:3], *by_edges[:3]})
        yes = [0.5] * len(likely) if engine is None else _say_yes(engine, case, [matches[k] for k in likely])
        likeness = compare(matches)
        for k, p in zip(likely, yes, strict=True):
            rows.append([*astuple(likeness[k]), log_odds(p)])
            truths.append(case.target is not None and is_at(matches[k].box, case.target))
        absent += [range(first, len(rows))] if case.target is None else []
    model = LogisticRegression(C=30).fit(rows, truths)
    weights: dict[str, Any] = dict(
        zip((*(each.name for each in fields(Likeness)), "yes"), map(float, model.coef_[0]), strict=True)
    )
    chances = model.predict_proba(rows)[:, 1]
    threshold = float(np.quantile([chances[scene].max() for scene in absent], 1 - FALSE_FOUND))
    weights |= {"bias": float(model.intercept_[0]), "yes": max(0.0, weights["yes"])}
    enough = min(0.99, max(LEAST_THRESHOLD, threshold + 0.01))
    believed = Acceptance(**weights, threshold=enough, text_threshold=LEAST_THRESHOLD, fit=FIT)
    return replace(believed, text_threshold=_text_threshold(engine, believed, count, size) if engine else 0.9)


def _text_threshold(engine: LocalEngine, eager: Acceptance, count: int, size: tuple[int, int]) -> float:
    """Above what the best place is worth in scenes without the thing, but for the share of false finds that is allowed; higher
    still where that costs next to nothing of what is there. `eager` looks twice at all that may be it.
    """
    absent, right = list[float](), list[float]()
    for i in range(count):
        image, text, target = draw_described(np.random.default_rng([FITTED + 1, i]), size, present=i % 2 == 0)
        best = search(engine, image, Wanted(text=text), eager)[0].best
        if target is None:
            absent.append(best.score if best else 0.0)
        elif best and is_at(best.box, target):
            right.append(best.score)
    enough = max(float(np.quantile(absent, 1 - FALSE_FOUND)) + 0.001, float(np.quantile(right or [0.0], MISSED)))
    return min(0.999, max(LEAST_THRESHOLD, enough))


def _say_yes(engine: LocalEngine, case: Case, matches: Sequence[Match]) -> list[float]:
    """As a search asks: the lower of the two looks at each place."""
    looks = []
    for zoom in (SEEN, WIDER):
        crops = [cut(case.image, zoomed(match.box, zoom, case.image.size)).image for match in matches]
        batch = [layout_search(case.reference, crop, search_prompt("en")) for crop in crops]
        looks.append(engine.choose(batch, OPTIONS["en"])[:, 0])
    return [float(p) for p in np.minimum(*looks)]


def search(engine: LocalEngine, image: Image.Image, wanted: Wanted, acceptance: Acceptance) -> tuple[Search, float]:
    started = time.perf_counter()
    *_, last = find(Assistant(engine, engine.input_side), Study(image), wanted, acceptance, "bench")
    return last, time.perf_counter() - started


def judged(results: Sequence[tuple[Search, Box | None]]) -> dict[str, float]:
    """hit@1 where the target is there, false finds where it is not, and the passes."""
    there = [bool(s.hits) and is_at(s.hits[0].box, t) for s, t in results if t]
    best = [s.best is not None and is_at(s.best.box, t) for s, t in results if t]
    false = [bool(s.hits) for s, t in results if t is None]
    passes = float(np.median([s.passes for s, _ in results]))
    return {
        "hit@1": _share(there), "best_place@1": _share(best), "false_found": _share(false),
        "passes_median": passes, "ranked": min(s.ranked for s, _ in results),
    }  # fmt: skip


def _share(claims: Sequence[bool]) -> float:
    return round(sum(claims) / max(1, len(claims)), 3)


def earlier_seconds(engine: LocalEngine, image: Image.Image) -> float:
    """What a sentence about every 336-pixel tile would take."""
    boxes = list(plan_tiles(image.size, 336, 0.0))
    started = time.perf_counter()
    for box in boxes[:EARLIER_TILES]:
        messages = layout_search(None, cut(image, box).image, "Describe this picture.")
        for _ in engine.stream(messages, Sampling(32, temperature=0), "bench"):
            pass
    return (time.perf_counter() - started) / EARLIER_TILES * len(boxes)


def measure_rank(count: int, size: tuple[int, int], engine: LocalEngine | None) -> dict[str, Any]:
    places, plain, towers, seconds = [], [], [], []
    for case in cases(SEED, count, size):
        if case.target is None:
            continue
        started = time.process_time()
        matches = ranked(case)
        seconds.append(time.process_time() - started)
        target = case.target
        places.append(next((i for i, match in enumerate(matches) if is_at(match.box, target)), len(matches) + 99))
        plain.append(is_at(correlate(case), target))
        towers += [rank_by_features(engine, case)] if engine else []
    measured = {
        "rank@1": _share([p < 1 for p in places]),
        "top8": _share([p < 8 for p in places]),
        "correlation@1": _share(plain),
    }
    features = {"features_top8": _share([p < 8 for p in towers])} if towers else {}
    return {"scenes": len(places), **measured, **features, "rank_cpu_seconds": round(float(np.median(seconds)), 2)}


def measure_search(
    engine: LocalEngine, acceptance: Acceptance, count: int, size: tuple[int, int], budgets: Sequence[int]
) -> dict[str, Any]:
    curve: dict[int, dict[str, float]] = {}
    seconds: list[float] = []
    for budget in budgets:
        results = []
        for case in cases(SEED, count, size):
            found, took = search(engine, case.image, Wanted(case.reference, passes=budget), acceptance)
            results.append((found, case.target))
            seconds.append(took)
        curve[budget] = judged(results)
    described = []
    for i in range(count):
        image, text, target = draw_described(np.random.default_rng([SEED + 1, i]), size, present=i % 2 == 0)
        described.append((search(engine, image, Wanted(text=text, passes=max(budgets)), acceptance)[0], target))
    earlier = earlier_seconds(engine, next(iter(cases(SEED, 1, size))).image)
    times = {"seconds_median": round(float(np.median(seconds)), 2), "earlier_seconds": round(earlier, 1)}
    return {"by_reference": curve, "by_description": judged(described), **times}


def measure_views(count: int, size: tuple[int, int]) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for density in DENSITIES:
        claims: dict[str, list[bool]] = {}
        for i in range(count):
            image, text, target = draw_described(np.random.default_rng([SEED + 2, i]), size, present=True, density=density)
            assert target is not None
            questions = {"named": f"What is next to {text}?", "unnamed": "What is there?"}
            crops = {name: close_ups(image, question, CROPS, LLAVA_SIDE) for name, question in questions.items()}
            for name, boxes in {**crops, "even": even_tiles(size, CROPS)}.items():
                whole = [max(box.size) for box in boxes if shared(box, target) > 0.99]
                claims.setdefault(f"{name}_in", []).append(bool(whole))
                sides = [LLAVA_SIDE * max(target.size) / side for side in whole]
                claims.setdefault(f"{name}_seen", []).append(max(sides, default=0.0) >= READABLE)
        measured[f"{density} per megapixel"] = {name: _share(of) for name, of in claims.items()}
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--size", default="3000x1902")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--views", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    engine = LocalEngine(checkpoint.load(given.model, "cpu", False)) if given.model else None
    result: dict[str, Any] = {"machine": machine.describe(), "size": given.size, "density": 60}
    if given.views:
        result["views"] = measure_views(given.scenes, (width, height))
        print(json.dumps(result) if given.json else json.dumps(result, indent=1))
        return
    if given.fit:
        acceptance = fit(engine, max(FIT_SCENES, given.scenes), (width, height))
        result["fitted"] = asdict(acceptance)
        if given.model:
            write_acceptance(acceptance, given.model)
    acceptance = read_acceptance(given.model) if given.model else Acceptance()
    result["rank"] = measure_rank(given.scenes, (width, height), engine)
    if engine:
        result["search"] = measure_search(engine, acceptance, given.scenes, (width, height), given.budgets)
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
