"""The door: who may come in, to what, and what every response says; real servers on loopback, and a real browser."""

import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import gradio as gr
import httpx
import pytest
import tiny
from browsing import FLAGS
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, expect, sync_playwright
from pydantic import SecretStr
from remote_server import Misbehaving, bad_server
from served import free_port
from starlette.responses import PlainTextResponse

import app
from benchmarks import prove_door
from chat.assistant import Assistant
from chat.engine.base import Sampling
from chat.engine.remote import connect
from chat.settings import SettingsError, read_settings
from chat.ui import lan, page
from chat.ui.door import HEADERS, LOBBY, MOST_OF_A_STRANGER, MOST_WORDS, ROOMS, Door, House
from chat.ui.lan import Access, Attempts, check_port, open_access
from chat.ui.panels import About

HOST = prove_door.HOST
USER, PASSWORD = "doctor", "a long: pass phrase"
NOWHERE = Path("/nowhere/.env")

CLOSED = """
GET /config/ | POST /gradio_api/api/{api_name} | POST /gradio_api/api/{api_name}/ | GET /gradio_api/app_id
GET /gradio_api/app_id/ | POST /gradio_api/call/v2/{api_name} | POST /gradio_api/call/v2/{api_name}/
GET /gradio_api/call/v2/{api_name}/{event_id} | POST /gradio_api/call/{api_name}/ | POST /gradio_api/component_server
GET /gradio_api/custom_component/{id}/{environment}/{type}/{file_name} | GET /gradio_api/deep_link
GET /gradio_api/dev/reload | GET /gradio_api/file/{path:path} | GET /gradio_api/file={path_or_url:path}
HEAD /gradio_api/file={path_or_url:path} | GET /gradio_api/info/ | GET /gradio_api/login_check | GET /gradio_api/login_check/
GET /gradio_api/openapi.json | POST /gradio_api/process_recording | GET /gradio_api/proxy={url_path:path}
HEAD /gradio_api/proxy={url_path:path} | GET /gradio_api/queue/status | POST /gradio_api/reset | POST /gradio_api/reset/
POST /gradio_api/run/{api_name}/ | GET /gradio_api/runs | GET /gradio_api/runs/ | POST /gradio_api/stream/{event_id}
POST /gradio_api/stream/{event_id}/close | GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext} | GET /gradio_api/theme.css
GET /gradio_api/token | GET /gradio_api/token/ | POST /gradio_api/undo-vibe-edit | POST /gradio_api/undo-vibe-edit/
GET /gradio_api/upload_progress | GET /gradio_api/user | GET /gradio_api/user/ | GET /gradio_api/vibe-code
POST /gradio_api/vibe-code | GET /gradio_api/vibe-code/ | POST /gradio_api/vibe-code/ | POST /gradio_api/vibe-edit
POST /gradio_api/vibe-edit/ | POST /gradio_api/vibe-starter-queries | POST /gradio_api/vibe-starter-queries/ | POST /login/
GET /manifest.json | GET /monitoring | GET /monitoring/summary | GET /monitoring/{key} | GET /openapi.json | HEAD /openapi.json
GET /pwa_icon | GET /pwa_icon/{size} | GET /robots.txt | GET /svelte/{path:path}
"""
"""Every route of Gradio that is closed. Look at what a new one does before it is written here or in chat/ui/door.py."""


def small_page() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as blocks:
        word, file, said = gr.Textbox(), gr.File(), gr.Textbox()
        gr.Button().click(lambda word: word, word, said, api_name="echo")
        gr.Button().click(str, file, said, api_name="take")
    built: gr.Blocks = blocks
    return built


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.Blocks]:
    """Served on loopback, with a name of its own."""
    blocks = small_page()
    page.launch(blocks, "127.0.0.1", free_port(), Access(frozenset({HOST})))
    yield blocks
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def port(house: gr.Blocks) -> int:
    return int(house.server_port)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("No openssl to make a certificate with.")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{HOST}"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=hilum", "-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def lan_url(pair: tuple[Path, Path]) -> Iterator[str]:
    """As --lan serves it, with login and TLS, though on loopback alone; no password has been tried yet."""
    blocks = small_page()
    access = open_access(HOST, SecretStr(f"{USER}:{PASSWORD}"), None, *pair, is_contained=False)
    yield page.launch(blocks, "127.0.0.1", free_port(), access)
    blocks.close(verbose=False)


