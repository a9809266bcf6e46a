"""Exports: four formats that hold the whole report and its notice, and stay whole whatever a model wrote."""

import base64
import hashlib
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import tiny
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from served import free_port

from chat.assistant import Assistant, RequestError
from chat.engine.address import read_address
from chat.engine.base import EngineUnavailable, Limits, Sampling
from chat.engine.remote import RemoteEngine
from chat.report import terminal
from chat.report.export import KINDS, Kind, export, kind_of
from chat.report.pdf import FONT
from chat.report.rules import rule_sentences
from chat.report.sheet import LARGEST_SIDE, Weights
from chat.report.words import MARKS, NOTICE, TITLES
from chat.report.write import Report, Section, Sentence
from chat.wording import LANGUAGES, SECTIONS, Language
from vision.evidence import Evidence, Finding, Peak
from vision.study import Study
from vision.tiling import Box

STUDY = Study(tiny.picture(1, (80, 60)))
SICK = Evidence(
    (Finding("PNEUMONIA", 0.87, None, True, Peak("right", "lower", Box(1, 2, 30, 40))),),
    ("PNEUMONIA",),
    probabilities={"NORMAL": 0.13, "PNEUMONIA": 0.87},
)
HASHES = (Weights("hilum-tiny", "ab" * 32), Weights("resnet34-cxr", "cd" * 32))
OVERLAY = tiny.picture(3, (90, 70))
HOSTILE = (
    "<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "![x](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "# Heading", "| a | b |", "1. one", "- item", "> quote", "```\ncode", "**bold** _it_ ~~gone~~",
    "http://evil.example www.evil.example a@b.example",
    "\x00\x07\x1b[31m\u202eevil\u2066", "😀👩‍⚕️🏳️‍🌈", "漢字 ひらがな العربية ไทย", "뷁똠쓩", "W" * 3000, "가" * 2000, "\ud800",
    "e\u0301" * 40, "µ ½ ㎍", "&lt;b&gt; &amp; \\<i\\>", "{nb} {text} %s", "\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}", "",
)  # fmt: skip


def made(language: Language, evidence: Evidence | None = SICK, text: str | None = None, finished: bool = True) -> Report:
    sections = []
    for name in SECTIONS:
        said = [Sentence(told, by_rule=True) for told in rule_sentences(name, STUDY, evidence, language)]
        if text is not None:
            said[0] = Sentence(text, ("side", "certain"))
        sections.append(Section(name, tuple(said), "cut"))
    return Report(language, evidence, ("hilum-tiny",), 7, tuple(sections[: 4 if finished else 1]), None, finished)


class Reader(HTMLParser):
    """What a browser would take from a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def pdf_text(data: bytes) -> str:
    """The text as a PDF reader finds it, without line breaks."""
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed; requirements-dev.txt names it.")
    return "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages).replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("finished", [True, False])
def test_every_export_holds_every_sentence_and_the_notice(language: Language, finished: bool) -> None:
    report = made(language, finished=finished)
    told = [sentence.text for section in report.sections for sentence in section.sentences]
    texts = {
        "md": export(report, "md", OVERLAY, HASHES).decode(),
        "html": Reader(export(report, "html", OVERLAY, HASHES).decode()).text,
        "json": json.dumps(json.loads(export(report, "json", OVERLAY, HASHES)), ensure_ascii=False),
        "pdf": pdf_text(export(report, "pdf", OVERLAY, HASHES)),
    }
    for kind, text in texts.items():
        for sentence in [*told, NOTICE[language]]:
            wanted = sentence.replace(" ", "") if kind == "pdf" else sentence
            assert wanted in text, (kind, sentence)
        assert "ab" * 32 in text and "cd" * 32 in text
        if kind != "json":
            assert (MARKS[language]["stopped"].replace(" ", "") in text.replace(" ", "")) != finished


def test_the_json_says_all_that_the_report_knows() -> None:
    said = json.loads(export(made("ko", text="왼쪽 폐가 확실히 뿌옇습니다."), "json", OVERLAY, HASHES))
    assert said["probabilities"] == {"PNEUMONIA": 0.87, "NORMAL": 0.13} and said["labels"] == ["PNEUMONIA"]
    assert said["peaks"] == [{"label": "PNEUMONIA", "side": "right", "zone": "lower", "box": [1, 2, 30, 40]}]
    assert [section["name"] for section in said["sections"]] == list(SECTIONS)
    assert said["sections"][0]["sentences"][0]["marks"] == ["side", "certain"] and said["sections"][0]["mark"] == "cut"
    assert said["models"] == [{"name": "hilum-tiny", "sha256": "ab" * 32}, {"name": "resnet34-cxr", "sha256": "cd" * 32}]
    assert (said["seed"], said["language"], said["written_by"], said["finished"]) == (7, "ko", "both", True)
    picture = Image.open(io.BytesIO(base64.b64decode(said["overlay"])))
    assert picture.format == "PNG" and picture.tobytes() == OVERLAY.convert("RGB").tobytes()
    assert json.loads(export(made("en", None), "json"))["overlay"] is None


def test_a_failed_engine_is_named_by_kind_and_its_address_is_not() -> None:
    report = Report("en", None, ("m",), None, (), EngineUnavailable("http://secret.example is silent"), True)
    for kind in KINDS:
        assert b"secret" not in export(report, kind)
    assert json.loads(export(report, "json"))["trouble"] == "EngineUnavailable"


def test_the_overlay_is_small_and_says_nothing_of_the_file() -> None:
    overlay = Image.new("RGB", (3000, 1500))
    overlay.info |= {"comment": "Kim, 1971", "icc_profile": b"Kim", "exif": b"Kim"}
    said = json.loads(export(made("en"), "json", overlay))
    raw = base64.b64decode(said["overlay"])
    assert Image.open(io.BytesIO(raw)).size == (LARGEST_SIDE, LARGEST_SIDE // 2) and b"Kim" not in raw
    assert b"Kim" not in export(made("en"), "pdf", overlay)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_leaves_every_export_whole(kind: Kind, text: str) -> None:
    data = export(made("ko", Evidence((), (text,), probabilities={text: 0.6}), text), kind, OVERLAY, [Weights(text)])
    if kind == "json":
        assert len(json.loads(data)["sections"]) == 4
    elif kind == "html":
        assert_quiet(Reader(data.decode()))
    elif kind == "md":
        assert_quiet(Reader(MarkdownIt("js-default", {"html": True}).enable("table").render(data.decode())))
    else:
        assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF") and len(data) < 500_000


OURS = set(
    re.findall(
        r"\w+",
        "html head meta title style body main h1 h2 p div figure img figcaption section ul li span b i ol mark small footer "
        "dl dt dd strong em blockquote",
    )
)


def assert_quiet(page: Reader) -> None:
    """Only our own tags; nothing runs, nothing links, nothing is fetched."""
    assert {tag for tag, _ in page.tags} <= OURS
    assert [tag for tag, _ in page.tags].count("h2") == 6 and [tag for tag, _ in page.tags].count("h1") == 1
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name in {"href", "srcset"} for name in attributes)
        assert tag != "img" or str(attributes["src"]).startswith("data:image/png;base64,")


@settings(max_examples=25)
@given(text=st.text(max_size=300), kind=st.sampled_from(KINDS))
def test_no_text_breaks_an_export(text: str, kind: Kind) -> None:
    data = export(made("en", SICK, text), kind)
    if kind in {"html", "md"}:
        shown = data.decode() if kind == "html" else MarkdownIt("js-default", {"html": True}).render(data.decode())
        assert {tag for tag, _ in Reader(shown).tags} <= OURS


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_names_its_language_and_refers_to_nothing_outside(language: Language) -> None:
    page = export(made(language), "html", OVERLAY).decode()
    assert Reader(page).tags[0] == ("html", {"lang": language})
    assert not re.search(
        r"https?:|//|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]*", "", page).replace("<!doctype html>", "")
    )
    assert "prefers-color-scheme: dark" in page and "@media print" in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pdf_embeds_its_font_numbers_its_pages_and_names_nobody(language: Language) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed; requirements-dev.txt names it.")
    reader = pypdf.PdfReader(io.BytesIO(export(made(language, text="폐 lung " * 900), "pdf", OVERLAY, HASHES)))
    fonts = [font.get_object() for page in reader.pages for font in page["/Resources"]["/Font"].values()]
    assert all("/FontFile2" in f["/DescendantFonts"][0]["/FontDescriptor"] for f in fonts) and fonts
    for number, page in enumerate(reader.pages, start=1):
        assert TITLES[language]["page"].format(page=number, pages=len(reader.pages)) in page.extract_text()
        assert TITLES[language]["short_notice"] in page.extract_text()
    assert len(reader.pages) > 3 and reader.metadata.author is None and reader.root_object["/Lang"] == language
    assert len(reader.pages[0].images) == 1


def test_a_letter_that_the_font_lacks_becomes_its_like_or_an_empty_box() -> None:
    text = pdf_text(export(made("ko", text="㎎ 아래 😀 뷁 끝."), "pdf"))
    assert "mg아래□□끝." in text


def test_the_font_is_free_renamed_and_holds_what_a_report_may_say() -> None:
    font = TTFont(FONT)
    letters = font.getBestCmap()
    said = "".join(str(words) for words in (NOTICE, TITLES, MARKS))
    said += "".join("".join(rule_sentences(name, STUDY, SICK, language)) for name in SECTIONS for language in LANGUAGES)
    assert {letter for letter in said if ord(letter) not in letters} == set()
    assert all(ord(bytes((row, cell)).decode("euc_kr")) in letters for row in range(0xB0, 0xC9) for cell in range(0xA1, 0xFF))
    names = [str(font["name"].getDebugName(number)) for number in (1, 3, 4, 6, 16)]
    assert not any("nanum" in name.lower() for name in names) and FONT.stat().st_size < 900_000
    assert "SIL OPEN FONT LICENSE" in (FONT.parent / "OFL.txt").read_text("utf-8")


@pytest.mark.parametrize("name", ["report.pdf", "보고서.HTML", "a.b.md", "x.json"])
def test_a_file_ending_names_the_format(name: str) -> None:
    assert kind_of(Path(name)) in KINDS


@pytest.mark.parametrize("name", ["report", "report.docx", ".pdf", "report.pdf.exe"])
def test_another_ending_is_refused_before_anything_is_asked(name: str, tmp_path: Path) -> None:
    nobody = Assistant(RemoteEngine(read_address(f"http://127.0.0.1:{free_port()}"), "gone", limits=Limits(4096, 16, 1)), 336)
    with pytest.raises(RequestError, match=r"\.md, \.html, \.pdf, \.json"):
        terminal.report(nobody, STUDY, "ko", Sampling(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_terminal_writes_one_file_even_without_an_engine(
    kind: Kind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = Assistant(RemoteEngine(read_address(f"http://127.0.0.1:{free_port()}"), "gone", limits=Limits(4096, 16, 1)), 336)
    terminal.report(nobody, STUDY, "en", Sampling(), tmp_path / f"patient-kim.{kind}", HASHES)
    (file,) = tmp_path.iterdir()
    assert b"patient-kim" not in file.read_bytes() and file.stat().st_size > 1000
    said = capsys.readouterr()
    assert said.out == "" and "rules did" in said.err and "patient-kim" not in said.err


def test_weights_are_named_with_their_hashes(tmp_path: Path) -> None:
    assert terminal.hashed("none", tmp_path) == []
    (tmp_path / "b.safetensors").write_bytes(b"b")
    assert terminal.hashed("one", tmp_path) == [Weights("one", hashlib.sha256(b"b").hexdigest())]
    (tmp_path / "a.safetensors").write_bytes(b"a")
    assert [weights.name for weights in terminal.hashed("two", tmp_path)] == ["two/a.safetensors", "two/b.safetensors"]


@pytest.mark.browser
def test_the_page_shows_in_a_browser_without_a_script(chromium: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes(export(made("ko", text=HOSTILE[0] + HOSTILE[1]), "html", OVERLAY, HASHES))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    shown = done.stdout.decode()
    assert "&lt;script&gt;alert(1)" in shown and "onerror" not in re.sub(r"&lt;.*?&gt;", "", shown) and NOTICE["ko"] in shown
