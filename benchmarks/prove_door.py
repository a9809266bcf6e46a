"""The door, tried: foreign names and origins, every route that Gradio has, and a network that leads nowhere.

    python -m benchmarks.prove_door [--json] [--suite] [--only cross_origin routes network suite] [--tests PYTEST_ARGUMENT ...]

Starts Hilum with the embedded model on loopback. `cross_origin` sends what a hostile page, a hostile neighbour and a rebound
name would send to every way in, and opens Hilum in a real browser under a name that was pointed at this machine. `routes` reads
Gradio's table and asks for every route that is not on the allow-list. `network` leads a session on the page and one through the
API in a network namespace that has a loopback and no route, under strace, and counts what Hilum's processes tried to reach
(Linux, with unshare, ip and strace); a connection that was meant to be seen has to be seen. `suite` runs the tests there, but
those of a browser, which looks for a network by itself, the slow ones, and the one that asks for a computer by a name that has
none; `--tests` chooses others. It is run when it is asked for.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from playwright.sync_api import Page, sync_playwright

from benchmarks import machine
from benchmarks.load import BROWSERS, FLAGS, ROOT, free_port, running
from chat.engine.base import Sampling
from chat.loading import open_assistant
from chat.settings import Settings
from chat.ui import page
from chat.ui.door import LOBBY, ROOMS
from chat.ui.panels import About
from finetune.phantom import draw_phantom

HOST = "hilum.example.org"
"""A name that the person gave."""

FOREIGN = "evil.example"
ME = "127.0.0.1:{port}"
NAMED = HOST + ":{port}"
WAYS_IN = (
    ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload"), ("POST", "/gradio_api/call/ask"),
    ("POST", "/gradio_api/cancel"), ("POST", "/login"), ("GET", "/gradio_api/queue/data?session_hash=somebody"),
    ("GET", "/gradio_api/heartbeat/somebody"), ("GET", "/gradio_api/call/ask/somebody"),
)  # fmt: skip

Headers = dict[str, str]

HOSTILE: dict[str, Headers] = {
    "a foreign page": {"Host": ME, "Origin": "https://evil.example"},
    "a page without a name": {"Host": ME, "Origin": "null"},
    "a program on another port": {"Host": ME, "Origin": "http://localhost:1"},
    "our name with more behind": {"Host": ME, "Origin": "http://127.0.0.1.evil.example:{port}"},
    "our name as a user": {"Host": ME, "Origin": "http://127.0.0.1:{port}@evil.example"},
    "two origins, one ours": {"Host": ME, "Origin": "http://127.0.0.1:{port}, https://evil.example"},
    "a rebound name": {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    "a rebound name, without origin": {"Host": "evil.example:{port}"},
    "a name that ends in ours": {"Host": "evil-hilum.example.org:{port}", "Origin": "http://evil-hilum.example.org:{port}"},
    "0.0.0.0": {"Host": "0.0.0.0:{port}", "Origin": "http://0.0.0.0:{port}"},
    "no host": {"Host": ""},
    "a foreign page on the named host": {"Host": NAMED, "Origin": "https://evil.example"},
    "the named host, without origin": {"Host": NAMED},
    "an image in a foreign page": {"Host": ME, "Sec-Fetch-Site": "cross-site"},
    "a page of the same site": {"Host": ME, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
    "a foreign page by its referrer": {"Host": ME, "Referer": "https://evil.example/a/page"},
    "a forwarded name": {"Host": ME, "X-Forwarded-Host": "evil.example"},
}
"""Host, Origin and what a browser adds, as somebody else's page would make it send them."""