def ask(url: str, method: str, path: str, body: str = "", **headers: str) -> tuple[int, Any, str]:
    """Status, headers and text of one request; header names are written with _."""
    parts, context = urlsplit(url), ssl._create_unverified_context()
    there = f"{parts.hostname}:{parts.port}"
    connection = (
        HTTPSConnection(there, timeout=20, context=context) if parts.scheme == "https" else HTTPConnection(there, timeout=20)
    )
    with closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, body.encode() if method == "POST" else None, {"Content-Type": "application/json", **named}
        )
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()


@pytest.mark.parametrize("name", prove_door.HOSTILE)
def test_what_is_not_ours_comes_in_nowhere(name: str, port: int) -> None:
    assert prove_door.through(port, {name: prove_door.HOSTILE[name]}) == {}


@pytest.mark.parametrize("name", prove_door.OURS)
def test_what_is_ours_comes_in_everywhere(name: str, port: int) -> None:
    assert prove_door.through(port, {name: prove_door.OURS[name]}) == {name: [path for _, path in prove_door.WAYS_IN]}


@pytest.mark.parametrize(
    ("client", "is_contained", "status"), [("10.0.0.9", False, 403), ("10.0.0.9", True, 200), ("127.0.0.1", False, 200)]
)
def test_a_request_without_an_origin_passes_on_this_machine_and_in_a_container(
    client: str, is_contained: bool, status: int
) -> None:
    inside = PlainTextResponse("in")
    door = Door(inside, House("127.0.0.1", Access()), Access(is_contained=is_contained), Attempts())

    async def knock() -> int:
        transport = httpx.ASGITransport(door, client=(client, 1))
        async with httpx.AsyncClient(transport=transport) as there:
            return (await there.get("http://127.0.0.1:7860/gradio_api/queue/data")).status_code

    assert anyio.run(knock) == status


def test_a_rebound_or_foreign_name_is_not_even_shown_the_page(house: gr.Blocks) -> None:
    status, _, text = ask(house.local_url, "GET", "/", Host="evil.example")
    assert status == 421 and "--hosts" in text and text.count(".") <= 4 and "gradio" not in text
    for path in ("/config", "/assets/x.js", "/theme.css"):
        assert ask(house.local_url, "GET", path, Host="evil.example")[0] == 421
        assert ask(house.local_url, "GET", path, Origin="https://evil.example")[0] == 403


def test_a_link_in_a_foreign_page_opens_hilum_and_a_frame_does_not(house: gr.Blocks) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    status, headers, _ = ask(house.local_url, "GET", "/", **link)
    assert (
        status == 200
        and headers["X-Frame-Options"] == "DENY"
        and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    )
    assert ask(house.local_url, "GET", "/logout", **link)[0] == 403
    assert ask(house.local_url, "GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403


def test_no_foreign_page_is_told_that_it_may_read_an_answer(house: gr.Blocks) -> None:
    for origin, host in (
        ("https://evil.example", HOST),
        ("https://evil.example", "127.0.0.1"),
        (f"http://{HOST}:1", f"{HOST}:1"),
    ):
        for method in ("OPTIONS", "GET"):
            _, headers, _ = ask(
                house.local_url, method, "/config", Host=host, Origin=origin, Access_Control_Request_Method="POST"
            )
            assert [name for name in headers if name.lower().startswith("access-control")] == []


def test_gradio_has_no_route_that_nobody_has_looked_at(house: gr.Blocks) -> None:
    closed = [tuple(route.split()) for route in CLOSED.replace("\n", "|").split("|") if route.strip()]
    assert prove_door.closed_routes(house.app) == sorted(closed)
    existing = set(prove_door._routes(house.app.routes))
    assert {(m, path) for path, methods in (LOBBY | ROOMS).items() for m in methods.split()} <= existing


def test_every_route_that_is_not_on_the_list_is_not_there(house: gr.Blocks, port: int) -> None:
    assert prove_door.answering(port, prove_door.closed_routes(house.app)) == []
    for path in (
        "/gradio_api//queue/data",
        "/gradio_api/../config",
        "/GRADIO_API/info",
        "/gradio_api/file=http://evil.example/",
    ):
        assert ask(house.local_url, "GET", path)[0] == 404
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "HEAD"):
        assert ask(house.local_url, method, "/config")[0] == 404


