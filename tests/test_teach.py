"""The whole chain, and the records that it begins with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from chat.engine.adapter import read_receipt
from finetune import teach, vqa_rad
from finetune.record_files import read_records, share_patients
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
