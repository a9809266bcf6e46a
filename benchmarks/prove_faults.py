"""Faults: what may go wrong with a process, a disk, a file or another server, and whether the next request then works.

    python -m benchmarks.prove_faults [--only WORD ...] [--json]

Each fault is done to the real thing: `app.py` on loopback with the embedded model, killed, hung up on or fed slowly;
checkpoints that are cut, turned into a pickle or missing; a full disk (a small tmpfs); a server at an address that misbehaves.
Faults that a test already holds are proven by that test. `--only` names parts of the faults' names.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.faults import FILES
from benchmarks.visitor import LONG, ROOT, Hilum, Visitor, draw, hilum, visitors

EXIT_SECONDS = 5.0
SHORT = {"max_new_tokens": 4, "temperature": 0, "crops": False}

TESTED = {
    "out of memory in vision, prefill, decode, 50 in a row": ("tests/test_life.py", "fifty"),
    "queue overflow": ("tests/test_life.py", "full_line"),
    "decoder child killed": ("tests/test_guarded_decoder.py", "died_while_idle or takes_nobody"),
    "decoder child hung": ("tests/test_guarded_decoder.py", "hangs"),
    "vault full": ("tests/test_vault.py", "full"),
}
"""Fault -> the file and the words of the tests that hold it."""


async def answered(there: Hilum) -> None:
    """A new visitor is answered. Raises AssertionError when not."""
    async with visitors(there.url) as client:
        visitor = Visitor(client)
        told = await visitor.ask(await visitor.upload(draw(1)), "Is there an opacity?", SHORT)
        assert "answer" in told, told


async def kill(there: Hilum, phase: str) -> None:
    async with visitors(there.url) as client:
        visitor = Visitor(client)
        doing: asyncio.Task[Any] | None = None
        if phase == "upload":
            doing = asyncio.create_task(feed_slowly(there, 60))
        if phase == "generation":
            doing = asyncio.create_task(visitor.ask(await visitor.upload(draw(2)), "Say all.", LONG))
        await asyncio.sleep(1)
        there.process.kill()
        await asyncio.to_thread(there.process.wait)
        if doing:
            await asyncio.gather(doing, return_exceptions=True)


async def leave(there: Hilum, number: int) -> None:
    """A signal, with two tabs open, an answer under way and another that waits."""
    async with visitors(there.url) as client:
        people = [Visitor(client), Visitor(client)]
        tasks: list[asyncio.Task[Any]] = []
        for place, visitor in enumerate(people):
            tasks.append(asyncio.create_task(client.get(f"gradio_api/heartbeat/{visitor.session}")))
            tasks.append(asyncio.create_task(visitor.ask(await visitor.upload(draw(place)), "Say all.", LONG)))
        await asyncio.sleep(1)
        started = time.perf_counter()
        there.process.send_signal(number)
        code = await asyncio.to_thread(there.process.wait, 60)
        seconds = time.perf_counter() - started
        await asyncio.gather(*tasks, return_exceptions=True)
    assert code == 0 and seconds <= EXIT_SECONDS, f"exit code {code} after {seconds:.1f} s"
    left = [path.name for path in there.folder.iterdir() if path.name != "hilum.log"]
    assert not left, f"{len(left)} left behind"


async def shell_dies(there: Hilum) -> None:
    """The shell that started it is killed; Hilum goes on, and ends when it is asked to."""
    children = Path(f"/proc/{there.process.pid}/task/{there.process.pid}/children").read_text("ascii").split()
    there.process.kill()
    there.process.wait()
    try:
        await answered(there)
    finally:
        for child in children:
            os.kill(int(child), signal.SIGTERM)


async def feed_slowly(there: Hilum, seconds: int) -> None:
    """An upload that sends a byte a second, and then hangs up."""
    host, _, port = there.url.removeprefix("http://").strip("/").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    with suppress(OSError):
        writer.write((head + "Content-Length: 100000\r\n\r\n").format(port).encode() + body)
        for _ in range(seconds):
            await writer.drain()
            await asyncio.sleep(1)
            writer.write(b"0")
    writer.close()


async def upload_slowly(there: Hilum) -> None:
    feeding = asyncio.create_task(feed_slowly(there, 60))
    await asyncio.sleep(0.5)
    await answered(there)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)


async def drop(there: Hilum, is_queued: bool) -> None:
    """A client hangs up in its answer; or while it waits, and the one who is being answered goes on."""
    async with visitors(there.url) as client:
        first, second = Visitor(client), Visitor(client)
        images = [await visitor.upload(draw(place)) for place, visitor in enumerate((first, second))]
        if not is_queued:
            await first.ask_and_leave(images[0], "Say all.", 1.5)
            return
        task = asyncio.create_task(first.ask(images[0], "Say more.", LONG | {"max_new_tokens": 200}))
        await asyncio.sleep(0.3)
        await second.ask_and_leave(images[1], "And I?", 0.3)
        told = await task
        assert "answer" in told, told


Deed = Callable[[Hilum], Any]
SHELL = ("sh", "-c", '"$@" & wait', "sh")
DEEDS: dict[str, Deed] = {
    "SIGTERM with tabs open": lambda there: leave(there, signal.SIGTERM),
    "SIGINT with tabs open": lambda there: leave(there, signal.SIGINT),
    "SIGHUP: the terminal closes": lambda there: leave(there, signal.SIGHUP),
    "parent shell dies": shell_dies,
    "client drops mid-stream": lambda there: drop(there, is_queued=False),
    "client drops while queued": lambda there: drop(there, is_queued=True),
    "slow upload": upload_slowly,
    "SIGKILL idle": lambda there: kill(there, "idle"),
    "SIGKILL in upload": lambda there: kill(there, "upload"),
    "SIGKILL in generation": lambda there: kill(there, "generation"),
}


def serve_through(wanted: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    """One server after another in the same folder; the next one's first answer belongs to the fault before it."""
    with ExitStack() as last:
        there: Hilum | None = None
        for name in wanted:
            started = time.perf_counter()
            try:
                is_shell = name == "parent shell dies"
                if there is None or there.process.poll() is not None or is_shell:
                    last.close()
                    there = last.enter_context(hilum(folder, prefix=SHELL if is_shell else ()))
                asyncio.run(DEEDS[name](there))
                if there.process.poll() is not None:
                    last.close()
                    there = last.enter_context(hilum(folder))
                asyncio.run(answered(there))
                yield _row(name, started)
            except Exception as error:
                yield _row(name, started, error)


