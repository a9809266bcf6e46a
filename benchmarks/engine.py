"""The local engine against plain transformers, and how soon the app is ready.

    python -m benchmarks.engine [--model models/hilum-tiny] [--prompts 50] [--dialogues 50] [--rounds 5] [--json]
        [--no-mini] [--no-clocks]

Greedy ids are compared with `generate` on the same ids and pixels, token for token; speed is interleaved with it. With
--json the last line is one object: {"P1": {"ratio": ...}, ...}, of a random LLaVA in fp32 that is larger than a processor's
cache, each with the ratio of `--model` beside it; with --no-mini of `--model` alone. With --no-clocks there are counters and
bytes alone, which need no idle machine, and P4 of the large one has as many dialogues as that of the other.
"""

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import engine_page, engine_speed, engine_state, machine
from benchmarks.engine_mini import build_mini, load_exact
from chat.conversation import Turn
from chat.engine.base import Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.local import LocalEngine
from chat.engine.parity import generate
from chat.memory import share_freed_memory
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
        with engine_speed.as_it_comes(loaded):
            started = time.perf_counter()
            theirs = [token for token in generate(loaded, messages, NEW_TOKENS)[0] if token not in loaded.end_ids]
            taken = time.perf_counter() - started
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
        ratios.append((ended - middle) / taken)
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


def measure(engine: LocalEngine, loaded: Loaded, rounds: int | None, dialogues: int, long: int) -> dict[str, dict[str, object]]:
    """Every P of this file for one model; without `rounds` those alone that no clock has a part in."""
    endless = dataclasses.replace(loaded, end_ids=frozenset())
    unending = LocalEngine(endless)
    found: dict[str, dict[str, object]] = {}
    if rounds:
        found |= engine_speed.first_tokens(engine, loaded, rounds)
        found |= engine_speed.per_token(unending, endless, rounds)
        found["choose"] = engine_speed.choosing(loaded, rounds)
    found["P4"] = engine_state.exactness(unending, endless, dialogues)
    found["P9"] = engine_state.looks(engine, loaded)
    found["P11"] = engine_state.searching(engine)
    found["P12"] = engine_state.growth(engine, long)
    found["P18"] = engine_state.stopping(unending, endless)
    if rounds:
        found["P17"] = engine_page.first_word(endless)
    tell(loaded, found)
    return found


def tell(loaded: Loaded, found: dict[str, dict[str, object]]) -> None:
    for name, one in found.items():
        print(f"{loaded.name:12} {name:16} {json.dumps(one)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--dialogues", type=int, default=50, help="P4: dialogues of ten turns")
    parser.add_argument("--rounds", type=int, default=5, help="how often each time is taken")
    parser.add_argument("--long", type=int, default=50, help="P12: turns once the window is full")
    parser.add_argument("--mini", action=argparse.BooleanOptionalAction, default=True, help="measure the random model as well")
    parser.add_argument("--clocks", action=argparse.BooleanOptionalAction, default=True, help="measure times as well")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    share_freed_memory()
    result: dict[str, Any] = {"machine": machine.describe()}
    result |= {"ready_seconds": measure_start(args.model)} if args.clocks else {}
    loaded = load(args.model, "auto", None)
    engine = LocalEngine(loaded)
    engine.warm_up()
    result |= compare(engine, loaded, args.prompts)
    rounds = args.rounds if args.clocks else None
    result[loaded.name] = found = measure(engine, loaded, rounds, args.dialogues, args.long)
    exact = load_exact(args.model, loaded.name)
    again = {"P4 in fp32": engine_state.exactness(LocalEngine(exact), exact, args.dialogues)}
    tell(exact, again)
    found |= again
    if args.mini:
        mini = build_mini(args.model)
        fewer = max(1, args.dialogues // 10) if args.clocks else args.dialogues
        measured = measure(LocalEngine(mini), mini, rounds, fewer, args.long)
        result[mini.name] = measured
        found = {name: one | {loaded.name: found[name]["ratio"]} for name, one in measured.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
