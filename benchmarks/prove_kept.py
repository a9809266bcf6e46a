"""Nothing is kept: what is on this machine after Hilum was ended in the middle of something.

    python -m benchmarks.prove_kept [--quick] [--only KILL search browser] [--at-once 1] [--json]

Starts the real app with the embedded model, gives it pictures and questions that hold canaries (32 bytes that exist nowhere
else) in the text, the file's name, EXIF or a DICOM tag, and in the pixels, and ends it by TERM, INT or KILL in one of six
phases: idle, upload, prefill, decode, search, export. Each once from a real browser and once from an API client; a pasted
picture and a DICOM file once per signal: 42 cases. Then every writable mount, the log and the browser's profile are read,
every file that has changed since the start, for canaries as bytes, UTF-16, base64 and RGB pixels. Where strace is installed
it lists the paths that were opened for writing. A line on stderr tells when a phase begins; the app then waits there for two
seconds, so that the signal meets it. Linux; the cases with a browser need Chromium.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks import machine
from benchmarks.canaries import Case, film, forms, mounts, search, written
from benchmarks.load import BROWSERS, FLAGS, free_port
from chat.ui.vault import PREFIX

ROOT = Path(__file__).parents[1]
SIGNALS = ("TERM", "INT", "KILL")
PHASES = ("idle", "upload", "prefill", "decode", "search", "export")
SECONDS = 240
CALLS = "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"

TAP = """
import sys, time
phase = sys.argv.pop(1)
sys.argv[0] = "app.py"
import app
from chat.engine.local import LocalEngine
from chat.report import export

def tell(name):
    if name == phase:
        print("phase", name, file=sys.stderr, flush=True)
        time.sleep(2)

def before(name, act):
    def told(*given, **named):
        tell(name)
        return act(*given, **named)
    return told

answer = LocalEngine._answer
def told_answer(*given):
    tell("prefill")
    for delta in answer(*given):
        yield delta
        tell("decode")
LocalEngine._answer = told_answer
LocalEngine.choose, LocalEngine.features = before("search", LocalEngine.choose), before("search", LocalEngine.features)
export.export, export.as_object = before("export", export.export), before("export", export.as_object)
app.main()
"""
"""Hilum as it is, told to say when a phase begins and to stay in it for two seconds."""


def cases(run: str, is_quick: bool, only: Sequence[str] = ()) -> list[Case]:
    ways = [(each, phase, way) for phase in PHASES for each in SIGNALS for way in ("browser", "api")]
    ways += [(each, "idle", way) for each in SIGNALS for way in ("paste", "dicom")]
    if is_quick:
        ways = [("KILL", "decode", "api"), ("TERM", "upload", "api"), ("INT", "idle", "dicom")]
    return [Case(*way, number, run) for number, way in enumerate(ways) if {*only} <= {*way}]


@dataclass
class Hilum:
    """The app under way: the process that was started (it may be strace), its own, its log, and its trace."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    pid: int
    trace: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def vault(self) -> Path | None:
        for held in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if (place := held.readlink()).name.startswith(PREFIX):
                    return place
        return None

    def wait_for(self, line: str) -> None:
        _wait(lambda: line in self.log.read_text("utf-8", "replace"), f"{line!r} in the log")

    def end(self, name: str) -> bool:
        """Send the signal; whether everything that was started has ended and the vault is gone."""
        vault = self.vault
        os.kill(self.pid, getattr(signal, f"SIG{name}"))
        try:
            self.process.wait(SECONDS)
            _wait(lambda: vault is not None and not vault.exists(), "an end of the vault")
        except (subprocess.TimeoutExpired, TimeoutError):
            return False
        return True


