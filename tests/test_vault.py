"""The vault, whose what lies in it is, and what can be forgotten: real processes and signals, a real server, a real browser."""

import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny
from browsing import Opened, ask, drop
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, expect
from served import Served, serve

from benchmarks.canaries import Case, forms
from chat.assistant import RequestError
from chat.conversation import Conversation
from chat.ui import owners, upload
from chat.ui.desk import Desk, Exchange
from chat.ui.keeping import audit
from chat.ui.kept_words import KEPT
from chat.ui.owners import NOBODY
from chat.ui.vault import PREFIX, file_system, swaps_on_disk
from vision.study import Study

pytest_plugins = ("browsing",)

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "chat" / "ui" / "examples" / "chest.webp"
HOLD = """
import resource, sys
from chat.ui.vault import open_vault
with open_vault() as folder:
    (folder / "held").write_bytes(bytes(1000))
    print(folder, *resource.getrlimit(resource.RLIMIT_CORE), flush=True)
    sys.stdin.read()
"""
needs_memory = pytest.mark.skipif(file_system(Path("/dev/shm")) != "tmpfs", reason="No tmpfs at /dev/shm.")


class Holder:
    """A process that holds a vault until it is told to end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout
        folder, *self.core = self.process.stdout.readline().decode().split()
        self.folder = Path(folder)

    @property
    def watchdog(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.close()

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def hold() -> Iterator[Callable[[], Holder]]:
    held: list[Holder] = []

    def begin() -> Holder:
        held.append(Holder())
        return held[-1]

    yield begin
    for holder in held:
        holder.end()
        assert is_soon(lambda folder=holder.folder: not folder.exists())  # type: ignore[misc]


def is_soon(claim: Callable[[], bool]) -> bool:
    """Whether it comes true while others go on working."""
    return any(claim() or time.sleep(0.05) for _ in range(200))


@needs_memory
def test_the_vault_lies_in_memory_for_its_user_alone_and_no_memory_is_dumped(hold: Callable[[], Holder]) -> None:
    holder = hold()
    assert file_system(holder.folder.parent) in ("tmpfs", "ramfs") and holder.folder.stat().st_mode & 0o777 == 0o700
    assert holder.core == ["0", "0"]


@needs_memory
@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_the_vault_goes_however_its_process_ends(hold: Callable[[], Holder], number: int | None) -> None:
    holder = hold()
    assert (holder.folder / "held").exists()
    holder.end(number) if number else holder.close()
    assert is_soon(lambda: not holder.folder.exists())


@needs_memory
def test_the_watchdog_outlives_what_ends_the_others(hold: Callable[[], Holder]) -> None:
    holder = hold()
    time.sleep(0.2)  # it has to have begun
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(holder.watchdog, number)
    holder.end()
    assert is_soon(lambda: not holder.folder.exists())


@needs_memory
def test_a_sweep_takes_what_was_left_behind_and_nothing_that_is_in_use(hold: Callable[[], Holder]) -> None:
    living, dying = hold(), hold()
    os.kill(dying.watchdog, signal.SIGKILL)
    dying.end()
    other = living.folder.with_name(living.folder.name.replace(PREFIX, "hilum-test-other-"))
    other.mkdir()
    try:
        assert (dying.folder / "held").exists()
        hold()
        assert not dying.folder.exists() and (living.folder / "held").exists() and other.is_dir()
    finally:
        other.rmdir()


@needs_memory
def test_without_memory_for_files_the_start_is_refused_with_what_to_do(tmp_path: Path) -> None:
    if file_system(tmp_path) in ("tmpfs", "ramfs"):
        pytest.skip("The tests' own folder lies in memory.")
    shell = f'mount --bind "{tmp_path}" /dev/shm && TMPDIR="{tmp_path}" XDG_RUNTIME_DIR= exec "$0" -c "$1"'
    command = ["unshare", "-rm", "sh", "-c", shell, sys.executable, HOLD]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if "VaultError" not in done.stderr and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("This machine gives no namespaces of its own.")
    assert "VaultError: no place in memory for uploads" in done.stderr and "--tmpfs" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_swap_on_a_disk_is_known_and_swap_in_memory_is_none(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    table.write_text("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n/dev/sda2 partition 9 0 -2\n")
    assert swaps_on_disk(table) == ["/dev/sda2"] and swaps_on_disk(tmp_path / "none") == []


@needs_memory
def test_what_is_written_elsewhere_is_noticed(tmp_path: Path) -> None:
    script = """
