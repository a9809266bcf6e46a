"""Many people at once, through the page to a model behind an address, and how soon the server hears that one has left.

    python -m benchmarks.load [--clients 20] [--turns 5] [--cancels 5] [--json]

Starts `transformers serve` with the embedded model (in fp32, told never to end an answer by itself), Hilum in front of it,
and a proxy between the two that sees what goes over the wire. Each client has a session, a picture and questions of its own;
afterwards every client's conversation is led again with nobody else there, and has to be the same: turn numbers, window,
prompt and answer. Cancelling is measured from a real browser (Chromium) and from an API client: from the act to the moment
when the connection to the server is closed. Everything is on loopback.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import machine
from benchmarks.proxy import Connection, Proxy
from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.address import read_address
from chat.engine.base import Sampling
from chat.engine.remote import connect
from finetune.phantom import draw_phantom
from vision.study import read_study

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "models" / "hilum-tiny"
START_SECONDS = 180
ANSWER_SECONDS = 600
CANCEL_SECONDS = 5.0
"""A cancelled answer that the server has not been told of by then has not been cancelled."""

UNDER_WAY = 8
"""Packets after which an answer is streaming: the first hold the headers and the role."""

LONGEST = 1024
SAME = ("turn", "turns_in_window", "prompt_hash", "answer")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

API_CLIENT = """
import sys
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False)
client.predict(handle_file(sys.argv[2]), "Is there an opacity?", '{"crops": false}', api_name="/ask")
"""


def endless(folder: Path) -> Path:
    """The embedded model as a server takes it: with our template, and without the token that ends an answer."""
    folder.mkdir()
    for file in EMBEDDED.iterdir():
        (folder / file.name).symlink_to(file)
    generation = json.loads((EMBEDDED / "generation_config.json").read_text("utf-8"))
    config = json.loads((EMBEDDED / "config.json").read_text("utf-8"))
    processor = {
        "processor_class": "LlavaProcessor", "image_token": "<image>", "num_additional_image_tokens": 1,
        "patch_size": config["vision_config"]["patch_size"],
        "vision_feature_select_strategy": config["vision_feature_select_strategy"],
    }  # fmt: skip
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps(generation | {"suppress_tokens": [generation["eos_token_id"]]}))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    shutil.copy(ROOT / "chat" / "engine" / "llava-1.5.jinja", folder / "chat_template.jinja")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], folder: Path, is_ready: str) -> Iterator[None]:
    """A process in `folder`, where no .env lies, from the moment when `is_ready` answers with 200."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HILUM_")} | {"HF_HUB_OFFLINE": "1"}
    log = folder / f"{Path(command[1]).name}.log"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with log.open("wb") as out, subprocess.Popen(command, cwd=folder, env=own, stdout=out, stderr=out) as process:
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    opener.open(is_ready, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{Path(command[1]).name} does not start: {log.read_text('utf-8')[-2000:]}")
            yield
        finally:
            process.terminate()  # Hilum takes its upload folder away


@dataclass(frozen=True)
class House:
    """Hilum at `url`, its model called `name` at `server`, and the proxy between the two."""

    url: str
    server: str
    name: str
    proxy: Proxy


@contextmanager
def house(scratch: Path) -> Iterator[House]:
    model, port, page = endless(scratch / "model"), free_port(), free_port()
    server, url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page}/"
    serve = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--host", "127.0.0.1"]
    serve += ["--port", str(port), "--device", "cpu", "--dtype", "float32", "--log-level", "error"]
    serve += ["--chat-template-kwargs", '{"embedded": true}']
    hilum = [sys.executable, str(ROOT / "app.py"), "serve", "--port", str(page), "--remote-name", str(model)]
    hilum += ["--temperature", "0", "--max-new-tokens", str(LONGEST)]
    with closing(Proxy(port)) as proxy, running(serve, scratch, f"{server}/health"):
        hilum += ["--model", f"http://127.0.0.1:{proxy.port}/v1"]
        with running(hilum, scratch, url):
            yield House(url, server, str(model), proxy)


def draw_people(folder: Path, clients: int) -> list[Path]:
    """Each client is the picture that only it has."""
    people = [folder / f"{number}.png" for number in range(1, clients + 1)]
    for number, person in enumerate(people):
        draw_phantom(np.random.default_rng(number)).image.convert("RGB").resize((336, 336)).save(person)
    return people


def question(person: Path, turn: int) -> str:
    return f"Question {turn} of visitor {person.stem}: is there an opacity in the lungs?"


def talk(there: House, person: Path, turns: int, tokens: int, together: threading.Barrier) -> list[dict[str, Any]]:
    """A conversation through the API; what fails stands in it as an error."""
    client = Client(there.url, verbose=False)
    options = json.dumps({"max_new_tokens": tokens, "crops": False})
    together.wait(START_SECONDS)
    said: list[dict[str, Any]] = []
    for turn in range(1, turns + 1):
        image, started = handle_file(str(person)) if turn == 1 else None, time.perf_counter()
        try:
            job = client.submit(image, question(person, turn), options, api_name="/ask")
            result = dict(job.result(timeout=ANSWER_SECONDS))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        said.append(result | {"seconds": time.perf_counter() - started})
    client.close()
    return said


