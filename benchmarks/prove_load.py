"""Isolation, back-pressure and leaving: many people at once, more than may come in, and some who just hang up.

    python -m benchmarks.prove_load [--only CLAIM ...] [--sessions 100] [--rounds 6] [--times 10] [--json]

Serves the embedded model as `app.py` does. Every session has a picture and questions of its own; each answer is compared
with the one that this process computes for the same session with nobody else there: the prompt's hash (text, ids and pixels)
and the words. `--rounds 20` asks 10,000 questions instead of 3,000. Everything is on loopback.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import httpx

from benchmarks import machine
from benchmarks.visitor import ANSWER_SECONDS, Hilum, Visitor, draw, hilum, visitors
from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.base import Sampling
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.line import MOST_WAITING
from vision.study import read_study

EMBEDDED = Path(__file__).parents[1] / "models" / "hilum-tiny"
TURNS, TOKENS = 5, 4
SHORT = {"max_new_tokens": TOKENS, "temperature": 0, "crops": False}
SAME = ("turn", "turns_in_window", "prompt_hash", "answer")
SETTLE_SECONDS = 3.0
Row = dict[str, Any]


def question(number: int, turn: int) -> str:
    """What only this session asks."""
    return f"Tag {number:04d}-{turn}: is there an opacity?"


def alone(sessions: int) -> list[list[Row]]:
    """What each session has to be told, computed here and one after another."""
    engine = LocalEngine(load(EMBEDDED, "cpu", None))
    assistant, told = Assistant(engine, engine.input_side), []
    for number in range(sessions):
        study, conversation, said = read_study(draw(number)), Conversation(), []
        for turn in range(1, TURNS + 1):
            request = Request(question(number, turn), Sampling(TOKENS, temperature=0), crops=False)
            *_, last = assistant.ask(request, study, conversation, str(number))
            assert isinstance(last, Answer)
            conversation = last.conversation
            said.append(last.result(engine.name))
        engine.forget(str(number))
        told.append(said)
    engine.close()
    return told


async def converse(visitor: Visitor, number: int, rounds: int) -> list[Row]:
    """One session: the same picture anew in every round, and five questions about it."""
    told: list[Row] = []
    for _ in range(rounds):
        image = await visitor.upload(draw(number))
        told += [await visitor.ask(None if turn else image, question(number, turn + 1), SHORT) for turn in range(TURNS)]
    return told


async def at_rest(there: Hilum) -> int:
    """Bytes in use when what is read ahead in idle time has been read."""
    await asyncio.sleep(SETTLE_SECONDS)
    return there.resident()


async def alone_seconds(client: httpx.AsyncClient) -> list[float]:
    """Seconds that each answer of a conversation takes when nobody else is there; the first one has a picture to look at."""
    told = (await converse(Visitor(client), 0, 5))[TURNS:]
    return [statistics.fmean(each["seconds"] for each in told[turn::TURNS]) for turn in range(TURNS)]


def ideal_waits(service: list[float], sessions: int, rounds: int) -> list[float]:
    """How long each question waits, with its own answer, in a line that is first come, first served and loses no time."""
    line, now, waits = deque((0.0, 0) for _ in range(sessions)), 0.0, []
    while line:
        came, asked = line.popleft()
        now += service[asked % TURNS]
        waits.append(now - came)
        if asked + 1 < rounds * TURNS:
            line.append((now, asked + 1))
    return waits


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * len(seconds))]


async def isolation(there: Hilum, sessions: int, rounds: int) -> Row:
    """All sessions at once, each with one question under way at any time."""
    expected = await asyncio.to_thread(alone, sessions)
    async with visitors(there.url) as client:
        people = [Visitor(client) for _ in range(sessions)]
        await asyncio.gather(*(converse(visitor, number, 1) for number, visitor in enumerate(people)))  # all is kept by now
        service = await alone_seconds(client)
        before, started = await at_rest(there), time.perf_counter()
        talks = await asyncio.gather(*(converse(visitor, number, rounds) for number, visitor in enumerate(people)))
        seconds = time.perf_counter() - started
        service = [statistics.fmean(both) for both in zip(service, await alone_seconds(client), strict=True)]
        growth = (await at_rest(there) - before) / 2**20
    said = [(each, expected[number][place % TURNS]) for number, talk in enumerate(talks) for place, each in enumerate(talk)]
    errors = [str(each["error"]) for each, _ in said if "error" in each]
    foreign = sum(any(each.get(key) != own[key] for key in SAME) for each, own in said if "error" not in each)
    slow, ideal = p95([each["seconds"] for each, _ in said]), p95(ideal_waits(service, sessions, rounds))
    alone_mean, fair = statistics.fmean(service), sessions * seconds / len(said)
    measured = {
        "sessions": sessions, "requests": len(said), "errors": len(errors), "first_errors": sorted(set(errors))[:3],
        "foreign": foreign, "different_prompts": len({each.get("prompt_hash") for each, _ in said}),
        "p95_seconds": round(slow, 2), "ideal_seconds": round(ideal, 2), "p95_over_ideal": round(slow / ideal, 2),
        "p95_over_mean_service": round(slow / (sessions * alone_mean), 2), "p95_over_fair_share": round(slow / fair, 2),
        "alone_seconds": [round(each, 4) for each in service], "seconds": round(seconds, 1), "rss_growth_mb": round(growth, 1),
    }  # fmt: skip
    passed = not errors and not foreign and slow <= 1.3 * ideal and growth < 50
    return {"claim": "isolation", "reach": "0 errors, 0 foreign, p95 <= 1.3x ideal, RSS +< 50 MB",
            "measured": measured, "passed": passed}  # fmt: skip


async def back_pressure(there: Hilum, times: int) -> Row:
    """Questions come `times` as fast as the engine answers, until the line has long been full."""
    async with visitors(there.url) as client:
        pace = statistics.fmean(await alone_seconds(client)) / times
        people = [Visitor(client) for _ in range(2 * (1 + MOST_WAITING))]
        images = [await visitor.upload(draw(number)) for number, visitor in enumerate(people)]
        under_way = []
        for visitor, image in zip(people, images, strict=True):
            under_way.append(asyncio.create_task(visitor.ask(image, "Is there an opacity?", SHORT)))
            await asyncio.sleep(pace)
        told = await asyncio.gather(*under_way)
    refused = [each for each in told if "waiting already" in str(each.get("error")) or each.get("status") == 503]
    answered = [each for each in told if "answer" in each]
    slowest = max((each["seconds"] for each in refused), default=0.0)
    measured = {
        "may_wait": MOST_WAITING, "per_second": round(1 / pace, 1),
        "asked": len(told), "answered": len(answered), "refused": len(refused),
        "refused_in_words": sum("waiting already" in each["error"] for each in refused),
        "lost": len(told) - len(answered) - len(refused),
        "slowest_refusal_seconds": round(slowest, 2),
        "median_refusal_seconds": round(statistics.median(each["seconds"] for each in refused or [{"seconds": 0.0}]), 2),
    }  # fmt: skip
    passed = slowest < 1.5 and not measured["lost"] and bool(refused)
    return {"claim": "back-pressure", "reach": "every refusal < 1.5 s, no accepted request lost",
            "measured": measured, "passed": passed}  # fmt: skip


async def disconnect(there: Hilum, times: int) -> Row:
    """One hangs up in the middle of a long answer, while another long one waits and hangs up too; then who can be answered?

    The engine is free when a third visitor has had one token, less what that takes when nobody has been there before.
    """
    one = SHORT | {"max_new_tokens": 1}
    async with visitors(there.url) as client:
        quiet, left = list[float](), list[float]()
        for number in range(times):
            for is_alone, seconds in ((True, quiet), (False, left)):
                people = [Visitor(client) for _ in range(3)]
                images = [await visitor.upload(draw(100 * number + place)) for place, visitor in enumerate(people)]
                if not is_alone:
                    leavers = zip(people[:2], images[:2], strict=True)
                    await asyncio.gather(*(visitor.ask_and_leave(image, "Say all.", 1.5) for visitor, image in leavers))
                told = await people[2].ask(images[2], "Is there an opacity?", one)
                seconds.append(told["seconds"] if "answer" in told else ANSWER_SECONDS)
    free = [max(0.0, each - statistics.median(quiet)) for each in left]
    measured = {"times": times, "slowest_seconds": round(max(free), 3), "median_seconds": round(statistics.median(free), 3)}
    return {"claim": "disconnect", "reach": "engine free <= 1 s", "measured": measured, "passed": max(free) <= 1}


async def prove(there: Hilum, given: argparse.Namespace) -> list[Row]:
    proofs = {
        "disconnect": lambda: disconnect(there, given.leavers), "back-pressure": lambda: back_pressure(there, given.times),
        "isolation": lambda: isolation(there, given.sessions, given.rounds),
    }  # fmt: skip
    rows = []
    for claim in given.only:
        rows.append(await proofs[claim]())
        print(rows[-1], file=sys.stderr, flush=True)
        await asyncio.sleep(SETTLE_SECONDS)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    claims = ("disconnect", "back-pressure", "isolation")
    parser.add_argument("--only", nargs="+", default=claims, choices=claims, metavar="CLAIM")
    parser.add_argument("--leavers", type=int, default=8, help="times that two hang up")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=6, help="conversations of five questions in each session")
    parser.add_argument("--times", type=int, default=10, help="how much faster than the engine answers")
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hilum-load-") as folder, hilum(Path(folder) / "served") as there:
        rows = asyncio.run(prove(there, args))
    result = {"machine": machine.describe(), "rows": rows}
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))
    raise SystemExit(0 if all(row["passed"] for row in rows) else 1)


if __name__ == "__main__":
    main()
