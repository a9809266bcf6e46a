"""Records on disk: the same there and back in every format, split by patient, and told by file, line and field when wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import record_files
from finetune.jsonl import Ledger, read_objects, write_objects
from finetune.record_files import read_records, share_patients, write_as
from finetune.record_formats import FORMS, Exchange, Record
from finetune.records import RecordError, split_of

WORDS = st.text("ab 가?\n<>", min_size=1, max_size=12).map(str.strip).filter(bool)
TURNS = st.lists(st.builds(Exchange, WORDS, WORDS), min_size=1, max_size=3).map(tuple)
RECORDS = st.lists(
    st.builds(Record, WORDS, WORDS, TURNS, st.sampled_from([None, "a/b.png"]), st.just("") | WORDS, st.just("finding")),
    min_size=1, max_size=5, unique_by=lambda record: record.id,
)  # fmt: skip


@given(records=RECORDS, to=st.sampled_from(list(FORMS)))
@settings(max_examples=60)
def test_records_are_the_same_there_and_back(records: list[Record], to: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("there") / "file"
    if to == "alpaca" and any(len(record.turns) > 1 for record in records):
        with pytest.raises(RecordError, match="alpaca holds one"):
            write_as(path, records, to)
    else:
        write_as(path, records, to)
        assert read_records(path) == records


def save(folder: Path, value: object, name: str = "file.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def test_llava_as_its_scripts_write_it_is_read(tmp_path: Path) -> None:
    said = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A film."},
            {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]  # fmt: skip
    (record,) = read_records(save(tmp_path, [{"id": "000", "image": "x.jpg", "conversations": said}]))
    assert record == Record("000", "000", (Exchange("What is it?", "A film."), Exchange("Sure?", "Yes.")), "x.jpg")


def test_sharegpt_with_roles_and_a_system_message_is_read(tmp_path: Path) -> None:
    said = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "<image>Hi"},
        {"role": "assistant", "content": "Ho"},
    ]
    (record,) = read_records(save(tmp_path, [{"messages": said, "images": ["x.jpg"]}]))
    assert (record.turns, record.image) == ((Exchange("Hi", "Ho"),), "x.jpg")


def test_the_earlier_instructions_are_read(tmp_path: Path) -> None:
    (record,) = read_records(save(tmp_path, [{"instruction": "Summarise.", "input": "FINDINGS: clear", "output": "Normal."}]))
    assert (record.turns, record.context, record.image) == ((Exchange("Summarise.", "Normal."),), "FINDINGS: clear", None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"turns": [{"question": "q", "answer": "a"}]}, "field id: it is missing"),
        ({"id": "1", "turns": []}, "field turns: it must be a list"),
        ({"id": "1", "turns": [{"question": "q", "answer": " "}]}, "field turns[0].answer: it is empty"),
        ({"id": "1", "turns": [{"question": "q", "answer": "a"}], "image": 3}, "field image: it must be text, not int"),
        (
            {"id": "1", "conversations": [{"from": "gpt", "value": "a"}]},
            "field conversations: person and model must take turns",
        ),
        (
            {"id": "1", "conversations": [{"from": "human", "value": 7}, {"from": "gpt", "value": "a"}]},
            "field conversations[0]",
        ),
        ({"id": "1", "messages": "no"}, "field messages: it must be a list"),
        ({"id": "1", "messages": [{"role": "user", "content": "q"}] * 2}, "field messages: person and model"),
        ({"id": "1", "instruction": "q", "output": ""}, "field output: it is empty"),
        ({"id": "1", "instruction": "q", "output": "a", "images": ["a", "b"]}, "field images: a record holds one image"),
        ({"id": "0", "turns": [{"question": "q", "answer": "a"}]}, "field id: '0' is there twice"),
        ({"id": "1"}, "none of the fields turns, conversations, messages, instruction"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(row: dict[str, object], said: str, tmp_path: Path) -> None:
    good = {"id": "0", "turns": [{"question": "q", "answer": "a"}]}
    path = tmp_path / "r.jsonl"
    path.write_text(f"{json.dumps(good)}\n\n{json.dumps(row)}\n")
    with pytest.raises(RecordError) as error:
        read_records(path)
    assert str(error.value).startswith("r.jsonl, line 3") and said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"id": \n', "r.json, line 1: this is not JSON"),
        (b"[1]", "r.json, record 1: this is no JSON object"),
        (b"[{]", "r.json, line 1: this is not JSON"),
        (b"[\xff]", "r.json is not JSON in UTF-8"),
        (b"[" * 100_000, "r.json is not JSON in UTF-8"),
        (b"", "r.json holds no record"),
    ],
)
def test_what_is_no_json_is_one_sentence(content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_bytes(content)
    assert record_files.main(["check", str(tmp_path / "r.json")]) == 2
    assert capsys.readouterr().err.startswith(f"hilum: {said}")


def pictures(folder: Path) -> None:
    for name, seed in (("a.png", 1), ("b.png", 2), ("same_as_a.png", 1)):
        tiny.picture(seed).save(folder / name)


def about(name: str, patient: str, image: str, question: str) -> Record:
    return Record(name, patient, (Exchange(question, "Yes."),), image)


def test_equal_pixels_are_one_patient_and_are_asked_the_same_once(tmp_path: Path) -> None:
    pictures(tmp_path)
    records = [
        about("1", "p1", "a.png", "q1"), about("2", "p2", "b.png", "q1"), about("3", "p2", "same_as_a.png", "q2"),
        about("4", "p3", "same_as_a.png", "q1"),
    ]  # fmt: skip
    kept, equal, moved = share_patients(records, tmp_path)
    assert ([record.id for record in kept], equal, moved) == (["1", "2", "3"], 1, 2)
    assert {record.patient for record in kept} == {"p1"}
    assert {record.split for record in kept} == {split_of("p1")}


def test_check_counts_and_names_a_missing_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path)
    records = [about("1", "p1", "a.png", "q1"), about("2", "p2", "b.png", "q1")]
    write_as(tmp_path / "r.jsonl", records, "records")
    assert record_files.main(["check", str(tmp_path / "r.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out)["with_image"] == 2
    (tmp_path / "b.png").unlink()
    assert record_files.main(["check", str(tmp_path / "r.jsonl")]) == 2
    assert "Record '2', field image: 'b.png' is missing." in capsys.readouterr().err


def test_convert_writes_what_others_read(tmp_path: Path) -> None:
    write_as(tmp_path / "r.jsonl", [Record("1", "p", (Exchange("q", "a"),), "x.png", "Report.")], "records")
    assert record_files.main(["convert", str(tmp_path / "r.jsonl"), "--to", "llava", "--out", str(tmp_path / "l.json")]) == 0
    (row,) = json.loads((tmp_path / "l.json").read_text())
    assert row["conversations"][0] == {"from": "human", "value": "<image>\nReport.\n\nq"} and row["image"] == "x.png"


@pytest.mark.parametrize("torn", [b"", b'{"key": "c", "te', b"\x00\xff"])
def test_a_ledger_forgets_only_the_line_that_was_cut_short(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    ledger = Ledger(path)
    ledger.append("a", text="가\ud800")
    ledger.append("b", text="2")
    ledger.close()
    with path.open("ab") as file:
        file.write(torn)
    again = Ledger(path)
    assert {key: line["text"] for key, line in again.paid.items()} == {"a": "가\ud800", "b": "2"}
    again.append("c", text="3")
    again.close()
    assert [line["key"] for _, line in read_objects(path)] == ["a", "b", "c"]


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: {}[0]])
def test_a_file_that_cannot_be_finished_leaves_what_stood_there(broken: Callable[[], object], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_objects(path, [{"old": 1}])
    with pytest.raises((ZeroDivisionError, KeyError)):
        write_objects(path, (broken() if number else {"new": 1} for number in range(2)))
    assert [row for _, row in read_objects(path)] == [{"old": 1}]
    assert [file.name for file in tmp_path.iterdir()] == ["r.jsonl"]
