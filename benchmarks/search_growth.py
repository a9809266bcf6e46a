"""How a search grows with its image: memory above the decoded image, and time for a megapixel.

    python -m benchmarks.search_growth [--model FOLDER] [--sizes 3000x1902 6000x4000 12000x8000] [--scenes 2] [--json]

Each size has a process of its own, and in it a search by a reference and one by a description for each scene; half of the
scenes do not hold the thing, so that nothing ends early. `peak_bytes` is the most that a search has held above what was there
before it, with the image decoded and the model loaded. A search before them lays the layers out for the kernels.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import machine
from benchmarks.engine_state import forget_peak, status
from benchmarks.search import search
from benchmarks.search_scenes import draw_case, draw_described
from chat.acceptance import read_acceptance
from chat.engine import checkpoint
from chat.engine.local import LocalEngine
from chat.finding import Wanted
from chat.memory import give_back, share_freed_memory

SEED = 84_000
PASSES = 24


def measure(model: Path, size: tuple[int, int], scenes: int, threads: int) -> dict[str, Any]:
    """The worst peak, and the processor's seconds for a megapixel on average, of each way to search."""
    share_freed_memory()
    torch.set_num_threads(threads)
    engine, acceptance = LocalEngine(checkpoint.load(model, "cpu", False)), read_acceptance(model)
    result: dict[str, Any] = {}

    def cost(image: Image.Image, wanted: Wanted) -> tuple[int, float]:
        give_back()
        forget_peak()
        before, started = status("VmHWM"), time.process_time()
        assert search(engine, image, wanted, acceptance)[0].ranked == 1
        return status("VmHWM") - before, time.process_time() - started

    for number in range(-1, scenes):
        rng, present = np.random.default_rng([SEED, number + 1]), number % 2 == 1
        case = draw_case(rng, size if number >= 0 else (600, 400), present)
        drawn, text, _ = draw_described(rng, case.image.size, present)
        for way, image, wanted in (
            ("by_reference", case.image, Wanted(case.reference, passes=PASSES)),
            ("by_description", drawn, Wanted(text=text, passes=PASSES)),
        ):
            peak, seconds = cost(image, wanted)
            if number >= 0:
                one = result.setdefault(way, {"peak_bytes": 0, "cpu_seconds_per_megapixel": 0.0})
                one["peak_bytes"] = max(one["peak_bytes"], peak)
                one["cpu_seconds_per_megapixel"] += seconds / scenes / (size[0] * size[1] / 1e6)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--sizes", nargs="+", default=["3000x1902", "6000x4000", "12000x8000"])
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": machine.describe(), "passes": PASSES, "scenes": given.scenes}
    for size in given.sizes:
        width, height = map(int, size.split("x"))
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            job = alone.submit(measure, given.model, (width, height), given.scenes, torch.get_num_threads())
            result[size] = job.result()
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
