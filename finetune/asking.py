"""Asking a language model many things: at a bounded pace, again after a hiccup, and never twice for the same.

Knows engines, clocks and the ledger of what was paid for. Does not know what is asked, or why.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Lock

from tqdm import tqdm

from chat.engine.base import DoesNotFit, Engine, EngineError, EngineUnavailable, Message, Sampling
from chat.prompt import fingerprint
from chat.settings import is_address
from chat.writer import without_thoughts
from finetune.jsonl import Ledger
from finetune.records import RecordError
from vision.evidence import CheckpointError
from vision.study import StudyError

log = logging.getLogger(__name__)
_LONGEST_WAIT = 60.0
_FOR_US = {"--model": "--base-url", "--remote-name": "--model"}
_PASSING = {"busy", "busy_for", "failed", "broke_off", "silent", "unreachable", "not_openai"}


@dataclass(frozen=True)
class Job:
    """One request. `key` stands for everything that its answer depends on."""

    key: str
    messages: tuple[Message, ...]
    sampling: Sampling


@dataclass(frozen=True)
class Pace:
    """How fast to ask. None is without a limit; `backoff` is the first wait in seconds, doubled at each further try."""

    workers: int = 4
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    retries: int = 5
    backoff: float = 1.0


def job(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> Job:
    said = json.dumps([engine.name, fingerprint(messages), asdict(sampling)])
    return Job(hashlib.sha256(said.encode()).hexdigest()[:32], tuple(messages), sampling)


class RateLimiter:
    """A sliding window: lets requests pass so that no minute holds more of them, or of their tokens, than is allowed.

    `clock` and `sleep` are the machine's own by default; where `sleep` returns True it was woken to let everything pass. A
    request larger than a minute's tokens passes alone.
    """

    def __init__(
        self, pace: Pace, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._requests, self._tokens = pace.requests_per_minute, pace.tokens_per_minute
        self._clock, self._sleep = clock, sleep
        self._passed: deque[tuple[float, int]] = deque()
        self._gate = Lock()

    def enter(self, tokens: int) -> None:
        while (seconds := self._try(tokens)) > 0 and not self._sleep(seconds):
            pass

    def _try(self, tokens: int) -> float:
        """0 after letting it pass, else the seconds after which to try again."""
        with self._gate:
            now = self._clock()
            while self._passed and self._passed[0][0] <= now - 60:
                self._passed.popleft()
            spent = sum(each for _, each in self._passed)
            is_full = self._requests is not None and len(self._passed) >= self._requests
            is_heavy = self._tokens is not None and spent + tokens > self._tokens
            if self._passed and (is_full or is_heavy):
                return max(0.01, self._passed[0][0] + 60 - now)
            self._passed.append((now, tokens))
            return 0.0


def ask_all(jobs: Iterable[Job], engine: Engine, ledger: Ledger, pace: Pace, what: str, seed: int = 0) -> int:
    """Put the answer to every job into the ledger, as `text` and `finish`; how many were too long for the engine's context.

    What the ledger holds is not asked again. Raises EngineError when the engine refuses, or fails `retries` times in a row at
    one job, and closes it then; what was answered until then is kept.
    """
    left = list({each.key: each for each in jobs if each.key not in ledger.paid}.values())
    stop, rng = Event(), random.Random(seed)
    limiter = RateLimiter(pace, sleep=stop.wait)
    too_long = 0
    with ThreadPoolExecutor(pace.workers) as pool, tqdm(total=len(left), desc=what, disable=None, leave=False) as bar:
        waiting: set[Future[bool]] = set()
        try:
            for each in left:
                if len(waiting) >= 2 * pace.workers:
                    too_long += _finished(waiting, bar)
                waiting.add(pool.submit(_ask, each, engine, ledger, pace, limiter, stop, rng.random()))
            while waiting:
                too_long += _finished(waiting, bar)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            engine.close()  # hangs up, so that nobody waits for a server that is silent
            raise
    if too_long:
        log.warning("%d of %d %s do not fit into %s's context and were left out", too_long, len(left), what, engine.name)
    return too_long


def _finished(waiting: "set[Future[bool]]", bar: "tqdm[None]") -> int:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    waiting -= done
    bar.update(len(done))
    return sum(not each.result() for each in done)


def _ask(each: Job, engine: Engine, ledger: Ledger, pace: Pace, limiter: RateLimiter, stop: Event, jitter: float) -> bool:
    """Whether there is an answer now: not when the prompt does not fit."""
    for attempt in range(pace.retries + 1):
        limiter.enter(engine.count(each.messages) + each.sampling.max_new_tokens)
        if stop.is_set():
            break
        try:
            text, finish, tokens = listen(engine, each.messages, each.sampling, stop)
        except DoesNotFit:
            return False
        except EngineUnavailable as error:
            if error.reason not in _PASSING or attempt == pace.retries:
                raise
            seconds = float(error.fields.get("seconds", 0)) or pace.backoff * 2**attempt * (0.5 + jitter)
            stop.wait(min(seconds, _LONGEST_WAIT))
            continue
        if finish:  # it was not stopped half-way
            ledger.append(each.key, text=text, finish=finish, tokens=tokens)
        return True
    return True


def listen(engine: Engine, messages: Sequence[Message], sampling: Sampling, stop: Event | None = None) -> tuple[str, str, int]:
    """A whole answer: its text without thoughts, why it ended, and its tokens."""
    text, finish, tokens = "", "", 0
    for delta in engine.stream(messages, sampling, "finetune"):
        text, finish, tokens = text + delta.text, delta.finish or finish, tokens + delta.count
        if stop is not None and stop.is_set():
            break
    return without_thoughts(text), finish, tokens


def add_engine_flags(parser: argparse.ArgumentParser, with_pace: bool = True) -> None:
    parser.add_argument("--base-url", help="an OpenAI-compatible address; its key is HILUM_API_KEY of the environment")
    parser.add_argument("--model", help="the model's name there, or without --base-url the folder of a checkpoint")
    if not with_pace:
        return
    add_pace_flags(parser)


def add_pace_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--concurrency", type=positive, default=4, help="requests at once")
    parser.add_argument("--requests-per-minute", type=positive)
    parser.add_argument("--tokens-per-minute", type=positive, help="prompt and longest answer together")
    parser.add_argument("--retries", type=int, default=5, help="further tries when the endpoint is busy or breaks off")
    parser.add_argument("--backoff", type=float, default=1.0, help="seconds before the second try, doubled at each further one")


def positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def pace_of(args: argparse.Namespace) -> Pace:
    return Pace(
        args.concurrency, args.requests_per_minute, args.tokens_per_minute, max(0, args.retries), max(0.0, args.backoff)
    )


def open_engine(base_url: str | None, model: str | None, max_images: int = 0) -> Engine:
    """The model at an address, or in a folder on this machine. Raises EngineError, and RecordError where neither is named."""
    if base_url is None and model is not None and is_address(model):
        base_url, model = model, None
    if base_url is not None:
        from chat.engine.address import read_address
        from chat.engine.remote import connect

        return connect(read_address(base_url), model, os.environ.get("HILUM_API_KEY", ""), max_images)
    if model is None:
        raise RecordError("No model is named. Give --base-url and --model, or a checkpoint's folder as --model.")
    from chat.engine import checkpoint, text
    from chat.engine.local import LocalEngine

    folder = Path(model)
    try:
        has_eyes = "vision_config" in json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        has_eyes = False  # the text loader says what is wrong
    return LocalEngine(checkpoint.load(folder, "auto", None)) if has_eyes else text.load(folder, "auto", None)


def said(error: Exception) -> str:
    """An error's sentence with these commands' own flags."""
    sentence = str(error)
    if isinstance(error, EngineError):
        marks = {flag: f"\0{place}" for place, flag in enumerate(_FOR_US)}
        for flag, mark in marks.items():
            sentence = sentence.replace(flag, mark)
        for flag, mark in marks.items():
            sentence = sentence.replace(mark, _FOR_US[flag])
    return sentence


def guarded(work: Callable[[], None]) -> int:
    """Run a command's work: 0, or 2 with one sentence about what a person can mend, or 130 when the person stopped it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        work()
    except (RecordError, EngineError, CheckpointError, StudyError) as error:
        print(f"hilum: {said(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hilum: stopped; what was answered is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    return 0
