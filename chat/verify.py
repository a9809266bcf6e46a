"""`python app.py verify`: what a checkpoint is worth on this machine, measured, told and written beside it.

Knows the order of the checks and the sentences that tell of them. Does not know thresholds' use, pages or the network.
The file that it writes is `verified.json` (`chat/verified.py`); prompts and answers never stand in it.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from chat.closed_questions import FEWEST_PICTURES, ask, calibrate
from chat.engine import checkpoint, store
from chat.engine.base import EngineUnavailable, Message, Sampling
from chat.engine.checkpoint import Loaded
from chat.engine.local import LocalEngine
from chat.engine.parity import Difference, check_prompt, compare_greedy
from chat.fluency import QUESTIONS, is_fluent, measure_fluency, tell
from chat.prompt import layout_search
from chat.verified import SCHEMA, VERIFIED, ClosedQuestions, Fluency, Speed, Verified, identity, precision
from chat.wording import LANGUAGES, Language
from vision.figures import SIZES, draw_figure

Say = Callable[[str], None]

MINUTES = {False: 10.0, True: 1.0}
MOST_PICTURES = {False: 60, True: 16}
"""By `is_quick`. The pictures of the closed questions stop earlier when the minutes are over, but never below the fewest."""

COMPARED_TOKENS = 16
COMPARED = ("What do you see in this picture?", "Describe this picture in one sentence.", "이 그림에 무엇이 보입니까?")
KOREAN_TOKENS = 96

NAMES: dict[Language, str] = {"en": "English", "ko": "Korean"}


@dataclass(frozen=True)
class Answered:
    """A greedy answer and its pace; `seconds` is the time behind the first token."""

    ids: tuple[int, ...]
    text: str
    has_ended: bool
    first_seconds: float
    seconds: float


def run(path: Path, device: str, four_bit: bool | None, is_quick: bool, out: Path | None, as_json: bool) -> int:
    """Verify the checkpoint at `path`, write what was found, and return 0, or 1 when something is off.

    Nothing is written for a checkpoint that is damaged or misread: no number of it would be worth anything. Progress goes
    to stdout, or to stderr where stdout carries the JSON. Raises EngineError.
    """

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    target = out or path / VERIFIED
    deadline = time.monotonic() + 60 * MINUTES[is_quick]
    _require_place(path, target)
    say("Ten minutes at most on a GPU, one with --quick; longer where a large model runs on a processor.")
    if damage := _check_hashes(path, say):
        return _end((damage,), {"problems": [damage]}, as_json, say)
    started = time.monotonic()
    loaded = checkpoint.load(path, device, four_bit)
    load_seconds, engine = time.monotonic() - started, LocalEngine(loaded)
    say(f"Loaded in {load_seconds:.1f} s: {', '.join(f'{key} {value}' for key, value in engine.description.items())}.")
    if problems := list(check_prompt(loaded)):
        return _end(problems, {"problems": problems}, as_json, say)
    say("Prompt and token ids: every fact holds.")
    engine.warm_up()
    verified = _measure(engine, loaded, path, load_seconds, is_quick, deadline, say)
    found = SCHEMA.dump_python(verified, mode="json")
    try:
        store.write_json(target, found)
    except OSError as error:
        raise _no_place(target, error.strerror or str(error)) from error
    say(f"Written to {target}.")
    return _end(verified.problems, found, as_json, say)


def _require_place(path: Path, target: Path) -> None:
    """Minutes of measuring must not end with a folder that cannot be written."""
    if not path.is_dir():
        raise EngineUnavailable(f"There is no checkpoint at {path}. Check HILUM_MODEL, or leave it at auto.")
    if target.is_dir() or not target.parent.is_dir():
        raise _no_place(target, "it is a folder" if target.is_dir() else "its folder does not exist")
    if not os.access(target.parent, os.W_OK):
        raise _no_place(target, "its folder is read-only")


def _no_place(target: Path, reason: str) -> EngineUnavailable:
    return EngineUnavailable(f"{target} cannot be written ({reason}); name a file elsewhere with --out PATH.")


def _end(problems: Sequence[str], found: dict[str, object], as_json: bool, say: Say) -> int:
    say("\n".join(["Something is off:", *(f"- {problem}" for problem in problems)]) if problems else "Everything passed.")
    if as_json:
        print(json.dumps(found, ensure_ascii=False), flush=True)
    return int(bool(problems))


def _check_hashes(path: Path, say: Say) -> str | None:
    """What is damaged, as a sentence."""
    if not (path / store.MANIFEST).is_file():
        say(f"Hashes: there is no {store.MANIFEST}, so whether every byte is right cannot be checked.")
        return None
    try:
        files = store.verify(path)["files"]
    except EngineUnavailable as error:
        return str(error)
    say(f"Hashes: {len(files)} files, every SHA-256 as in {store.MANIFEST}.")
    return None


def _measure(
    engine: LocalEngine, loaded: Loaded, path: Path, load_seconds: float, is_quick: bool, deadline: float, say: Say
) -> Verified:
    answers, differences = _compare(engine, loaded, say)
    problems = [_tell(difference) for difference in differences if not difference.is_tie]
    speed = _pace(answers, load_seconds)
    say(f"About {_minutes_left(speed, MOST_PICTURES[is_quick], deadline):.1f} minutes to go.")
    korean = _probe_korean(engine, say)
    problems += [] if is_fluent(korean) else [f"Its Korean is not fluent: {tell(korean)}."]
    closed = _ask_closed(engine, MOST_PICTURES[is_quick], deadline, say)
    problems += [_distrust(language, found) for language, found in closed.items() if found.threshold is None]
    speed = replace(speed, peak_bytes=_peak_bytes(loaded.device))
    rate = f", {speed.tokens_per_second:.1f} tokens a second" if speed.tokens_per_second else ""
    say(f"Speed: first token after {speed.first_token_seconds:.2f} s{rate}; {speed.peak_bytes / 1e9:.2f} GB at the peak.")
    dtype, is_four_bit = precision(engine.description)
    return Verified(
        version=1, name=engine.name, identity=identity(path), date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=engine.description["device"], dtype=dtype, four_bit=is_four_bit, is_quick=is_quick,
        has_manifest=(path / store.MANIFEST).is_file(), machine=_machine(), speed=speed,
        greedy_equal=len(answers) - len(differences), closed_questions=closed, korean=korean, problems=tuple(problems),
    )  # fmt: skip


def _pace(answers: Sequence[Answered], load_seconds: float) -> Speed:
    tokens, seconds = sum(max(0, len(one.ids) - 1) for one in answers), sum(one.seconds for one in answers)
    first = float(np.median([one.first_seconds for one in answers]))
    return Speed(load_seconds, first, tokens / seconds if tokens and seconds else None, 0)


def _minutes_left(speed: Speed, most_pictures: int, deadline: float) -> float:
    first = speed.first_token_seconds
    korean = len(QUESTIONS) * (first + KOREAN_TOKENS / (speed.tokens_per_second or float("inf")))
    fewest, most = (korean + 4 * first * pictures for pictures in (FEWEST_PICTURES, most_pictures))
    return max(fewest, min(most, deadline - time.monotonic())) / 60


def _answer(engine: LocalEngine, messages: Sequence[Message], max_new_tokens: int) -> Answered:
    """Greedy, and with nothing kept from an earlier answer."""
    engine.forget("verify")
    times, deltas = [time.monotonic()], []
    for delta in engine.stream(messages, Sampling(max_new_tokens, temperature=0), "verify"):
        times.append(time.monotonic())
        deltas.append(delta)
    ids = tuple(token for delta in deltas for token in delta.ids)
    text = "".join(delta.text for delta in deltas).strip()
    return Answered(ids, text, deltas[-1].finish == "stop", times[1] - times[0], times[-1] - times[1])


def _picture(number: int) -> Image.Image:
    return draw_figure(np.random.default_rng(number), "whole")[0]


def _compare(engine: LocalEngine, loaded: Loaded, say: Say) -> tuple[list[Answered], list[Difference]]:
    """Greedy answers beside transformers' own, on this device."""
    answers, differences = [], []
    for number, question in enumerate(COMPARED):
        messages = layout_search(None, _picture(number), question)
        answers.append(one := _answer(engine, messages, COMPARED_TOKENS))
        if parted := compare_greedy(loaded, messages, one.ids, one.has_ended, COMPARED_TOKENS):
            differences.append(parted)
            say(f"Greedy answer {number + 1} of {len(COMPARED)}: {_tell(parted)}")
    say(f"Greedy answers: {len(answers) - len(differences)} of {len(answers)} are transformers' own, token for token.")
    return answers, differences


