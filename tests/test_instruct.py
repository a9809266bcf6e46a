"""Instructions: cleaned, paced, durable across kills, and never paid for twice; against real servers and processes."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from remote_server import Bad, Misbehaving, bad_server

from chat.wording import Language
from finetune import instruct
from finetune.asking import Pace, RateLimiter
from finetune.instruct_clean import answer_flaw, question_flaw
from finetune.instruct_templates import ask_report
from finetune.record_files import read_records

ROOT = Path(__file__).parents[1]
REPORT = "Small left pleural effusion. No pneumothorax. Stable since last year. CT is recommended."


def reports(folder: Path, count: int = 6) -> Path:
    rows = [
        {"id": f"r{i}", "patient": f"p{i // 2}", "sections": {"FINDINGS": f"{REPORT} Film {i}.", "IMPRESSION": "Effusion."}}
        for i in range(count)
    ]
    path = folder / "reports.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompt_of(request: Misbehaving) -> str:
    return str(request.body["messages"][-1]["content"])  # type: ignore[index]


def finish(request: Misbehaving, text: str) -> None:
    request.begin()
    request.say(text)
    request.say(None, "stop")
    request.wfile.write(b"data: [DONE]\n\n")


def teach(request: Misbehaving) -> None:
    """A server that knows its task: three questions, and an answer that depends on the question."""
    prompt = prompt_of(request)
    if "Write questions" in prompt:
        finish(request, "finding: What is on the left?\nnegation: Is there a pneumothorax?\nrecommendation: What is advised?")
    else:
        finish(request, f"The answer number {sum(map(ord, prompt)) % 97} is what the film shows.")


def arguments(source: Path, out: Path, bad: Bad, *more: str) -> list[str]:
    flags = ["--base-url", bad.address.url, "--model", "m", "--backoff", "0", "--concurrency", "2", *more]
    return [str(source), "--out", str(out), *flags]


def test_questions_and_answers_become_records(tmp_path: Path) -> None:
    with bad_server(teach) as bad:
        assert instruct.main(arguments(reports(tmp_path), tmp_path / "out.jsonl", bad)) == 0
    records = read_records(tmp_path / "out.jsonl")
    assert Counter(record.kind for record in records) == {"finding": 6, "negation": 6, "recommendation": 6}
    assert {record.patient for record in records} == {"p0", "p1", "p2"}
    assert all(REPORT in record.context and record.source == "m" for record in records)
    assert json.loads((tmp_path / "out.jsonl.config.json").read_text())["seed"] == 0


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    with bad_server(teach) as bad:
        command = arguments(reports(tmp_path), tmp_path / "out.jsonl", bad)
        assert instruct.main(command) == 0
        first, asked = (tmp_path / "out.jsonl").read_bytes(), len(bad.seen)
        assert instruct.main(command) == 0
        assert sum(request.command == "POST" for request in bad.seen[asked:]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == first


def kill_and_resume(folder: Path, seed: int) -> None:
    """Kill -9 at a random request, before or after its answer; then the end is as if nothing had happened."""
    rng = random.Random(seed)
    moment, is_after = rng.randrange(1, 24), rng.random() < 0.5
    source, out, victim = reports(folder), folder / "out.jsonl", dict[str, int]()
    gate = threading.Lock()

    def chat(request: Misbehaving) -> None:
        with gate:
            paid[prompt_of(request)] += 1
            is_time = "pid" in victim and paid.total() == moment
            if is_time and not is_after:
                os.kill(victim.pop("pid"), signal.SIGKILL)
        teach(request)
        if is_time and is_after:
            os.kill(victim.pop("pid"), signal.SIGKILL)

    def command(bad: Bad) -> list[str]:
        return [sys.executable, "-m", "finetune.instruct", *arguments(source, out, bad)]

    paid = Counter[str]()
    with bad_server(chat) as bad:
        with subprocess.Popen(command(bad), cwd=ROOT, stderr=subprocess.PIPE, stdin=subprocess.PIPE) as process:
            victim["pid"] = process.pid
            process.communicate()
        assert process.returncode == -signal.SIGKILL
    ledger = out.with_name("out.jsonl.paid.jsonl")
    kept = sum(line.endswith(b"\n") for line in ledger.read_bytes().splitlines(keepends=True)) if ledger.exists() else 0
    assert kept >= paid.total() - 3  # two in flight, and one whose answer was on its way to the disk
    # A server of its own: what the killed run had sent may still reach the first one now.
    with bad_server(teach) as bad:
        subprocess.run(command(bad), cwd=ROOT, check=True, capture_output=True)
        asked = [prompt_of(request) for request in bad.seen if request.command == "POST"]
    assert len(set(asked)) == len(asked) == 24 - kept and len(paid.keys() | asked) == 24
    (folder / "alone").mkdir()
    with bad_server(teach) as bad:
        assert instruct.main(arguments(source, folder / "alone" / "out.jsonl", bad)) == 0
    assert out.read_bytes() == (folder / "alone" / "out.jsonl").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_loses_no_answer_and_pays_for_none_twice(tmp_path: Path, seed: int) -> None:
    kill_and_resume(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
def test_twenty_kills_lose_no_answer_and_pay_for_none_twice(tmp_path: Path, seed: int) -> None:
    kill_and_resume(tmp_path, seed)


def refuse(status: int, **headers: str) -> Callable[[Misbehaving], None]:
    return lambda request: request.answer(status, {"error": {"message": "no"}}, **headers)


def half(request: Misbehaving) -> None:
    request.begin()
    request.say("half an")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (refuse(401), "does not accept the key (401). Set HILUM_API_KEY"),
        (refuse(404), "knows no model m at this address"),
        (refuse(429), "has too much to do"),
        (refuse(500), "failed (500"),
        (lambda request: request.answer(200, b"<html>hello</html>", "text/html"), "OpenAI"),
        (lambda request: request.answer(200, b""), "OpenAI"),
        (half, "The answer broke off"),
    ],
)
def test_an_endpoint_that_fails_is_one_sentence(
    script: Callable[[Misbehaving], None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with bad_server(script) as bad:
        assert instruct.main(arguments(reports(tmp_path, 1), tmp_path / "out.jsonl", bad, "--retries", "1")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("hilum: ") and said in last
    assert not (tmp_path / "out.jsonl").exists()


def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    troubles = [refuse(429, Retry_After="0"), refuse(500), half]

    def chat(request: Misbehaving) -> None:
        (troubles.pop() if troubles else teach)(request)

    with bad_server(chat) as bad:
        assert instruct.main(arguments(reports(tmp_path), tmp_path / "out.jsonl", bad)) == 0
    assert len(read_records(tmp_path / "out.jsonl")) == 18


def test_refusals_and_prose_are_cleaned_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def chat(request: Misbehaving) -> None:
        prompt = prompt_of(request)
        if "Write questions" in prompt:
            finish(request, "Sure!\n1. **finding**: Is it there? And where is it?\n- summary: What does the film show?")
        else:
            finish(request, "I'm sorry, but I cannot help with that.")

    caplog.set_level("INFO")
    with bad_server(chat) as bad:
        assert instruct.main(arguments(reports(tmp_path, 2), tmp_path / "out.jsonl", bad)) == 2
    assert "'answer: refusal': 2" in caplog.text and "'question: two in one': 2" in caplog.text
    assert "Nothing was left to teach" in capsys.readouterr().err


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def chat(request: Misbehaving) -> None:
        entered.set()
        leave.wait(60)
        teach(request)

    with bad_server(chat) as bad:
        command = [sys.executable, "-m", "finetune.instruct", *arguments(reports(tmp_path, 1), tmp_path / "out.jsonl", bad)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as first:
            assert entered.wait(60)
            second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            leave.set()
    assert (second.returncode, first.returncode) == (2, 0)
    assert second.stderr.splitlines()[-1] == "hilum: Another run is writing out.jsonl. Wait for it, or choose another --out."


def test_a_full_disk_keeps_what_was_paid_for(tmp_path: Path) -> None:
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))"
    code = f"from finetune.instruct import main; {limit}; sys.exit(main(sys.argv[1:]))"
    with bad_server(teach) as bad:
        command = arguments(reports(tmp_path), tmp_path / "out.jsonl", bad)
        run = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "hilum: out.jsonl.paid.jsonl cannot be written" in run.stderr
        assert run.returncode == 2
        kept = (tmp_path / "out.jsonl.paid.jsonl").read_text().splitlines()
        assert kept and all("key" in json.loads(line) for line in kept)
        assert instruct.main(command) == 0


def test_no_minute_holds_more_than_its_requests_and_tokens() -> None:
    now, passed = [0.0], list[tuple[float, int]]()
    gate = RateLimiter(
        Pace(requests_per_minute=5, tokens_per_minute=100), lambda: now[0], lambda s: now.__setitem__(0, now[0] + s)
    )
    rng = random.Random(0)
    for _ in range(60):
        tokens = rng.choice((10, 30, 90, 250))
        gate.enter(tokens)
        passed.append((now[0], tokens))
    for start, _ in passed:
        window = [tokens for at, tokens in passed if start <= at < start + 60]
        assert len(window) <= 5
        assert sum(window) <= 100 or len(window) == 1


@pytest.mark.parametrize(
    ("question", "language", "flaw"),
    [
        ("Where is the effusion?", "en", None),
        ("흉수는 어디에 있습니까?", "ko", None),
        ("", "en", "empty or endless"),
        ("I'm sorry, I can't help with that.", "en", "refusal"),
        ("Where is the effusion?", "ko", "wrong language"),
        ("Où se trouve l'épanchement 흉수?", "en", "wrong language"),
        ("Is there an effusion? Where?", "en", "two in one"),
        ("Is there an effusion and where is it?", "en", "two in one"),
        ("Why is it said: effusion on the left side of the chest is small?", "en", "leak"),
        ("Is there a pneumothorax to be seen?", "en", "near duplicate"),
        ("Is the left lung clear in this film?", "en", None),
    ],
)
def test_a_question_with_a_flaw_is_told_by_it(question: str, language: Language, flaw: str | None) -> None:
    report = "An effusion on the left side of the chest is small."
    earlier = ["Is there a pneumothorax to be seen", "Is the right lung clear in this film?"]
    assert question_flaw(question, report, language, earlier) == flaw


@pytest.mark.parametrize(
    ("answer", "reason", "flaw"),
    [
        ("On the left.", "stop", None),
        ("On the le", "length", "cut off"),
        ("As an AI, I do not look.", "stop", "refusal"),
        ("This is not mentioned in the report.", "stop", "refusal"),
        ("왼쪽입니다.", "stop", "wrong language"),
        ("The effusion is where?", "stop", None),
        ("Where is the effusion?", "stop", "leak"),
        (" ", "stop", "empty or endless"),
    ],
)
def test_an_answer_with_a_flaw_is_told_by_it(answer: str, reason: str, flaw: str | None) -> None:
    assert answer_flaw("Where is the effusion?", answer, reason, "en") == flaw


@pytest.mark.parametrize(
    ("sentence", "answer"),
    [
        ("No pneumothorax or pleural effusion.", "No"),
        ("There is a pleural effusion.", "Yes"),
        ("Small pleural effusion without pneumothorax.", None),
        ("No large pleural effusion.", None),
        ("Possible pleural effusion.", None),
        ("No pneumothorax but a pleural effusion on the left.", None),
    ],
)
def test_a_template_says_yes_or_no_only_where_the_report_is_sure(sentence: str, answer: str | None) -> None:
    asked = [record.turns[0] for record in ask_report("r", "p", {"FINDINGS": sentence}, ("en",), 0)]
    told = {turn.answer.partition(",")[0] for turn in asked if re.search(r"^(Is there|Does).*effusion", turn.question)}
    assert told == ({answer} if answer else set())


def test_a_korean_template_quotes_no_english() -> None:
    records = list(ask_report("r", "p", {"FINDINGS": REPORT}, ("ko",), 0))
    assert records and not any(re.search("[A-Za-z]{3}", turn.question + turn.answer) for r in records for turn in r.turns)


def test_labels_and_masks_become_questions_about_images(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:30, 5:25], mask[5:20, 35:55] = 255, 255
    for folder in ("films/NORMAL", "films/PNEUMONIA", "pairs/images", "pairs/masks"):
        (tmp_path / folder).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (3, 40, 60), np.uint8)
    Image.fromarray(noise[0]).save(tmp_path / "films/NORMAL/IM-0001-0001.png")
    Image.fromarray(noise[1]).save(tmp_path / "films/PNEUMONIA/person1_virus_1.png")
    Image.fromarray(noise[2]).save(tmp_path / "pairs/images/person2_virus_2.png")
    Image.fromarray(mask).save(tmp_path / "pairs/masks/person2_virus_2.png")
    flags = ["--templates", "--labels", str(tmp_path / "films"), "--masks", str(tmp_path / "pairs"), "--language", "both"]
    assert instruct.main([*flags, "--out", str(tmp_path / "out" / "r.jsonl")]) == 0
    records = read_records(tmp_path / "out" / "r.jsonl")
    assert {record.source for record in records} == {"label", "mask"} and {record.language for record in records} == {
        "en",
        "ko",
    }
    assert {record.patient for record in records} == {"IM-1", "person1", "person2"}
    assert all((tmp_path / "out" / str(record.image)).is_file() for record in records)
    told = [turn.answer for r in records if r.language == "en" for turn in r.turns if turn.question.startswith("Which lung")]
    assert told == ["The patient's right lung."]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "line 2: this is not JSON"),
        ("[1]", "line 2: this is no JSON object"),
        ('{"id": "r0", "sections": {}}', "line 2, field id"),
        ('{"id": "x", "sections": {"LUNGS": "clear"}}', "line 2, field sections"),
    ],
)
def test_a_broken_line_is_named_by_file_line_and_field(
    line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = reports(tmp_path, 1)
    source.write_text(source.read_text() + line + "\n")
    assert instruct.main([str(source), "--templates", "--out", str(tmp_path / "out.jsonl")]) == 2
    assert f"hilum: reports.jsonl, {said}" in capsys.readouterr().err.splitlines()[-1]


def test_without_a_model_or_templates_it_says_what_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert instruct.main([str(reports(tmp_path)), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "No model is named. Give --base-url and --model" in capsys.readouterr().err
