"""Faults in files, on disks and at addresses: each a function that does it and raises AssertionError where Hilum does not hold.

Knows checkpoints, a training's state and the OpenAI-compatible stream. Does not know what serves, or what else is proven.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from benchmarks.visitor import ROOT, draw
from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.address import read_address
from chat.engine.base import EngineError, Limits
from chat.engine.remote import RemoteEngine
from vision.study import read_study

EMBEDDED = ROOT / "models" / "hilum-tiny"

SAVE = """
import sys, torch, pathlib
from finetune.progress import Progress
kept = torch.nn.Linear(int(sys.argv[2]), 1000)
progress = Progress(pathlib.Path(sys.argv[1]) / "state.pt", kept)
for done in range(1, int(sys.argv[3]) + 1):
    with torch.no_grad():
        kept.weight.fill_(done)
    progress.save(done)
"""
READ = """
import sys, torch, pathlib
from finetune.progress import Progress
kept = torch.nn.Linear(int(sys.argv[2]), 1000)
done = Progress(pathlib.Path(sys.argv[1]) / "state.pt", kept).restore()
sys.exit(0 if done and bool((kept.weight == done).all()) else 1)
"""


def refused(folder: Path, *flags: str) -> None:
    """`app.py ask` without a classifier ends with one sentence and code 2. Raises AssertionError when not."""
    picture = folder / "picture.png"
    picture.write_bytes(draw(3))
    asked = ["ask", str(picture), "Is there an opacity?", "--classifier", "none"]
    command = [sys.executable, str(ROOT / "app.py"), *asked, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, check=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("hilum: "), (done.returncode, lines[-3:])


def cut_weights(folder: Path) -> None:
    broken = Path(shutil.copytree(EMBEDDED, folder / "cut"))
    weights = broken / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    refused(folder, "--model", str(broken))


class Payload:
    """What a pickle does that is loaded by somebody careless."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.file,)


def pickled_weights(folder: Path) -> None:
    poisoned = Path(shutil.copytree(EMBEDDED, folder / "poisoned"))
    (poisoned / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pth"):
        (poisoned / name).write_bytes(pickle.dumps(Payload(folder / "was-run")))
    refused(folder, "--model", str(poisoned))
    assert not (folder / "was-run").exists(), "the pickle was run"


def missing_model(folder: Path) -> None:
    refused(folder, "--model", str(folder / "nothing-here"))


def _python(code: str, folder: Path, width: int, *more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(folder), str(width), *map(str, more)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def full_disk(folder: Path) -> None:
    """6 MB of disk for a training's state of 4 MB, which is written beside the old one: the old one has to stay whole."""
    small = folder / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=6m tmpfs "$1" && shift && "$@"'
    inside = (
        f"import subprocess, sys\nsave, read = {SAVE!r}, {READ!r}\n"
        "def run(code, *more): return subprocess.run([sys.executable, '-c', code, sys.argv[1], '1000', *more]).returncode\n"
        "sys.exit(10 * run(save, '1') + 20 * (not run(save, '2')) + 40 * run(read))"
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(small), sys.executable, "-c", inside, str(small)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr.strip().splitlines()[-1:])


def killed_write(folder: Path) -> None:
    """Killed five times at different places of the write; what can be read is always one whole state."""
    assert _python(SAVE, folder, 10_000, 1).returncode == 0
    for number in range(5):
        command = [sys.executable, "-c", SAVE, str(folder), "10000", "1000"]
        with subprocess.Popen(command, cwd=ROOT) as process:
            while process.poll() is None and not (folder / "state.new").exists():
                time.sleep(0.01)
            time.sleep(0.02 * number)
            process.kill()
        assert _python(READ, folder, 10_000).returncode == 0, f"kill {number}: nothing whole is left"


class Misbehaving(BaseHTTPRequestHandler):
    """An address that answers as `mode` says."""

    mode = "good"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.mode == "timeout":
            time.sleep(4)
            return
        self.send_response(500 if self.mode == "500" else 200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        said = [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": end} for end in (None, "stop")]
        lines = [json.dumps(chunk | {"choices": [each]}) for each in said] if self.mode == "good" else ["\x00{garbage"]
        self.wfile.write("".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode())

    def log_message(self, *_: object) -> None:
        pass


def bad_address(mode: str, _: Path) -> None:
    Misbehaving.mode = mode
    with ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = read_address(f"http://127.0.0.1:{server.server_address[1]}/v1")
        engine = RemoteEngine(address, "m", limits=Limits(4096, 576, 1), patience_seconds=2)
        assistant, study = Assistant(engine, engine.input_side), read_study(draw(4))

        def ask() -> Answer:
            steps = assistant.ask(Request("Is there an opacity?", crops=False), study, Conversation(), "a")
            return [step for step in steps if isinstance(step, Answer)][-1]

        try:
            with suppress(EngineError):
                raise AssertionError(f"answered: {ask().text!r}")
            Misbehaving.mode = "good"
            assert ask().text.startswith("Yes."), "the next request does not work"
        finally:
            engine.close()
            server.shutdown()


FILES: dict[str, Callable[[Path], None]] = {
    "truncated safetensors": cut_weights,
    "pickle payload": pickled_weights,
    "missing model offline": missing_model,
    "disk full while saving weights": full_disk,
    "kill in a checkpoint write": killed_write,
    **{f"remote endpoint: {mode}": partial(bad_address, mode) for mode in ("500", "timeout", "garbage")},
}