OURS: dict[str, Headers] = {
    "a client on this machine": {"Host": ME},
    "the page": {"Host": ME, "Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
    "the page as localhost": {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"},
    "the page as IPv6": {"Host": "[::1]:{port}", "Origin": "http://[::1]:{port}"},
    "the page under its name": {"Host": NAMED, "Origin": "http://" + NAMED},
    "the page's stream": {"Host": NAMED, "Referer": "http://" + NAMED + "/"},
}

REFUSED = (403, 421)
TESTS = ["-m", "not browser and not slow", "--deselect", "tests/test_remote.py::test_a_server_that_is_not_there_is_said_so"]


def knock(port: int, method: str, path: str, headers: Headers) -> int:
    """The status of one request; headers hold `{port}`. A stream is left as soon as it begins."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.replace("{port}", str(port)))
        if method == "POST":
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}" if method == "POST" else None)
        return connection.getresponse().status


def through(port: int, cases: dict[str, Headers]) -> dict[str, list[str]]:
    """Which ways in were open to each case."""
    found = {
        name: [path for method, path in WAYS_IN if knock(port, method, path, headers) not in REFUSED]
        for name, headers in cases.items()
    }
    return {name: paths for name, paths in found.items() if paths}


def closed_routes(app: Any) -> list[tuple[str, str]]:
    """Method and path of every route of a Gradio application that is on no allow-list of the door."""
    allowed = {(method, path) for path, methods in (LOBBY | ROOMS).items() for method in methods.split()}
    return sorted(set(_routes(app.routes)) - allowed)


def _routes(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router.routes)
        else:
            for method in getattr(route, "methods", None) or {"GET"}:
                yield method, route.path


def answering(port: int, closed: Iterable[tuple[str, str]]) -> list[str]:
    """Those of the closed routes that do not say 404."""
    asked = [(method, path, re.sub(r"{\w+(:path)?}", "1", path)) for method, path in closed]
    return [f"{method} {path}" for method, path, sample in asked if knock(port, method, sample, {"Host": ME}) != 404]


def gradio_app() -> Any:
    """Gradio's application as it serves the page."""
    blocks = page.build(open_assistant(Settings()), About("", "", "", True, 0), Sampling(1), "en", 1)
    page.launch(blocks, "127.0.0.1", free_port())
    blocks.close(verbose=False)
    return blocks.app


@contextmanager
def opened(browser_path: str | None, flags: Iterable[str] = ()) -> Iterator[Page]:
    """An empty page in a browser of its own."""
    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=browser_path, args=[*FLAGS, *flags])) as browser,
    ):
        yield browser.new_page(locale="en-US")


def rebound(port: int, browser_path: str) -> int:
    """The status that a real browser gets under a name that was pointed at this machine."""
    rules = [f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"]
    with opened(browser_path, rules) as shown:
        response = shown.goto(f"http://{FOREIGN}:{port}/")
        return response.status if response else 0


def prove_cross_origin(port: int) -> dict[str, object]:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    return {
        "hostile": len(HOSTILE), "requests": len(HOSTILE) * len(WAYS_IN), "through": through(port, HOSTILE),
        "ours_refused": sorted(set(OURS) - set(through(port, OURS))),
        "rebound_in_browser": rebound(port, browser_path) if browser_path else "not measured: install Chromium",
    }  # fmt: skip


def prove_routes(port: int) -> dict[str, object]:
    closed = closed_routes(gradio_app())
    return {"allowed": len(LOBBY | ROOMS), "closed": len(closed), "answering": answering(port, closed)}


def attempts(trace: str) -> list[str]:
    """What `strace -e trace=connect,sendto,sendmsg,sendmmsg` saw that leads off this machine; asking for a name counts."""
    found = re.findall(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|AF_INET6, ")([^"]+)"', trace)
    return [f"{address}:{port}" for port, address in found if port == "53" or not re.match(r"127\.|::1$|::ffff:127\.", address)]


def traced(folder: Path, command: list[str]) -> tuple[list[str], Path]:
    """A command under strace, as a child of its own, and the file in which it is traced."""
    trace = folder / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(trace), *command], trace


