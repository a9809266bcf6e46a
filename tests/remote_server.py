"""Servers for the remote engine: a real `transformers serve`, and small ones that misbehave, all on loopback.

Knows processes, ports and the lines that a server writes. Does not know what is asked of the engine.
Run as a script it is `transformers serve DIR` with one byte appended to a file for every forward pass.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from served import free_port

from chat.engine.address import Address, read_address

ROOT = Path(__file__).parents[1]
STARTING_TRIES = 600


@dataclass
class Served:
    """A running `transformers serve`."""

    address: Address
    name: str
    count_file: Path

    @property
    def forwards(self) -> int:
        """Forward passes of the model since the start."""
        return self.count_file.stat().st_size if self.count_file.exists() else 0


@contextmanager
def transformers_serve(checkpoint: Path) -> Iterator[Served]:
    """Serve a checkpoint in fp32 on the CPU, until the end of the block."""
    port, count_file = free_port(), checkpoint.with_suffix(".forwards")
    command = [sys.executable, __file__, str(count_file), "serve", str(checkpoint), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32", "--log-level", "error"]
    command += ["--chat-template-kwargs", '{"embedded": true}']
    own = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    log = count_file.with_suffix(".log")
    with log.open("wb") as out, subprocess.Popen(command, env=own, stdout=out, stderr=out) as process:
        try:
            _wait_until_healthy(process, f"http://127.0.0.1:{port}/health", log)
            yield Served(read_address(f"http://127.0.0.1:{port}"), str(checkpoint), count_file)
        finally:
            process.kill()


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(STARTING_TRIES):
        try:
            with opener.open(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
        if process.poll() is not None:
            raise AssertionError(f"transformers serve ended: {log.read_text('utf-8')[-2000:]}")
    raise AssertionError("transformers serve is not ready")


Script = Callable[["Misbehaving"], None]


class Misbehaving(BaseHTTPRequestHandler):
    """One connection to a `Bad` server, with what its script needs to misbehave."""

    protocol_version = "HTTP/1.0"
    bad: "Bad"
    body: dict[str, object]

    def do_GET(self) -> None:
        self.bad.seen.append(self)
        self.bad.on_models(self)

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bad.seen.append(self)
        try:
            self.bad.on_chat(self)
        except OSError:
            self.bad.hung_up.set()

    def answer(self, status: int, body: object, kind: str = "application/json", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.begin(status, kind, **headers)
        self.wfile.write(data)

    def begin(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def say(self, content: object = None, finish: object = None, **more: object) -> None:
        """One chunk of an answer."""
        chunk = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **more}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def no_models(request: Misbehaving) -> None:
    request.answer(500, {"error": "offline"})


@dataclass
class Bad:
    """A server that answers every question by `on_chat`. `hung_up` is set when a client leaves while it is spoken to."""

    address: Address
    on_chat: Script
    on_models: Script
    seen: list[Misbehaving] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


@contextmanager
def bad_server(on_chat: Script, on_models: Script = no_models) -> Iterator[Bad]:
    handler = type("Handler", (Misbehaving,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    bad = Bad(read_address(f"http://127.0.0.1:{server.server_port}"), on_chat, on_models)
    handler.bad = bad  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield bad
    finally:
        server.shutdown()
        server.server_close()


def _serve_counting(count_file: Path, arguments: list[str]) -> None:
    import torch
    from transformers import LlavaForConditionalGeneration
    from transformers.cli.transformers import main

    def count(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, LlavaForConditionalGeneration):
            with count_file.open("ab") as file:
                file.write(b".")

    torch.nn.modules.module.register_module_forward_hook(count)
    sys.argv = ["transformers", *arguments]
    main()


if __name__ == "__main__":
    _serve_counting(Path(sys.argv[1]), sys.argv[2:])