def test_every_response_is_dressed_and_only_gradios_own_code_is_kept(house: gr.Blocks) -> None:
    script = re.search(r'src="\./(assets/[^"]+\.js)"', ask(house.local_url, "GET", "/")[2])
    assert script
    for path, status in (("/", 200), ("/config", 200), ("/gradio_api/info", 200), ("/theme.css", 200), ("/nowhere", 404),
                         ("/assets/nothing.js", 404), (f"/{script[1]}", 200)):  # fmt: skip
        found, headers, _ = ask(house.local_url, "GET", path)
        assert found == status and {name: headers[name] for name in HEADERS} == HEADERS
        assert (headers["Cache-Control"] == "no-store") == (path != f"/{script[1]}")


def test_a_body_without_a_length_or_an_endless_one_is_refused(house: gr.Blocks) -> None:
    parts = urlsplit(house.local_url)
    assert ask(house.local_url, "POST", "/login", "a" * (1 + MOST_OF_A_STRANGER))[0] == 413
    assert ask(house.local_url, "GET", "/assets/" + "a" * 5000)[0] == 404
    for header, status in ((f"Content-Length: {MOST_WORDS + 1}", b"413"), ("Transfer-Encoding: chunked", b"411")):
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as line:
            line.sendall(f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
            assert line.recv(64).split()[1] == status


def test_a_client_is_answered_and_nothing_is_fetched_from_an_address(house: gr.Blocks) -> None:
    client = Client(house.local_url, verbose=False)
    assert client.predict("hello", api_name="/echo") == "hello"
    with pytest.raises(AppError, match="fetches nothing from an address"):
        client.predict({"path": "http://192.0.2.1/x.png", "meta": {"_type": "gradio.FileData"}}, api_name="/take")


def test_a_proxy_of_the_environment_never_hears_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        blocks = small_page()
        page.launch(blocks, "127.0.0.1", free_port())
        blocks.close(verbose=False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def log_in(url: str, user: str = USER, password: str = PASSWORD, **headers: str) -> httpx.Response:
    with httpx.Client(verify=False, trust_env=False, headers={"Origin": url.rstrip("/"), **headers}) as client:
        return client.post(f"{url}login", data={"username": user, "password": password})


def test_without_a_login_there_is_a_page_that_asks_for_it_and_nothing_else(lan_url: str) -> None:
    status, _, text = ask(lan_url, "GET", "/")
    assert status == 200 and '"auth_required":true' in text and "echo" not in text.partition("gradio_api_info")[0]
    for method, path in prove_door.WAYS_IN:
        if path != "/login":
            assert ask(lan_url, method, path, "{}")[0] == 401, path
    assert ask(lan_url, "GET", "/config")[0] == 401 and ask(lan_url, "GET", "/gradio_api/info")[0] == 401


def test_who_has_logged_in_is_answered_over_tls(lan_url: str) -> None:
    response = log_in(lan_url)
    (cookie,) = response.headers.get_list("set-cookie")
    assert response.status_code == 200
    assert {"httponly", "secure", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
    client = Client(
        lan_url, verbose=False, ssl_verify=False, headers={"Origin": lan_url.rstrip("/"), "Cookie": cookie.partition(";")[0]}
    )
    assert client.predict("hello", api_name="/echo") == "hello"
    assert Client(lan_url, verbose=False, ssl_verify=False, auth=(USER, PASSWORD)).predict("again", api_name="/echo") == "again"


def test_plain_http_is_not_spoken_where_tls_is(lan_url: str) -> None:
    with pytest.raises((ConnectionError, OSError)):
        ask(lan_url.replace("https", "http"), "GET", "/")
    named = {"Host": f"{HOST}:443", "Content_Type": "application/x-www-form-urlencoded"}
    assert ask(lan_url, "POST", "/login", Origin=f"http://{HOST}:443", **named)[0] == 403
    assert ask(lan_url, "POST", "/login", Origin=f"https://{HOST}", **named)[0] == 422


def test_a_password_may_be_tried_five_times(lan_url: str) -> None:
    for uncounted in ({}, {"user": ""}):  # a right one, and none
        log_in(lan_url, **uncounted)
    for number in range(lan.MOST_WRONG):
        assert log_in(lan_url, password="guess").status_code == 400, number
        assert log_in(lan_url, Origin="https://evil.example").status_code == 403  # takes nothing back
    refused = log_in(lan_url)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0 and "15 minutes" in refused.text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_wrong_passwords_are_forgotten_after_a_while_and_counted_in_all() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    assert [attempts.begin("10.0.0.1") for _ in range(6)] == [True] * 5 + [False]
    assert attempts.begin("10.0.0.2")
    clock.now = lan.WINDOW_SECONDS
    assert attempts.begin("10.0.0.1")
    many = [attempts.begin(f"10.0.1.{n}") for n in range(lan.MOST_WRONG_IN_ALL)]
    assert many == [True] * (lan.MOST_WRONG_IN_ALL - 1) + [False]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=120))
def test_no_order_of_tries_gives_an_address_more_than_five_wrong_ones(tries: list[tuple[int, bool]]) -> None:
    attempts, wrong = Attempts(Clock()), [0] * 4
    for number, is_right in tries:
        address = f"2001:db8::{number // 2}:{number}" if number > 1 else f"10.0.0.{number}"
        if attempts.begin(address):
            if is_right:
                attempts.take_back(address)
            else:
                wrong[number] += 1
    assert max(wrong[:2]) <= lan.MOST_WRONG and wrong[2] + wrong[3] <= lan.MOST_WRONG  # one household of IPv6


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"host": "0.0.0.0"}, "only --lan or HILUM_CONTAINER=1"),
        ({"lan": True}, "needs --tls-certificate and --tls-key, and user:password"),
        ({"lan": True, "tls_certificate": "a", "tls_key": "b"}, "HILUM_LOGIN or --login-file"),
        ({"hosts": "https://hilum.example.org"}, "names alone"),
        ({"hosts": "*"}, "names alone"),
        ({"hosts": "hilum.example.org:443"}, "names alone"),
    ],
)
def test_a_door_that_cannot_be_locked_is_not_opened(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)) as caught:
        read_settings(given, NOWHERE)
    assert "\n" not in str(caught.value)