def lead_sessions(url: str, folder: Path) -> dict[str, object]:
    """A conversation on the page and one through the API; what the page asked for elsewhere."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    asked: list[str] = []
    with opened(browser_path) as shown:
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(url)
        shown.locator("body[data-hilum=open]").wait_for()
        shown.locator(".gallery button").first.click()
        shown.locator(".chips button").first.click()
        shown.locator(".turn[data-state=done], .turn[data-state=cut]").wait_for(timeout=300_000)
        said = len(shown.locator(".turn .answer p").inner_text())
    picture = folder / "film.png"
    draw_phantom(np.random.default_rng(1)).image.convert("L").save(picture)
    client, options = Client(url, verbose=False), '{"max_new_tokens": 24}'
    client.predict(handle_file(str(picture)), "Is there an opacity?", options, api_name="/ask")
    client.predict(handle_file(str(picture)), api_name="/examine")
    client.predict(None, "en", options, api_name="/report")
    client.close()
    elsewhere = [address for address in asked if not address.startswith((url, "data:", "blob:"))]
    return {"page_answer_characters": said, "page_requests": len(asked), "page_requests_elsewhere": elsewhere}


def to_the_end(folder: Path, *python: str) -> dict[str, object]:
    """What a run of Python tried to reach, and how it ended."""
    command, trace = traced(folder, [sys.executable, *python])
    command.remove("-D")  # strace then ends after its child, with all of it written
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    return {"attempts": attempts(trace.read_text("utf-8", "replace")), "exit_code": done.returncode}


def inside(folder: Path, tests: list[str] | None) -> dict[str, object]:
    """What is done in the namespace: the tests, or else sessions."""
    seen = to_the_end(folder, "-c", "import socket; socket.socket().connect_ex(('192.0.2.1', 443))")["attempts"]
    if tests is not None:
        return to_the_end(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests) | {"control_seen": seen}
    port = free_port()
    command, trace = traced(folder, [sys.executable, str(ROOT / "app.py"), "serve", "--port", str(port)])
    url = f"http://127.0.0.1:{port}/"
    with running([*command, "--temperature", "0", "--max-new-tokens", "48"], folder, url):
        found = lead_sessions(url, folder)
    text = trace.read_text("utf-8")
    return {"attempts": attempts(text), "calls_traced": text.count("\n"), "control_seen": seen, **found}


def prove_network(scratch: Path, tests: list[str] | None = None) -> dict[str, object]:
    missing = [name for name in ("unshare", "ip", "strace") if not shutil.which(name)]
    if missing or (tests is None and not any(map(shutil.which, BROWSERS))):
        return {"not_measured": f"install {', '.join(missing) or 'Chromium'}"}
    again = [sys.executable, "-m", "benchmarks.prove_door", "--inside", str(scratch)]
    again += ["--only", "suite", "--tests", *tests] if tests is not None else []
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *again]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"not_measured": f"the namespace ended with {done.returncode}; are unprivileged user namespaces allowed?"}
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove_door", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="the result as one JSON line")
    parser.add_argument("--only", nargs="+", choices=("cross_origin", "routes", "network", "suite"), metavar="ROW")
    parser.add_argument("--suite", action="store_true", help="the tests without a route, too")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, default=TESTS, help="last: what pytest is given")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(inside(given.inside, given.tests if given.only else None)))
        return
    rows = (given.only or ["cross_origin", "routes", "network"]) + ["suite"] * given.suite
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        if {"cross_origin", "routes"} & set(rows):
            port = free_port()
            hilum = [sys.executable, str(ROOT / "app.py"), "serve", "--port", str(port), "--hosts", HOST]
            with running(hilum, Path(folder), f"http://127.0.0.1:{port}/"):
                result |= {"cross_origin": prove_cross_origin(port)} if "cross_origin" in rows else {}
                result |= {"routes": prove_routes(port)} if "routes" in rows else {}
        if "network" in rows:
            result["network"] = prove_network(Path(folder))
        if "suite" in rows:
            result["suite"] = prove_network(Path(folder), given.tests)
    print(json.dumps(result | {"machine": machine.describe()}, indent=None if given.json else 2))


if __name__ == "__main__":
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    main()