def check_files(wanted: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    for name in wanted:
        started, place = time.perf_counter(), folder / re.sub(r"\W", "-", name)
        place.mkdir()
        try:
            FILES[name](place)
            yield _row(name, started)
        except Exception as error:
            yield _row(name, started, error)


def run_tests(wanted: list[str]) -> Iterator[dict[str, Any]]:
    for name in wanted:
        started, (file, words) = time.perf_counter(), TESTED[name]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "", file, "-k", words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
        is_run = (ROOT / file).exists() and done.returncode != 5
        last = done.stdout.strip().splitlines()[-1:] or [""]
        yield _row(name, started, None if done.returncode == 0 else last[0] if is_run else "not yet run: no such test")


def _row(name: str, started: float, trouble: object = None) -> dict[str, Any]:
    said = "" if trouble is None else trouble if isinstance(trouble, str) else f"{type(trouble).__name__}: {trouble}"
    return {"fault": name, "passed": trouble is None, "seconds": round(time.perf_counter() - started, 1), "trouble": said[:300]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()

    def chosen(names: dict[str, Any]) -> list[str]:
        return [name for name in names if any(word.lower() in name.lower() for word in args.only)]

    faults = []
    with tempfile.TemporaryDirectory(prefix="hilum-faults-") as folder:
        parts = (
            check_files(chosen(FILES), Path(folder)), run_tests(chosen(TESTED)),
            serve_through(chosen(DEEDS), Path(folder) / "served"),
        )  # fmt: skip
        for fault in (fault for part in parts for fault in part):
            print(fault, file=sys.stderr, flush=True)
            faults.append(fault)
    passed = sum(fault["passed"] for fault in faults)
    measured = {"survived": f"{passed} of {len(faults)}", "failed": [each["fault"] for each in faults if not each["passed"]]}
    row = {"claim": "faults", "reach": "all, the next request works", "measured": measured, "passed": passed == len(faults)}
    result = {"machine": machine.describe(), "rows": [row], "faults": faults}
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))
    raise SystemExit(0 if row["passed"] else 1)


if __name__ == "__main__":
    main()
