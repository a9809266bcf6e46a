"""The local engine against plain transformers, and how soon the app is ready.

    python -m benchmarks.engine [--model models/hilum-tiny] [--prompts 50] [--json]

Greedy ids are compared with `generate` on the same ids and pixels, token for token; speed is interleaved with it.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import machine
from chat.conversation import Turn
from chat.engine.base import Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.local import LocalEngine
from chat.engine.parity import generate
from chat.prompt import View, layout
from chat.wording import LANGUAGES
from finetune.ask_scenes import ask_about_scene
from finetune.scenes import draw_scene
from vision.tiling import Box

SEED = 91_000
NEW_TOKENS = 32


def draw_prompt(number: int) -> tuple[Message, ...]:
    """A scene with zero to four earlier turns and a question, in either language."""
    rng = np.random.default_rng([SEED, number])
    language = LANGUAGES[number % 2]
    scene = draw_scene(rng)
    exchanges = ask_about_scene(scene, rng, language, int(rng.integers(1, 6)))
    turns = [Turn(exchange.question, exchange.answer) for exchange in exchanges[:-1]]
    view = View("overview", Box(0, 0, *scene.image.size), scene.image)
    return layout(exchanges[-1].question, turns, [view], (), (), language)


def compare(engine: LocalEngine, loaded: Loaded, prompts: int) -> dict[str, float | int]:
    """Equal ids out of `prompts`, first-token seconds, tokens per second, and the time over `generate`."""
    equal, first, rates, ratios = 0, [], [], []
    for number in range(prompts):
        messages = draw_prompt(number)
        started = time.perf_counter()
        theirs = [token for token in generate(loaded, messages, NEW_TOKENS)[0] if token not in loaded.end_ids]
        middle = time.perf_counter()
        ours: list[int] = []
        begun = 0.0
        for delta in engine.stream(messages, Sampling(NEW_TOKENS, 0), f"bench {number}"):
            begun = begun or time.perf_counter()
            ours += delta.ids
        ended = time.perf_counter()
        engine.forget(f"bench {number}")
        equal += ours == theirs
        first.append(begun - middle)
        ratios.append((ended - middle) / (middle - started))
        if len(ours) > 4:
            rates.append((len(ours) - 1) / (ended - begun))
    return {
        "greedy_equal": equal, "prompts": prompts, "first_token_seconds": round(float(np.median(first)), 3),
        "tokens_per_second": round(float(np.median(rates)), 1), "time_over_generate": round(float(np.median(ratios)), 3),
    }  # fmt: skip


def measure_start(model: Path) -> float:
    """Seconds from `python app.py` to the first page served, on a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "serve", "--port", str(port), "--model", str(model)]
    started = time.perf_counter()
    app = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        while time.perf_counter() - started < 120 and app.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return round(time.perf_counter() - started, 1)
            time.sleep(0.05)
        raise RuntimeError("The app did not start.")
    finally:
        app.terminate()
        app.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    result: dict[str, object] = {"machine": machine.describe(), "ready_seconds": measure_start(args.model)}
    loaded = load(args.model, "auto", None)
    engine = LocalEngine(loaded)
    engine.warm_up()
    result |= compare(engine, loaded, args.prompts)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