def test_lan_listens_on_every_network_unless_an_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_LOGIN", f"{USER}:{PASSWORD}")
    locked = {"tls_certificate": "a.pem", "tls_key": "b.pem", "lan": "true", "hosts": "hilum.example.org, 10.0.0.7 [fd00::7]"}
    assert read_settings(locked, NOWHERE).listen == "0.0.0.0"
    assert read_settings({**locked, "host": "10.0.0.7"}, NOWHERE).listen == "10.0.0.7"
    assert read_settings({}, NOWHERE).listen == "127.0.0.1"
    assert PASSWORD not in repr(read_settings(locked, NOWHERE))


def test_no_share_link_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app.main(["--share"])
    said = capsys.readouterr().err
    assert "no share link" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("doctor:a long pass phrase\n", 0o644, "chmod 600"),
        ("doctor:short\n", 0o600, "at least 12 characters"),
        ("doctor\n", 0o600, "user:password"),
        ("\n", 0o600, "is empty"),
        (None, 0, "cannot be read"),
    ],
)
def test_a_login_file_that_will_not_do_is_named_without_its_words(
    text: str | None, mode: int, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "login"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(SettingsError, match=sentence) as caught:
        open_access("", None, file, None, None, is_contained=False)
    assert "phrase" not in str(caught.value) and "short" not in str(caught.value)


def test_accounts_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("a:first pass phrase\nb: second: one \n")
    file.chmod(0o600)
    access = open_access("", SecretStr("c:a third pass phrase"), file, None, None, is_contained=False)
    assert dict(access.accounts) == {"a": "first pass phrase", "b": " second: one ", "c": "a third pass phrase"}
    assert "phrase" not in repr(access)


def test_a_certificate_that_does_not_fit_its_key_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-in", str(key), "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    for one, other in (
        (certificate, None),
        (None, key),
        (certificate, certificate),
        (tmp_path / "none", key),
        (certificate, locked),
    ):
        with pytest.raises(SettingsError, match=r"--tls-certificate=.* cannot be used: "):
            open_access("", None, None, one, other, is_contained=False)


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    in_use = pytest.raises(SettingsError, match="is in use by another program")
    with socket.create_server(("127.0.0.1", 0)) as taken, in_use:
        check_port("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(SettingsError, match="not an address of this machine"):
        check_port("203.0.113.7", free_port())


class Trap:
    """A server that nobody is to call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with line:
                self.calls.append(line.recv(1024).decode("latin-1").partition("\r")[0])
                line.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    def close(self) -> None:
        self._listener.close()


BREAK_OUT = """async (url) => {
    const broken = [];
    document.addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
    await Promise.allSettled([fetch(url), fetch(url, { mode: "no-cors" })]);
    await new Promise((go) => Object.assign(new Image(), { onerror: go, src: url }));
    return broken;
}"""
"""What a script would try that got into the page after all; comes back with the rules that stopped it."""


@pytest.fixture
def browser_page(chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser.new_page(locale="en-US", ignore_https_errors=True)
        browser.close()


@pytest.mark.browser
def test_what_a_model_writes_is_text_that_fetches_and_runs_nothing(
    browser_page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with closing(Trap()) as trap:
        answer = (
            f"![x]({trap.url}/a) <img src={trap.url}/b onerror=alert(1)> <script src={trap.url}/c></script> "
            f"[go](javascript:fetch('{trap.url}/d')) <iframe src={trap.url}/e></iframe> <style>@import '{trap.url}/f'</style> "
            f"<svg onload=fetch('{trap.url}/g')> <link rel=prefetch href={trap.url}/h>"
        )

        def speak(request: Misbehaving) -> None:
            request.begin()
            request.say(answer)
            request.say(finish="stop")
            request.wfile.write(b"data: [DONE]\n\n")

        with bad_server(speak) as bad, closing(connect(bad.address, "anything")) as engine:
            about = About("anything", "127.0.0.1", "", False, 4096, bad.address)
            blocks = page.build(Assistant(engine, engine.input_side), about, Sampling(8, temperature=0), None, 1_000_000)
            browser_page.goto(page.launch(blocks, "127.0.0.1", free_port()))
            browser_page.locator("body[data-hilum=open]").wait_for()
            picture = tmp_path / "picture.png"
            tiny.picture(1, (tiny.SIDE, 40)).save(picture)
            browser_page.locator("#hilum-stage input[type=file]").set_input_files(picture)
            expect(browser_page.locator(".size")).to_be_visible(timeout=20_000)
            browser_page.fill("#hilum-question", "What is here?")
            browser_page.press("#hilum-question", "Enter")
            expect(browser_page.locator(".turn .answer p").first).to_have_text(answer, timeout=20_000)
            assert browser_page.locator(".turn :is(img, script, a, iframe, style, link)").count() == 0
            assert trap.calls == []
            broken: list[str] = browser_page.evaluate(BREAK_OUT, f"{trap.url}/script")
            assert broken == ["connect-src", "connect-src", "img-src"] and trap.calls == []
            blocks.close(verbose=False)
        browser_page.goto(f"{trap.url}/control")
        assert trap.calls[0] == "GET /control HTTP/1.1"


@pytest.mark.browser
def test_a_person_logs_in_on_the_page_and_is_answered(browser_page: Page, lan_url: str) -> None:
    errors: list[str] = []
    browser_page.on("pageerror", lambda error: errors.append(str(error)))
    browser_page.goto(lan_url)
    browser_page.get_by_label("username").fill(USER)
    browser_page.get_by_label("password").fill(PASSWORD)
    browser_page.get_by_role("button", name="Login").click()
    expect(browser_page.get_by_role("textbox").first).to_be_visible(timeout=20_000)
    browser_page.wait_for_load_state("networkidle")  # what is typed before its scripts have run is lost
    browser_page.locator("textarea, input[type=text]").first.fill("from a person")
    browser_page.get_by_role("button", name="Run").first.click()
    expect(browser_page.locator("textarea, input[type=text]").last).to_have_value("from a person", timeout=20_000)
    assert errors == []


@pytest.mark.browser
def test_a_name_pointed_at_this_machine_shows_a_browser_one_sentence(port: int, chromium: str) -> None:
    assert prove_door.rebound(port, chromium) == 421


def test_what_leaves_the_machine_is_seen_in_a_trace_and_what_stays_is_not() -> None:
    stays = 'connect(3, {sa_family=AF_INET, sin_port=htons(7860), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n'
    stays += 'connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = -1\n'
    stays += (
        'connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr)'
    )
    leaves = stays.replace("127.0.0.1", "192.0.2.1").replace('"::1"', '"2001:db8::1"').replace("(7860)", "(443)")
    assert prove_door.attempts(stays) == []
    assert prove_door.attempts(leaves) == ["192.0.2.1:443", "2001:db8::1:80"]
    assert prove_door.attempts(stays.replace("7860", "53")) == ["127.0.0.1:53"]
