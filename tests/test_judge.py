"""Judging: blind, shuffled, read whatever stands around the grades, and never paid for twice."""

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from remote_server import Misbehaving, bad_server

from finetune import judge
from finetune.judge import ASPECTS, compose, read_grades, rule_score

REPORT = "No pneumothorax. Small left effusion."


def answers(folder: Path, count: int = 6) -> Path:
    path = folder / "answers.csv"
    rows = [
        {"report": REPORT, "question": f"q{i}?", "good_answer": "A small left effusion.", "bad_answer": "Bananas."}
        for i in range(count)
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def fair(request: Misbehaving) -> None:
    """A judge that likes effusions: 4 for whoever names one, 1 for others."""
    prompt = request.body["messages"][-1]["content"]  # type: ignore[index]
    said = re.findall(r"Answer ([A-Z]):\n<<<\n(.*?)\n>>>", prompt, re.DOTALL)
    grades = {letter: dict.fromkeys(ASPECTS, 4 if "effusion" in text else 1) for letter, text in said}
    request.begin()
    request.say(f"<think>Hm {{</think>Here you are: {json.dumps(grades)} Bye.")
    request.say(None, "stop")


def run(source: Path, out: Path, url: str) -> int:
    return judge.main([str(source), "--out", str(out), "--base-url", url, "--model", "m", "--backoff", "0"])


def test_the_better_answers_score_higher_whatever_their_letter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.csv"
    with bad_server(fair) as bad:
        assert run(answers(tmp_path), out, bad.address.url) == 0
        asked = [str(request.body["messages"]) for request in bad.seen if request.command == "POST"]
        assert run(answers(tmp_path), out, bad.address.url) == 0
        assert sum(request.command == "POST" for request in bad.seen) == len(asked) == 6
    assert not any("good" in prompt or "bad" in prompt for prompt in asked)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["good_score"], row["bad_score"]) for row in rows} == {("4.000", "1.000")}
    assert {row["good_accuracy_score"] for row in rows} == {"4"}
    assert all(float(row["good_rule_score"]) > float(row["bad_rule_score"]) for row in rows)
    assert "| good | 4.00 (4.00 to 4.00)" in capsys.readouterr().out and "| bad | 1.00" in out.with_suffix(".md").read_text()
    with Image.open(out.with_suffix(".png")) as plot:
        assert len(set(plot.convert("RGB").get_flattened_data())) > 10


def test_the_order_is_shuffled_and_the_same_for_a_seed() -> None:
    row = {"report": "r", "question": "q", "a_answer": "x", "b_answer": "y"}
    orders = [tuple(compose(row, ("a", "b"), number, seed=1)[1].values()) for number in range(40)]
    assert set(orders) == {("a", "b"), ("b", "a")}
    assert orders == [tuple(compose(row, ("a", "b"), number, seed=1)[1].values()) for number in range(40)]


def test_a_judge_that_talks_in_riddles_leaves_scores_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def riddle(request: Misbehaving) -> None:
        request.begin()
        request.say("I'm sorry, I do not grade people.")
        request.say(None, "stop")

    with bad_server(riddle) as bad:
        assert run(answers(tmp_path, 2), tmp_path / "s.csv", bad.address.url) == 0
        assert sum(request.command == "POST" for request in bad.seen) == 6
    with (tmp_path / "s.csv").open(newline="") as file:
        assert {row["good_score"] for row in csv.DictReader(file)} == {""}
    assert "2 of 2 questions got no grades" in caplog.text


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('{"A": {"accuracy": 1, "conciseness": "4", "understandability": 3.0}}', True),
        ('```json\n{"A": {"accuracy": 1, "conciseness": 4, "understandability": 3}}\n```', True),
        ('{"A": {"accuracy": 5, "conciseness": 4, "understandability": 3}}', False),
        ('{"A": {"accuracy": true, "conciseness": 4, "understandability": 3}}', False),
        ('{"A": {"accuracy": 1, "conciseness": 4}}', False),
        ('{"B": {"accuracy": 1, "conciseness": 4, "understandability": 3}}', False),
        ('{"A": {"accuracy": 1, "conciseness"', False),
        ("{" * 100_000, False),
    ],
)
def test_grades_are_whole_or_none(text: str, is_read: bool) -> None:
    assert (read_grades(text, ["A"]) is not None) == is_read


@given(st.text(), st.text(), st.text())
def test_the_rule_grades_any_text_from_1_to_4(report: str, question: str, answer: str) -> None:
    assert 1 <= rule_score(report, question, answer) <= 4


def test_the_rule_likes_what_the_report_says_and_no_ramblings() -> None:
    good = rule_score(REPORT, "What is seen?", "A small left effusion.")
    assert good > rule_score(REPORT, "What is seen?", "A large purple banana.")
    assert good > rule_score(REPORT, "What is seen?", "A small left effusion " * 60)
    assert rule_score(REPORT, "What is seen?", "") == 1


def test_a_table_without_answers_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("report,question\nr,q\n")
    assert run(tmp_path / "a.csv", tmp_path / "s.csv", "http://127.0.0.1:1") == 2
    assert "a.csv has 0 columns that end in _answer" in capsys.readouterr().err