def _wait(claim: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not claim():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {SECONDS} s for {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def hilum(scratch: Path, phase: str) -> Iterator[Hilum]:
    port, log, trace = free_port(), scratch / "log", scratch / "strace"
    command = [sys.executable, "-c", TAP, phase, "serve", "--port", str(port), "--model", str(ROOT / "models" / "hilum-tiny")]
    if phase == "export":
        command += ["--classifier", "none"]  # which would refuse to call a drawn picture a film, and so a report about it
    if shutil.which("strace"):
        command = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-o", str(trace), *command]
    own = {name: value for name, value in os.environ.items() if not name.startswith("HILUM_")}
    own |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=scratch, env=own, stdout=out, stderr=out)
    house = Hilum(process, log, port, process.pid)
    try:
        house.wait_for("Hilum is ready")
        if shutil.which("strace"):
            house.trace = trace
            house.pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        yield house
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(house.pid, signal.SIGKILL)
        process.wait()


def by_api(house: Hilum, case: Case) -> http.client.HTTPConnection:
    """What a client does up to the phase; the line is held until Hilum has ended."""
    boundary, name, question = "hilum-boundary", f"{case.canary('n')}.tiff", f"Where is {case.canary('t')}?"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + film(case) + f"\r\n--{boundary}--\r\n".encode()
    line = http.client.HTTPConnection("127.0.0.1", house.port, timeout=SECONDS)
    line.putrequest("POST", "/gradio_api/upload")
    line.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
    line.putheader("Content-Length", str(len(body)))
    if case.phase == "upload":
        line.endheaders(body[: len(body) // 2])
        _wait(lambda: _size(house.vault) > 0, "half an upload")
        return line
    line.endheaders(body)
    (path,) = json.loads(line.getresponse().read())
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    calls = {"search": ("find", [file, None, question, "4"]), "export": ("report", [file, "en", None])}
    called, given = calls.get(case.phase, ("ask", [file, question, '{"max_new_tokens": 64}']))
    line.request("POST", f"/gradio_api/call/{called}", json.dumps({"data": given}), {"Content-Type": "application/json"})
    event = json.loads(line.getresponse().read())["event_id"]
    line.request("GET", f"/gradio_api/call/{called}/{event}")
    if case.phase != "idle":
        house.wait_for(f"phase {case.phase}")
    elif "complete" not in (said := line.getresponse().read().decode()):
        raise RuntimeError(f"no answer: {said[:200]}")
    return line


def _size(vault: Path | None) -> int:
    return sum(file.stat().st_size for file in vault.rglob("*") if file.is_file()) if vault else 0


def by_browser(page: Page, house: Hilum, case: Case) -> None:
    """What a person does up to the phase."""
    page.set_default_timeout(SECONDS * 1000)
    page.goto(house.url)
    page.locator("body[data-hilum=open]").wait_for()
    name = f"{case.canary('n')}.tiff"
    if case.phase == "upload":
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 400_000}
        page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    data = film(case, 2000 if case.phase == "upload" else 0)
    if case.way == "paste":
        page.evaluate(PASTE, [base64.b64encode(data).decode(), name])
    else:
        page.locator(".stage input[type=file]").set_input_files({"name": name, "mimeType": "image/tiff", "buffer": data})
    if case.phase == "upload":
        _wait(lambda: _size(house.vault) > 0, "a part of an upload")
        return
    page.locator(".shown .size").wait_for()
    if case.phase == "search":
        page.locator("#hilum-search button.tool").first.click()
        page.locator("#hilum-search input[type=text]").fill(case.canary("t"))
        page.locator("#hilum-search button.start").click()
    else:
        page.fill("#hilum-question", f"Where is {case.canary('t')}?")
        page.press("#hilum-question", "Enter")
    if case.phase in ("idle", "export"):
        page.locator(".turn:is([data-state=done], [data-state=cut])").wait_for()
    if case.phase == "export":
        page.locator(".report-open").click()
        page.locator(".saving button:enabled").last.click()
    if case.phase != "idle":
        house.wait_for(f"phase {case.phase}")


PASTE = """([text, name]) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""


def run(case: Case, scratch: Path) -> tuple[bool, set[str]]:
    """Whether the app ended as it has to, and the paths that it opened for writing outside the vault."""
    with hilum(scratch, case.phase) as house:
        vault = str(house.vault)
        if case.way in ("browser", "paste"):
            browser = next(filter(None, map(shutil.which, BROWSERS)))
            with sync_playwright() as playwright:
                profile = playwright.chromium.launch_persistent_context(
                    scratch / "profile", executable_path=browser, args=FLAGS, locale="en-US", accept_downloads=False
                )
                by_browser(profile.pages[0], house, case)
                has_ended = house.end(case.signal)
                profile.close()
        else:
            with contextlib.closing(by_api(house, case)):
                has_ended = house.end(case.signal)
    return has_ended, written(house.trace, vault) if house.trace else set()


def attempt(case: Case, folder: Path) -> tuple[bool, set[str]]:
    """One case in a folder of its own; once more where a busy machine did not let it come to its phase."""
    for number in range(2):
        scratch = folder / f"{case.number}-{number}"
        scratch.mkdir()
        try:
            has_ended, paths = run(case, scratch)
            break
        except Exception as error:
            has_ended, paths = False, set[str]()
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    print(f"{case.number + 1:2} {case.signal:4} {case.phase:7} {case.way:7} ended: {has_ended}", file=sys.stderr, flush=True)
    return has_ended, paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three cases without a browser, and only where files pass through")
    words = (*SIGNALS, *PHASES, "browser", "api", "paste", "dicom")
    parser.add_argument("--only", nargs="+", default=(), choices=words, metavar="WORD", help=f"of {', '.join(words)}: in all")
    parser.add_argument("--at-once", type=int, default=1, choices=range(1, 9), metavar="1..8", help="cases")
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    run_name, since = secrets.token_hex(6), time.time() - 1
    look, planned = forms(run_name), cases(run_name, args.quick, args.only)
    with tempfile.TemporaryDirectory(prefix="hilum-kept-") as folder:
        places = [Path("/dev/shm"), Path(folder)] if args.quick else mounts()
        control = Path(folder, "control")
        control.write_bytes(base64.b64encode(f"x{run_name}".encode() + bytes(9)) + planned[0].canary("c").encode())
        seen = len(search([control.parent], since, look)[0])  # once in base64, once as it is
        control.unlink()
        with ThreadPoolExecutor(args.at_once) as pool:
            done = list(pool.map(lambda case: attempt(case, Path(folder)), planned))
        found, read = search(places, since, look)
    ended = sum(has_ended for has_ended, _ in done)
    outside = {re.sub(re.escape(folder) + r"/[\d-]+", "SCRATCH", path) for _, paths in done for path in paths}
    result = {
        "cases": len(planned), "clean": ended if not found else 0, "bytes": 32 * len(found), "found_in": sorted(set(found)),
        "control_seen": seen == 2, "files_read": read, "searched": list(map(str, places)),
        "written_outside": sorted(outside) if shutil.which("strace") else "strace is not installed",
    }  # fmt: skip
    print(json.dumps({"persistence": result, "machine": machine.describe()}, indent=None if args.json else 1))
    raise SystemExit(0 if result["clean"] == len(planned) and seen == 2 else 1)


if __name__ == "__main__":
    main()
