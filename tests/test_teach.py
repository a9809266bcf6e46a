"""The whole chain, and the records that it begins with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from chat.engine.adapter import read_receipt
from finetune import evaluate, teach, vqa_rad
from finetune.record_files import read_records, share_patients
from finetune.records import RecordError
from finetune.rehearsal import draw_records
from finetune.tables import read_table

ENTRY = {"qid": 7, "image_name": "a.jpg", "question": "is there air", "answer": "yes", "question_type": "PRES, ATTRIB"}


def entries(folder: Path, *changed: dict[str, Any]) -> list[str]:
    (folder / "images").mkdir(exist_ok=True)
    tiny.picture(1).save(folder / "images" / "a.jpg")
    (folder / "vqa.json").write_text(json.dumps([ENTRY | change for change in changed]))
    return [str(folder / "vqa.json"), "--images", str(folder / "images"), "--out", str(folder / "out" / "records.jsonl")]


def test_an_entry_becomes_a_record_of_its_image(tmp_path: Path) -> None:
    assert (
        vqa_rad.main(
            entries(tmp_path, {}, {"qid": 8, "answer": 3, "question_type": "COUNT"}, {"qid": 9, "answer": "No pneumonia"})
        )
        == 0
    )
    records = read_records(tmp_path / "out" / "records.jsonl")
    kept, _, _ = share_patients(records, tmp_path / "out")
    assert [(r.turns[0].question, r.turns[0].answer, r.kind, r.patient) for r in kept] == [
        ("Is there air?", "Yes.", "presence", "a.jpg"), ("Is there air?", "3", "count", "a.jpg"),
        ("Is there air?", "No pneumonia", "presence", "a.jpg"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"), [({"answer": ""}, "answer"), ({"image_name": None}, "image_name"), ({"question": ["x"]}, "question")]
)
def test_an_entry_that_lacks_something_is_named(
    change: dict[str, Any], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vqa_rad.main(entries(tmp_path, {}, change)) == 2
    assert f"vqa.json, entry 2, field {field}" in capsys.readouterr().err


def test_drawn_records_are_the_same_every_time(tmp_path: Path) -> None:
    one, other = (read_records(draw_records(tmp_path / name, 6)) for name in ("one", "other"))
    assert one == other and {record.language for record in one} == {"en", "ko"}
    assert all(
        (tmp_path / "one" / str(record.image)).read_bytes() == (tmp_path / "other" / str(record.image)).read_bytes()
        for record in one
    )


def test_reports_are_taught_only_when_that_is_asked_for(tmp_path: Path) -> None:
    assert vqa_rad.main(entries(tmp_path, {})) == 0
    (tmp_path / "asked.jsonl").write_text(
        json.dumps({"id": "r", "context": "clear", "turns": [{"question": "?", "answer": "x"}]})
    )
    sources = {"vqa": tmp_path / "out" / "records.jsonl", "reports": tmp_path / "asked.jsonl"}
    for with_reports in (False, True):
        path, licence = teach.mix(sources, tmp_path, 4, 2, 0, with_reports)
        assert ("r" in {record.id for record in read_records(path)}) is with_reports is ("BY-NC-ND" in licence)
        assert sum(record.source == "scenes" for record in read_records(path)) == 4


def test_a_fold_is_taught_from_no_image_that_it_is_measured_on(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        tiny.picture(number).save(images / f"{number}.jpg")
    (tmp_path / "vqa.json").write_text(json.dumps([ENTRY | {"qid": n, "image_name": f"{n}.jpg"} for n in range(20)]))
    records = tmp_path / "out" / "vqa.jsonl"
    assert vqa_rad.main([str(tmp_path / "vqa.json"), "--images", str(images), "--out", str(records)]) == 0
    seen = []
    for number in range(3):  # the last holds none out
        path, _ = teach.mix({"vqa": records}, tmp_path / "out", 3, 3, 0, False, (number, 2))
        mine = [record for record in read_records(path) if record.source == "vqa_rad" and record.kind != "blank"]
        seen.append({record.patient for record in mine})
        assert {f"{Path(str(record.image)).stem.split('-')[0]}.jpg" for record in mine} == seen[-1]
        if number < 2:
            asked, _ = evaluate.read_asked(records, None, "test", (number, 2))
            assert not seen[-1] & {record.patient for record in asked.records}
            assert len(seen[-1]) + len(asked.records) == 20
    assert seen[0] | seen[1] == seen[2] == {f"{number}.jpg" for number in range(20)} and not seen[0] & seen[1]


@pytest.mark.slow
def test_folds_are_measured_by_adapters_of_their_own_and_a_kill_costs_no_fold(tmp_path: Path) -> None:
    data, out, base = tmp_path / "data", tmp_path / "out", tiny.build(tmp_path / "base")
    (data / "vqa_rad" / "images").mkdir(parents=True)
    rows = []
    for number in range(8):
        tiny.picture(number).save(data / "vqa_rad" / "images" / f"{number}.jpg")
        rows.append(ENTRY | {"qid": number, "image_name": f"{number}.jpg", "answer": "yes" if number % 2 else "no"})
    (data / "vqa_rad" / "chest_train.json").write_text(json.dumps(rows))
    command = ["--data", str(data), "--out", str(out), "--model", str(base), "--most", "3", "--guard", "0", "--epochs", "1"]
    assert teach.main([*command, "--folds", "2"]) == 0
    found = json.loads((out / "evaluation.json").read_text())
    assert found["closed"] == 8 and found["folds"] == 2 and {"adapter - base", "adapter - blank"} <= set(found["leads"])
    receipts = [read_receipt(out / name) for name in ("fold-0", "fold-1", "adapter")]
    assert (
        len({receipt["data"]["sha256"] for receipt in receipts}) == 3 and len({str(r["config"]["seed"]) for r in receipts}) == 1
    )
    assert receipts[2]["metrics"]["evaluation"]["leads"] == found["leads"] and not (out / "features").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "fold-0.json", out / "fold-0" / "manifest.json")}
    (out / "fold-1.json").unlink()
    assert teach.main([*command, "--folds", "2"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before} and (out / "fold-1.json").exists()


def test_a_run_is_not_gone_on_with_under_other_flags(tmp_path: Path) -> None:
    teach.keep_or_compare(tmp_path, {"copies": 4, "learning_rate": 3e-4})
    teach.keep_or_compare(tmp_path, {"copies": 4, "learning_rate": 3e-4})
    with pytest.raises(RecordError, match="other flags"):
        teach.keep_or_compare(tmp_path, {"copies": 1, "learning_rate": 3e-4})


def test_what_holds_nothing_to_teach_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert teach.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "There is nothing to teach" in capsys.readouterr().err


@pytest.mark.slow
def test_the_chain_goes_from_data_to_a_plot_and_does_nothing_twice(tmp_path: Path, shared_data: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    base = tiny.silence(tiny.build(tmp_path / "base"), tiny.beyond_ascii())
    (data / "vqa_rad").mkdir(parents=True)
    (data / "openi_reports").mkdir()
    for path in sorted((shared_data / "openi_reports").glob("*.xml"))[:60]:
        shutil.copy(path, data / "openi_reports")
    images = data / "vqa_rad" / "images"
    images.mkdir()
    rows = []
    for number in range(30):
        tiny.picture(number).save(images / f"{number}.jpg")
        rows.append(ENTRY | {"qid": number, "image_name": f"{number}.jpg", "answer": "yes" if number % 2 else "no"})
    (data / "vqa_rad" / "chest_train.json").write_text(json.dumps(rows))
    command = ["--data", str(data), "--out", str(out), "--model", str(base), "--most", "6", "--guard", "2", "--epochs", "1"]
    assert teach.main(command) == 0
    columns, graded = read_table(out / "grades.csv", ("report", "question"))
    assert graded and {"base_answer", "adapter_answer", "base_rule_score", "adapter_score"} <= set(columns)
    assert (out / "grades.png").stat().st_size > 1000 and "| adapter |" in (out / "grades.md").read_text()
    assert "CC0" in read_receipt(out / "adapter")["data"]["licence"]
    before = {path: path.stat().st_mtime_ns for path in (out / "answers.csv", out / "grades.csv", *(out / "adapter").iterdir())}
    assert teach.main(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
