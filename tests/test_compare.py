"""Comparing models, and talking about a report: real tiny models, real servers, real tables."""

import csv
from pathlib import Path

import pytest
import tiny
from remote_server import Misbehaving, bad_server

from finetune import chat, compare


def table(folder: Path, text: str) -> Path:
    path = folder / "prompts.csv"
    path.write_text(text, "utf-8")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def echo(request: Misbehaving) -> None:
    content = request.body["messages"][-1]["content"]  # type: ignore[index]
    text = content if isinstance(content, str) else " + ".join(part["type"] for part in content)
    request.begin()
    request.say(f"{request.body['model']} heard {text}")
    request.say(None, "stop")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("tiny") / "model")


def test_local_models_and_endpoints_answer_side_by_side(tmp_path: Path, checkpoint: Path) -> None:
    tiny.picture(0).save(tmp_path / "a.png")
    source, out = table(tmp_path, 'id,prompt,image\n1,"Is it, there?",a.png\n2,무엇입니까?,\n'), tmp_path / "out.csv"
    with bad_server(echo) as bad:
        flags = ["--model", f"here={checkpoint}", "--model", f"there={bad.address.url}#m", "--max-tokens", "4"]
        assert compare.main([str(source), "--out", str(out), *flags]) == 0
        first, asked = rows(out), len(bad.seen)
        assert compare.main([str(source), "--out", str(out), *flags]) == 0
        assert sum(request.command == "POST" for request in bad.seen[asked:]) == 0
    assert list(first[0]) == ["id", "prompt", "image", "here_answer", "there_answer"]
    assert [row["there_answer"] for row in first] == ["m heard image_url + text", "m heard 무엇입니까?"]
    assert [row["prompt"] for row in first] == ["Is it, there?", "무엇입니까?"] and rows(out) == first
    assert any(row["here_answer"] for row in first)


@pytest.mark.parametrize(
    ("text", "models", "said"),
    [
        ("question\nq\n", ["a=x"], "prompts.csv, line 1: it needs the columns prompt"),
        ("prompt\n", ["a=x"], "prompts.csv has no lines below its first."),
        ("prompt,b\nq\n", ["a=x"], "prompts.csv, line 2: it has 1 columns, not 2."),
        ("prompt,b\n ,c\n", ["a=x"], "prompts.csv, line 2, column prompt: it is empty."),
        ('prompt\n"q"x\n', ["a=x"], "prompts.csv, line 2: this is not CSV"),
        ("prompt,a_answer\nq,r\n", ["a=x"], "There are already answers of a."),
        ("prompt\nq\n", ["a=x", "a=y"], "There are already answers of a."),
        ("prompt\nq\n", ["models/hilum-tiny"], "is not NAME=FOLDER or NAME=ADDRESS"),
        ("prompt\nq\n", ["a=/nowhere"], "There is no model in /nowhere"),
        ("prompt\nq\n", ["a=http://127.0.0.1:1#m"], "cannot be reached"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    text: str, models: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag for model in models for flag in ("--model", model)]
    assert compare.main([str(table(tmp_path, text)), "--out", str(tmp_path / "out.csv"), *flags]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("hilum: ") and said in last
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_image_is_named_by_row_and_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path, "prompt,image\nq,gone.png\n")
    with bad_server(echo) as bad:
        assert compare.main([str(source), "--out", str(tmp_path / "o.csv"), "--model", f"a={bad.address.url}#m"]) == 2
    assert "Row 1, column image: gone.png cannot be read" in capsys.readouterr().err


def test_the_report_stays_while_the_sixth_question_pushes_out_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.txt").write_text("IMPRESSION: 기흉 없음.", "utf-8")
    asked = [flag for number in range(7) for flag in ("--question", f"q{number}")]
    with bad_server(echo) as bad:
        flags = ["--report", str(tmp_path / "r.txt"), "--base-url", bad.address.url, "--model", "m", *asked]
        assert chat.main(flags) == 0
        told = [request.body["messages"] for request in bad.seen if request.command == "POST"]
    assert all("기흉 없음" in messages[0]["content"] for messages in told)  # type: ignore[index]
    assert [len(messages) for messages in told] == [2, 4, 6, 8, 10, 12, 12]  # type: ignore[arg-type]
    assert told[-1][1]["content"] == "q1"  # type: ignore[index]
    assert capsys.readouterr().out.splitlines() == [f"m heard q{number}" for number in range(7)]


def test_a_local_model_talks_about_a_report(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.txt").write_text("IMPRESSION: Normal.")
    flags = ["--report", str(tmp_path / "r.txt"), "--model", str(checkpoint), "--max-tokens", "3", "--question", "What is it?"]
    assert chat.main(flags) == 0
    (tmp_path / "r.txt").write_text("IMPRESSION: Normal. " * 500)
    assert chat.main(flags) == 2
    assert "The prompt needs" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "said"), [(b" ", "r.txt is empty."), (b"\xff\xfe\x00\xd8\x00", "r.txt is not text")])
def test_a_report_that_cannot_be_read_is_one_sentence(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.txt").write_bytes(content)
    assert chat.main(["--report", str(tmp_path / "r.txt"), "--model", "x"]) == 2
    assert said in capsys.readouterr().err
