"""A visitor: Hilum as a process of its own on loopback, and clients without a browser that can leave at any moment.

Knows the API's addresses and Gradio's streams. Does not know what is proven with them.
"""

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
from PIL import Image

from benchmarks.load import free_port

ROOT = Path(__file__).parents[1]
START_SECONDS = 400
ANSWER_SECONDS = 900.0
LONG = {"max_new_tokens": 600, "temperature": 2, "top_p": 1, "seed": 7, "crops": False}
"""An answer that does not end by itself soon: at this temperature the end is one token among thousands."""


@dataclass(frozen=True)
class Hilum:
    """Where it listens, its process, and the folder in which it was started."""

    url: str
    process: "subprocess.Popen[bytes]"
    folder: Path

    def resident(self) -> int:
        """Bytes of memory in use."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        return (self.folder / "hilum.log").read_text("utf-8", "replace")


@contextmanager
def hilum(folder: Path, *flags: str, prefix: tuple[str, ...] = ()) -> Iterator[Hilum]:
    """Serve the page from an empty folder, where no .env lies, until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("HILUM_")} | {"TMPDIR": str(folder)}
    command = [*prefix, sys.executable, str(ROOT / "app.py"), "serve", "--port", str(port), "--classifier", "none", *flags]
    with (folder / "hilum.log").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=own, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        running = Hilum(f"http://127.0.0.1:{port}/", process, folder)
        try:
            wait_ready(running)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_ready(running: Hilum) -> None:
    """Come back when the page answers. Raises RuntimeError with the end of the log when it never does."""
    end = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while running.process.poll() is None and time.monotonic() < end:
            with suppress(httpx.HTTPError):
                if client.get(running.url).status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
    raise RuntimeError(f"Hilum does not start: {running.log()[-2000:]}")


class Visitor:
    """One session. `error` in what it is told is a sentence, `status` an HTTP status that is no 200."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.session = uuid4().hex

    async def upload(self, data: bytes) -> dict[str, Any]:
        response = await self.client.post("gradio_api/upload", files={"files": ("picture.png", data)})
        response.raise_for_status()
        return {"path": response.json()[0], "meta": {"_type": "gradio.FileData"}}

    async def ask(self, image: dict[str, Any] | None, question: str, options: dict[str, Any]) -> dict[str, Any]:
        """The whole answer, and in `seconds` how long it took."""
        return await self._call("ask", image, question, options)

    async def report(self, image: dict[str, Any] | None, options: dict[str, Any]) -> dict[str, Any]:
        """The whole report, and how long it took."""
        return await self._call("report", image, "en", options)

    async def _call(self, name: str, *data: object) -> dict[str, Any]:
        started, place = time.perf_counter(), f"gradio_api/call/{name}"
        try:
            response = await self.client.post(place, json={"data": data, "session_hash": self.session})
            if response.status_code != httpx.codes.OK:
                told: dict[str, Any] = {"error": _sentence(response), "status": response.status_code}
            else:
                told = await self._hear(f"{place}/{response.json()['event_id']}")
        except httpx.HTTPError as error:
            told = {"error": f"{type(error).__name__}: {error}", "broke_off": True}
        return told | {"seconds": time.perf_counter() - started}

    async def _hear(self, place: str) -> dict[str, Any]:
        kind = ""
        async with self.client.stream("GET", place) as response:
            async for line in response.aiter_lines():
                key, _, value = line.partition(": ")
                kind = value if key == "event" else kind
                if key == "data" and kind == "complete":
                    return dict(json.loads(value)[0])
                if key == "data" and kind == "error":
                    read = json.loads(value)
                    return {"error": read.get("error") if isinstance(read, dict) else str(read)}
        return {"error": "the stream ended without an answer", "broke_off": True}

    async def ask_and_leave(self, image: dict[str, Any] | None, question: str, after_seconds: float) -> None:
        """Listen to a long answer for so long, then hang up without a word, as a closed laptop does."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ask(image, question, LONG), after_seconds)


def _sentence(response: httpx.Response) -> str:
    """What a refusal says: its `detail`, else all of it."""
    with suppress(ValueError, KeyError, TypeError):
        return str(response.json()["detail"])
    return response.text


@asynccontextmanager
async def visitors(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client for any number of visitors, each connection its own."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=ANSWER_SECONDS, limits=limits) as client:
        yield client


def draw(number: int, side: int = 96) -> bytes:
    """A PNG that no other number gives: coloured noise in blocks."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(data, "PNG")
    return data.getvalue()