def talk_alone(there: House, person: Path, turns: int, tokens: int) -> list[dict[str, Any]]:
    """The same conversation straight with the server, and nobody else there."""
    said = []
    with closing(connect(read_address(there.server), there.name)) as engine:
        assistant = Assistant(engine, engine.input_side)
        study, conversation = read_study(person.read_bytes()), Conversation()
        for turn in range(1, turns + 1):
            started = time.perf_counter()
            request = Request(question(person, turn), Sampling(tokens, temperature=0), crops=False)
            *_, answer = assistant.ask(request, study, conversation, "alone")
            assert isinstance(answer, Answer)
            conversation = answer.conversation
            said.append(answer.result(there.name) | {"seconds": time.perf_counter() - started})
    return said


def measure_load(there: House, people: list[Path], turns: int, tokens: int) -> dict[str, object]:
    together, started = threading.Barrier(len(people)), time.perf_counter()
    with ThreadPoolExecutor(len(people)) as pool:
        talks = list(pool.map(lambda person: talk(there, person, turns, tokens, together), people))
    seconds = time.perf_counter() - started
    at_once = there.proxy.most_at_once
    said = [answer for one in talks for answer in one]
    errors = [answer["error"] for answer in said if "error" in answer]
    alone = [answer for person in people for answer in talk_alone(there, person, turns, tokens)]
    counters = [(turn, min(turn - 1, 5)) for _ in people for turn in range(1, turns + 1)]
    return {
        "answers": len(said), "errors": len(errors), "first_errors": sorted(set(errors))[:3],
        "counters_right": sum((a.get("turn"), a.get("turns_in_window")) == c for a, c in zip(said, counters, strict=True)),
        "same_as_alone": sum(all(a.get(k) == b[k] for k in SAME) for a, b in zip(said, alone, strict=True)),
        "different_prompts": len({answer.get("prompt_hash") for answer in said}),
        "different_answers": len({answer.get("answer") for answer in said}),
        "most_at_once": at_once, "seconds": round(seconds, 1),
        "seconds_per_answer": round(statistics.median(answer["seconds"] for answer in said), 2),
        "seconds_per_answer_alone": round(statistics.median(answer["seconds"] for answer in alone), 2),
    }  # fmt: skip


def wait_until(is_true: Callable[[], object]) -> None:
    end = time.monotonic() + ANSWER_SECONDS
    while not is_true():
        if time.monotonic() > end:
            raise SystemExit("The answer that was to be cancelled never began.")
        time.sleep(0.005)


def cancel(proxy: Proxy, begin: Callable[[], Callable[[], object]], is_held: bool) -> float | None:
    """Ask, leave, and how many seconds later the connection to the server was closed; None: not in time."""
    wait_until(lambda: not proxy.busy)
    if is_held:
        proxy.flow.clear()
    leave = begin()
    wait_until(lambda: proxy.busy)
    connection: Connection = proxy.busy[0]
    if not is_held:
        wait_until(lambda: connection.pieces >= UNDER_WAY)
    started = time.perf_counter()
    leave()
    in_time = connection.left.wait(CANCEL_SECONDS)
    proxy.flow.set()
    return round(connection.left_at - started, 3) if in_time else None


def in_browser(browser: Browser, there: House, how: str) -> Callable[[], object]:
    """Ask on the page, about a picture of its gallery; returns what leaves the answer."""
    page: Page = browser.new_page(locale="en-US")
    page.goto(there.url)
    page.locator("body[data-hilum=open]").wait_for()
    page.locator(".gallery button").first.click()
    page.locator(".size").wait_for()
    page.fill("#hilum-question", "Is there an opacity?")
    page.press("#hilum-question", "Enter")
    page.locator(".send.busy").wait_for()
    return (lambda: page.locator(".send.busy").dispatch_event("click")) if how == "stop" else page.close


def by_api(there: House, picture: Path) -> Callable[[], object]:
    """Ask by name, from a process of its own; returns what ends it."""
    return subprocess.Popen([sys.executable, "-c", API_CLIENT, there.url, str(picture)]).kill


def measure_cancels(there: House, person: Path, times: int) -> dict[str, dict[str, object]]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit("Cancelling is measured from a browser: install Chromium, or give --cancels 0.")
    found: dict[str, dict[str, object]] = {}
    with sync_playwright() as playwright, closing(playwright.chromium.launch(executable_path=path, args=FLAGS)) as browser:
        ways: dict[str, tuple[Callable[[], Callable[[], object]], bool]] = {
            "stop button": (lambda: in_browser(browser, there, "stop"), False),
            "tab closed": (lambda: in_browser(browser, there, "close"), False),
            "stop button, before the first token": (lambda: in_browser(browser, there, "stop"), True),
            "tab closed, before the first token": (lambda: in_browser(browser, there, "close"), True),
            "API client gone": (lambda: by_api(there, person), False),
        }
        for way, (begin, is_held) in ways.items():
            seconds = [cancel(there.proxy, begin, is_held) for _ in range(times)]
            reached = [each for each in seconds if each is not None]
            found[way] = {"reached": f"{len(reached)} of {times}", "slowest_seconds": max(reached, default=None)}
            print(f"{way}: {seconds}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20, choices=range(1, 33), metavar="1..32", help="32 may wait in line")
    parser.add_argument("--turns", type=int, default=5, choices=range(1, 21), metavar="1..20")
    parser.add_argument("--tokens", type=int, default=16, help="of each answer")
    parser.add_argument("--cancels", type=int, default=5, help="of each kind; 0 needs no browser")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/load.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hilum-load-") as folder, house(Path(folder)) as there:
        people = draw_people(Path(folder), args.clients)
        load = measure_load(there, people, args.turns, args.tokens)
        print(load, file=sys.stderr)
        cancels = measure_cancels(there, people[0], args.cancels) if args.cancels else {}
    result = {"machine": machine.describe(), "clients": args.clients, "turns": args.turns, **load, "cancel": cancels}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
