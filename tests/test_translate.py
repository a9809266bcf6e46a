"""Translation: reports in Korean as far as nothing is lost, through the command and a real server."""

import json
from pathlib import Path

import pytest
from remote_server import Misbehaving, bad_server

from finetune import reports
from finetune.translate import translation_flaw


def speak_korean(request: Misbehaving) -> None:
    """A server that translates one section well, loses the side of another and the number of a third."""
    prompt = str(request.body["messages"][-1]["content"])  # type: ignore[index]
    answers = {
        "opacity": "왼쪽 폐 하부에 12 mm 음영이 있습니다.",
        "effusion": "흉막 삼출이 있습니다.",
        "nodule": "결절이 있습니다.",
    }
    request.begin()
    request.say(next(answer for word, answer in answers.items() if word in prompt))
    request.say(None, "stop")
    request.wfile.write(b"data: [DONE]\n\n")


def test_sections_are_translated_where_nothing_is_lost_and_paid_for_once(tmp_path: Path) -> None:
    body = {"FINDINGS": "A 12 mm opacity in the left lower zone.", "IMPRESSION": "Effusion on the right.", "HISTORY": "기침."}
    body["COMPARISON"] = "A nodule of 8 mm."
    notes = tmp_path / "notes"
    notes.mkdir()
    text = "".join(f"{name}: {part.replace('Effusion', 'An effusion')}\n" for name, part in body.items())
    (notes / "one.txt").write_text(text, encoding="utf-8")
    out = tmp_path / "ko.jsonl"
    with bad_server(speak_korean) as bad:
        flags = ["--translate", "--base-url", bad.address.url, "--model", "m", "--backoff", "0"]
        assert reports.main([str(notes), "--out", str(out), *flags]) == 0
        first, asked = out.read_bytes(), len(bad.seen)
        assert reports.main([str(notes), "--out", str(out), *flags]) == 0
        assert sum(request.command == "POST" for request in bad.seen[asked:]) == 0 and out.read_bytes() == first
    (line,) = [json.loads(row) for row in first.splitlines()]
    assert line["sections"]["FINDINGS"] == "왼쪽 폐 하부에 12 mm 음영이 있습니다."
    assert {name: line["sections"][name] == line["original"][name] for name in line["original"]} == {
        "FINDINGS": False, "IMPRESSION": True, "HISTORY": True, "COMPARISON": True,
    }  # fmt: skip


def test_a_translation_without_a_model_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("FINDINGS: Clear lungs.")
    assert reports.main([str(tmp_path / "one.txt"), "--out", str(tmp_path / "ko.jsonl"), "--translate"]) == 2
    assert "Give --base-url and --model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "translation", "flaw"),
    [
        ("No effusion.", "흉막 삼출은 없습니다.", None),
        ("Nodules in both lungs, 3 mm and 3 mm.", "양쪽 폐에 3 mm와 3 mm 결절이 있습니다.", None),
        ("Nodules of 3 mm and 3 mm.", "3 mm 결절이 있습니다.", "lost a number"),
        ("Left lower lobe collapse.", "하엽 무기폐입니다.", "lost a side"),
        ("No effusion.", "No pleural effusion.", "wrong language"),
        ("No effusion.", "죄송하지만 번역해 드릴 수 없습니다.", "refusal"),
    ],
)
def test_what_a_translation_must_not_lose(body: str, translation: str, flaw: str | None) -> None:
    assert translation_flaw(body, translation, "stop") == flaw


def test_a_translation_that_was_cut_off_is_not_believed() -> None:
    assert translation_flaw("No effusion.", "흉막 삼출은", "length") == "cut off"