import os, sys, tempfile
from pathlib import Path
from chat.ui.vault import open_vault, written_elsewhere
with open_vault() as folder:
    tempfile.NamedTemporaryFile().close()
    open(sys.executable, "rb").close()
    print(len(written_elsewhere()))
    Path("one").write_text("1")
    os.close(os.open(f"{folder}/../two", os.O_CREAT | os.O_RDWR))
    os.remove(f"{folder}/../two")
    print(sorted(Path(path).name for path in written_elsewhere()))
"""
    own = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=own, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["0", "['one', 'two']"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("vault"), max_new_tokens=4) as running:
        yield running


@pytest.fixture
def visitor(served: Served) -> Iterator[Callable[[], httpx.Client]]:
    """A browser as the server sees it: it has opened the page, and keeps its cookie."""
    visitors: list[httpx.Client] = []

    def come() -> httpx.Client:
        visitors.append(httpx.Client(base_url=served.url, trust_env=False, timeout=60))
        assert visitors[-1].get("config").status_code == 200
        return visitors[-1]

    yield come
    for each in visitors:
        each.close()
    for file in served.left_over():
        upload.discard(file)


def send(client: httpx.Client, data: bytes, name: str = "Kim 1961-02-03.png") -> httpx.Response:
    return client.post("gradio_api/upload", files={"files": (name, data)})


def call(client: httpx.Client, path: str, session: str = "") -> httpx.Response:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [file, "What is it?", '{"max_new_tokens": 2, "crops": false}']}
    return client.post("gradio_api/call/ask", json=body | ({"session_hash": session} if session else {}))


def result(client: httpx.Client, called: httpx.Response) -> str:
    return client.get(f"gradio_api/call/ask/{called.json()['event_id']}").text


def picture() -> bytes:
    data = io.BytesIO()
    tiny.picture(7, (40, 30)).save(data, "PNG")
    return data.getvalue()


def test_a_file_in_the_vault_says_nothing_of_its_name_or_its_owner(served: Served, visitor: Callable[[], httpx.Client]) -> None:
    one = visitor()
    (path,) = send(one, b"content").json()
    place = Path(path).relative_to(served.uploads.resolve())
    assert re.fullmatch("[0-9a-f]{32}/[0-9a-f]{32}", place.as_posix()) and Path(path).read_bytes() == b"content"
    secret = next(iter(one.cookies.jar)).value
    assert secret and secret not in path and Path(path).parent.stat().st_mode & 0o777 == 0o700


def test_what_one_browser_sent_is_closed_to_another(visitor: Callable[[], httpx.Client]) -> None:
    mine, yours = visitor(), visitor()
    (path,) = send(mine, picture()).json()
    for other in (yours, httpx.Client(base_url=mine.base_url, trust_env=False)):
        refused = call(other, path)
        assert refused.status_code == 403 and refused.json()["detail"] == KEPT["en"]["not_yours"]
        escaped = '{"data": [{"path": "' + "".join(f"\\u{ord(letter):04x}" for letter in path) + '"}, "?", null]}'
        assert other.post("gradio_api/call/ask", content=escaped).status_code == 403
    assert '"turn": 1' in result(mine, call(mine, path)) and not Path(path).exists()


def test_a_session_is_closed_to_another_browser_that_knows_its_name(visitor: Callable[[], httpx.Client]) -> None:
    mine, yours = visitor(), visitor()
    session = "session1234"
    (path,) = send(mine, picture()).json()
    assert '"turn": 1' in result(mine, call(mine, path, session))
    body: dict[str, Any] = {"data": [None, "And?", None], "session_hash": session}
    assert yours.post("gradio_api/call/ask", json=body).status_code == 403
    assert yours.post("gradio_api/queue/join", json=body | {"fn_index": 0}).status_code == 403
    assert yours.post("gradio_api/cancel", json={"session_hash": session, "fn_index": 0, "event_id": "x"}).status_code == 403
    assert yours.get("gradio_api/queue/data", params={"session_hash": session}).status_code == 403
    assert yours.get(f"gradio_api/heartbeat/{session}").status_code == 403
    assert '"turn": 2' in result(mine, mine.post("gradio_api/call/ask", json=body))


def test_a_cookie_is_handed_out_once_and_no_script_reads_it(served: Served, visitor: Callable[[], httpx.Client]) -> None:
    one = visitor()
    fresh = httpx.get(served.url, trust_env=False).headers["set-cookie"].lower()
    assert "httponly" in fresh and "samesite=lax" in fresh and "max-age" not in fresh
    assert "hilum_" not in one.get("").headers.get("set-cookie", "")
    name = next(iter(one.cookies.jar)).name
    forged = httpx.get(served.url, trust_env=False, headers={"cookie": f"{name}=short"})
    assert name in forged.headers["set-cookie"]


def test_clients_without_cookies_and_gradio_client_go_on_working(served: Served, tmp_path: Path) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as bare:
        (path,) = send(bare, picture()).json()
        bare.cookies.clear()
        assert Path(path).parent.name == NOBODY and '"turn": 1' in result(bare, call(bare, path))
    (tmp_path / "a.png").write_bytes(picture())
    client = Client(served.url, verbose=False)
    assert any(name.startswith("hilum_") for name in client.cookies)
    assert client.predict(handle_file(str(tmp_path / "a.png")), "What?", None, api_name="/ask")["turn"] == 1
    assert served.left_over() == []


def test_no_other_way_leads_to_a_file(served: Served, visitor: Callable[[], httpx.Client], tmp_path: Path) -> None:
    (path,) = send(visitor(), b"x").json()
    (served.uploads / "place").mkdir(exist_ok=True)
    (served.uploads / "place" / "link").symlink_to(path)
    with Path(path).open("rb") as held:
        ways = (f"/proc/self/fd/{held.fileno()}", f"{Path(path).parent}/../{Path(path).parent.name}/{Path(path).name}")
        for way in (*ways, str(served.uploads.resolve() / "place" / "link"), str(EXAMPLE), "", "\0"):
            with pytest.raises((RequestError, ValueError)):
                upload.take(way)
    (served.uploads / "place" / "link").unlink()
    assert Path(path).exists() and EXAMPLE.exists()


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "\ud800", "../../../etc/passwd", "", "0" * 31 + "/"])
def test_a_path_that_nobody_was_given_is_refused_before_anything_looks_for_it(
    visitor: Callable[[], httpx.Client], name: str
) -> None:
    one = visitor()
    (path,) = send(one, b"x").json()
    refused = one.post(
        "gradio_api/call/ask", content=json.dumps({"data": [{"path": f"{Path(path).parent}/{name}"}, "?", None]})
    )
    assert refused.status_code == 403 and refused.json()["detail"] == KEPT["en"]["not_yours"] and Path(path).exists()


def test_a_file_that_was_not_sent_is_asked_for_in_one_sentence(visitor: Callable[[], httpx.Client]) -> None:
    for place in ("/home/kim/film.png", "film.png", "C:\\film.png", "/etc/passwd"):
        refused = call(visitor(), place)
        assert refused.status_code == 400 and refused.json()["detail"] == KEPT["en"]["not_sent"]


def test_a_form_that_is_no_upload_names_nobodys_session_and_no_file_of_it_is_written(
    visitor: Callable[[], httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    form = {"session_hash": "session1234", "component_id": "1", "fn_name": "tile"}
    for path in ("gradio_api/component_server/", "gradio_api/queue/join", "gradio_api/call/ask"):
        refused = visitor().post(path, data=form, files={"a": ("film.png", bytes(3 << 20))})
        assert refused.status_code == 400 and refused.json()["detail"] == KEPT["en"]["no_json"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("session", ["", "a" * 129, "a/b", "a b"])
def test_a_session_without_a_proper_name_is_refused(visitor: Callable[[], httpx.Client], session: str) -> None:
    body = {"data": [None, "?", None], "session_hash": session, "fn_index": 0}
    assert {visitor().post(f"gradio_api/{way}", json=body).status_code for way in ("call/ask", "queue/join")} == {403}


def test_what_a_client_sends_and_nobody_can_use_stands_in_no_log(
    visitor: Callable[[], httpx.Client], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    one = visitor()
    answer = next(each for each in one.get("config").json()["dependencies"] if each["api_name"] == "ask_1")
    body = {"fn_index": answer["id"], "data": ["Kim 1961"] * len(answer["inputs"]), "session_hash": "wrong"}
    assert one.post("gradio_api/queue/join", json=body).status_code == 200
    assert "Kim 1961" in one.get("gradio_api/queue/data", params={"session_hash": "wrong"}).text  # who sent it may know
    lost = {"component_id": 10**9, "fn_name": "tile", "data": "Kim 1961", "session_hash": "wrong"}
    assert one.post("gradio_api/component_server/", json=lost).status_code == 500
    assert is_soon(lambda: caplog.text.count("a bug: ") == 2)  # the second is told after its response
    told = caplog.text + "".join(capfd.readouterr())
    assert "Kim 1961" not in told and str(10**9) not in told


@pytest.mark.parametrize(
    ("limit", "status", "key"), [("MOST_HELD", 507, "vault_full"), ("MOST_MEGABYTES", 413, "upload_too_large")]
)
def test_what_does_not_fit_is_refused_in_one_sentence_and_the_next_is_taken(
    served: Served, visitor: Callable[[], httpx.Client], monkeypatch: pytest.MonkeyPatch, limit: str, status: int, key: str
) -> None:
    one = visitor()
    with monkeypatch.context() as small:
        small.setattr(upload, limit, 1)
        korean = one.post("gradio_api/upload", files={"files": ("a", bytes(3 << 20))}, headers={"accept-language": "ko-KR"})
        refused = send(one, bytes(3 << 20))
    assert refused.status_code == korean.status_code == status
    for said, language in ((refused.text, "en"), (korean.text, "ko")):
        assert said == KEPT[language][key].format(limit=f"{upload.MOST_MEGABYTES:,} MB")  # type: ignore[index]
    assert served.left_over() == [] and send(one, bytes(3 << 20)).status_code == 200


def test_a_vault_on_a_full_file_system_refuses(visitor: Callable[[], httpx.Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "ROOM_LEFT", 1 << 60)
    assert send(visitor(), b"x").status_code == 507


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"[]"),
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhalf'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nabc\r\n--x--\r\n'),
    ],
)
def test_what_is_no_upload_is_refused_in_one_sentence(
    served: Served, visitor: Callable[[], httpx.Client], kind: str, body: bytes
) -> None:
    refused = visitor().post("gradio_api/upload", content=body, headers={"content-type": kind})
    assert (refused.status_code, refused.text) == (400, KEPT["en"]["bad_upload"]) and served.left_over() == []


def test_an_upload_that_breaks_off_leaves_nothing(served: Served) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + bytes(1 << 20)
    with closing(http.client.HTTPConnection("127.0.0.1", httpx.URL(served.url).port)) as line:
        line.putrequest("POST", "/gradio_api/upload")
        for name, value in (("Content-Type", "multipart/form-data; boundary=x"), ("Content-Length", str(9 << 20))):
            line.putheader(name, value)
        line.endheaders(part)
        assert is_soon(lambda: served.left_over() != [])
    assert is_soon(lambda: served.left_over() == [])


def test_what_nobody_asks_about_is_removed(
    served: Served, visitor: Callable[[], httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "SECONDS_KEPT", 0)
    assert send(visitor(), b"x").status_code == 200
    assert is_soon(lambda: served.left_over() == [])


def test_an_audit_counts_what_hangs_on_a_desk_and_nothing_of_an_empty_one(served: Served) -> None:
    desk = Desk(5, "en")
    before = audit(desk, "nobody has this name")
    assert (before.pictures, before.texts, before.turns, before.files) == (0, 0, 0, 0)
    image = tiny.picture(1, (40, 30))
    desk.place(Study(image))
    desk.exchanges = (Exchange(1, "있나요?", Conversation()),)
    after = audit(desk, "nobody has this name")
    assert (after.pictures, after.texts, after.turns) == (40 * 30 * 3, len("있나요?".encode()) + len("waiting"), 1)


def test_both_languages_say_what_is_kept() -> None:
    assert KEPT["ko"].keys() == KEPT["en"].keys()
    for key, text in KEPT["ko"].items():
        assert re.search("[가-힣]", text) and not re.search("[가-힣]", KEPT["en"][key])
        assert re.findall(r"{\w+}", text) == re.findall(r"{\w+}", KEPT["en"][key])


@pytest.mark.browser
def test_forget_now_leaves_nothing_of_a_session(open_page: Opened, served: Served) -> None:
    page, other = open_page(), open_page(locale="ko-KR")
    for each in (page, other):
        drop(each, picture())
        expect(each.locator(".size")).to_have_text("40 × 30")
        ask(each, "Is there an opacity?")
    page.locator(".kept summary").click()
    expect(page.locator(".kept dt")).to_have_count(6)
    expect(page.locator(".kept dd").nth(2)).to_have_text("1")
    expect(page.locator(".kept dd").first).to_contain_text(re.compile("[KM]B"))
    page.get_by_role("button", name="Forget now").click()
    expect(page.locator(".kept [role=status]")).to_contain_text("All of it is forgotten.")
    assert page.locator(".kept dd").all_inner_texts()[:5] == ["none"] * 5
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator(".drop")).to_be_visible()
    ask(other, "폐에 음영이 있나요?")
    expect(other.locator(".turn")).to_have_count(2)
    drop(page, picture())
    expect(page.locator(".size")).to_have_text("40 × 30")
    ask(page, "Is there an opacity?")
    expect(page.locator(".turn")).to_have_count(1)


@pytest.mark.browser
def test_the_page_says_that_the_vault_is_full(browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(browser.new_context(locale="ko-KR")) as context:
        page = context.new_page()
        page.goto(served.url)
        page.locator("body[data-hilum=open]").wait_for()
        with monkeypatch.context() as small:
            small.setattr(upload, "MOST_HELD", 1)
            drop(page, picture())
            expect(page.locator(".stage .trouble")).to_have_text(KEPT["ko"]["vault_full"])
        drop(page, picture())
        expect(page.locator(".size")).to_have_text("40 × 30")


@pytest.mark.parametrize("shift", range(3))
def test_the_search_knows_a_canary_in_every_dress(shift: int) -> None:
    case = Case("KILL", "idle", "api", 7, "0a1b2c3d4e5f")
    text, before = case.canary("t"), bytes(shift)
    pixels = b"".join(bytes([value]) * 3 for value in text.encode())
    for data in (text.encode(), text.encode("utf-16-le"), pixels, base64.b64encode(before + text.encode() + b"end")):
        assert len(forms(case.run).findall(b"before" + data + b"after")) == 1
    assert len(text) == 32 and not forms("0a1b2c3d4e50").search(text.encode())


@pytest.mark.slow
@needs_memory
def test_nothing_is_left_of_three_sessions_that_were_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.prove_kept", "--json", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    proof = json.loads(done.stdout.splitlines()[-1])["persistence"]
    assert (proof["cases"], proof["clean"], proof["bytes"]) == (3, 3, 0)