def _tell(parted: Difference) -> str:
    tie = ", a tie within the rounding of this precision" if parted.is_tie else ""
    return f"The answer parts from transformers' at token {parted.position + 1} (logits differ by {parted.gap:.3g}{tie})."


def _probe_korean(engine: LocalEngine, say: Say) -> Fluency:
    """The answers go to the terminal only."""
    answers = []
    for number, question in enumerate(QUESTIONS):
        answers.append(_answer(engine, layout_search(None, _picture(number), question), KOREAN_TOKENS))
        say(f"  {question}\n    {' '.join(answers[-1].text.split()) or '(nothing)'}")
    found = measure_fluency([answer.text for answer in answers], sum(answer.has_ended for answer in answers))
    say(f"Korean: {tell(found)}.")
    return found


def _ask_closed(engine: LocalEngine, most: int, deadline: float, say: Say) -> dict[Language, ClosedQuestions]:
    pairs: dict[Language, list[tuple[float, float]]] = {language: [] for language in LANGUAGES}
    for number in range(most):
        if number >= FEWEST_PICTURES and time.monotonic() > deadline:
            break
        for language in LANGUAGES:
            pairs[language].append(ask(engine, number, SIZES[number % 2], language))
        if number % 10 == 9:
            say(f"  closed questions about {number + 1} of {most} pictures")
    closed = {}
    for language, asked in pairs.items():
        by_size = {size: calibrate(asked[start::2]) for start, size in enumerate(SIZES)}
        closed[language] = found = ClosedQuestions(**vars(calibrate(asked)), by_size=by_size)
        threshold = "none" if found.threshold is None else f"{found.threshold:.3f}"
        say(
            f"Closed questions, {NAMES[language]}: AUC {found.auc:.2f} ({found.auc_interval[0]:.2f} to "
            f"{found.auc_interval[1]:.2f}), {found.accuracy_at_half:.0%} right at 0.5, mean P(yes) {found.yes_bias:.2f} "
            f"where the truth is no, threshold {threshold} ({found.questions} questions)."
        )
    return closed


def _distrust(language: Language, found: ClosedQuestions) -> str:
    return (
        f"Closed questions in {NAMES[language]} cannot be trusted on this checkpoint: its AUC of {found.auc:.2f} "
        f"({found.auc_interval[0]:.2f} to {found.auc_interval[1]:.2f}) does not stand above chance, so no threshold is set."
    )


def _peak_bytes(device: str) -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak


def processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _machine() -> str:
    return f"{processor()}, {os.cpu_count()} cores; torch {torch.__version__}, transformers {transformers.__version__}"
