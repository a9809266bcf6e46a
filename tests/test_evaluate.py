"""Evaluating: what a grade says, what the controls catch, and what the gate lets through."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_adapter import make_adapter

from chat.engine.adapter import read_receipt
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from finetune import evaluate, guard, lora
from finetune.grades import Graded, by_words, figures, folds_of, grade, majority, measures, token_f1, verdict_of
from finetune.receipts import add_metrics, install, losses_of
from finetune.record_formats import Exchange, Record
from finetune.records import RecordError, split_of

WORDS = st.text("abc 가나다.,", max_size=20)


def record(name: str, answer: str, kind: str = "", language: str = "en") -> Record:
    return Record(name, name, (Exchange("?", answer),), kind=kind, language=language)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes.", "yes"), ("no, there is none", "no"), ("예.", "yes"), ("네, 보입니다.", "yes"), ("아니요.", "no"),
        ("아니오", "no"),
        ("None", None), ("Yesterday", None), ("", None), ("  **Yes**", "yes"), ("예상과 다릅니다", None), ("Right lung", None),
    ],
)  # fmt: skip
def test_a_verdict_is_what_an_answer_begins_with(answer: str, verdict: str | None) -> None:
    assert verdict_of(answer) == verdict


@given(one=WORDS, other=WORDS)
def test_token_f1_is_a_share_that_does_not_care_who_is_the_reference(one: str, other: str) -> None:
    assert 0 <= token_f1(one, other) == token_f1(other, one) <= 1
    assert token_f1(one, one) == 1


def test_token_f1_counts_words_once_for_once() -> None:
    assert token_f1("the right lung", "Right lung.") == 1
    assert token_f1("right right", "right lung") == pytest.approx(0.5)
    assert token_f1("", "lung") == 0


def test_closed_answers_are_weighed_by_side_and_open_ones_by_words() -> None:
    graded = [grade(record(f"y{i}", "Yes."), "Yes" if i < 8 else "No") for i in range(10)]
    graded += [grade(record(f"n{i}", "No."), "Yes") for i in range(2)]
    graded += [grade(record("o", "left lung", "place"), "left")]
    found = measures(graded, np.arange(len(graded)))
    assert found["closed"] == pytest.approx((0.8 + 0) / 2)
    assert found["open: place"] == found["open"] == pytest.approx(2 / 3)
    assert found["closed: place"] is None


def test_the_majority_answers_from_the_training_part_by_sort() -> None:
    taught = [
        record(f"t{i}", answer, kind)
        for i, (answer, kind) in enumerate([("No.", "a"), ("No.", "b"), ("Yes.", "a"), ("left", "a")])
    ]
    asked = [record("1", "Yes.", "a"), record("2", "right", "a"), record("3", "one", "c"), record("4", "예.", "a", "ko")]
    assert majority(asked, taught) == ["No.", "left", "one", "예."]


def test_words_alone_answer_what_the_taught_words_give_away_and_see_no_image() -> None:
    def closed(name: str, question: str, answer: str) -> Record:
        return Record(name, name, (Exchange(question, answer),), f"{name}.png")

    said = (("Is there a line here?", "No."), ("Is there a mass here?", "Yes."))
    taught = [closed(f"t{i}", *said[i % 2]) for i in range(20)]
    asked = [closed("1", "Any mass?", "No."), closed("2", "Any line?", "Yes."), record("3", "left lung", "")]
    assert by_words(asked, taught) == ["yes", "no", "left lung"]
    assert by_words(asked, taught[::2])[:2] == majority(asked, taught[::2])[:2] == ["No.", "No."]


@given(records=st.lists(st.integers(0, 12), min_size=1, max_size=40), count=st.integers(0, 8), seed=st.integers(0, 99))
def test_every_patient_stands_whole_in_one_fold_and_no_fold_is_empty(records: list[int], count: int, seed: int) -> None:
    asked = [Record(f"r{i}", f"p{patient}", (Exchange("?", "Yes."),)) for i, patient in enumerate(records)]
    if not 2 <= count <= len(set(records)):
        with pytest.raises(RecordError, match="folds"):
            folds_of(asked, count, seed)
        return
    found = folds_of(asked, count, seed)
    assert set(found) == set(range(count)) and found == folds_of(asked, count, seed)
    assert len(set(zip(records, found, strict=True))) == len(set(records))


def test_a_lead_is_paired_and_its_interval_knows_patients() -> None:
    rng = np.random.default_rng(0)
    own = [Graded(f"p{i // 4}", "a", "yes" if i % 2 else "no", float(rng.random() < 0.8)) for i in range(400)]
    worse = [Graded(g.patient, g.kind, g.truth, g.share * float(rng.random() < 0.7)) for g in own]
    value, low, high = figures(own, worse)["closed"]
    assert 0 < low < value < high
    assert figures(own, own)["closed"] == (0, 0, 0)


@pytest.mark.parametrize(
    ("base", "adapted", "lost"),
    [
        ({"scenes": 0.5}, {"scenes": 0.48}, 0), ({"scenes": 0.5}, {"scenes": 0.479}, 1), ({"scenes": 0.5}, {"scenes": 0.9}, 0),
        ({"scenes": 0.5, "tool-flip": 0.5}, {"scenes": 0.5}, 1), ({"scenes": 0.5}, {"scenes": float("nan")}, 1),
    ],
)  # fmt: skip
def test_the_gate_lets_two_points_pass_and_no_more(base: dict[str, float], adapted: dict[str, float], lost: int) -> None:
    assert len(losses_of(base, adapted)) == lost


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("evaluate") / "base")


def test_an_adapter_that_forgot_is_not_installed(base: Path, tmp_path: Path) -> None:
    adapter, target = make_adapter(tmp_path / "mine", base), tmp_path / "models" / "served"
    with pytest.raises(RecordError, match=r"scenes from 0\.900 to 0\.800"):
        install(adapter, target, {"base": {"scenes": 0.9}, "adapter": {"scenes": 0.8}})
    with pytest.raises(RecordError, match="was not measured"):
        install(adapter, target, {})
    assert not target.exists()
    graded = [grade(record(f"p{i}", "Yes." if i % 2 else "No."), "Yes") for i in range(20)]
    add_metrics(adapter, {"evaluation": evaluate.weigh({"base": graded, "adapter": graded}, 0) | {"folds": 5}})
    install(adapter, target, {"base": {"scenes": 0.9}, "adapter": {"scenes": 0.89}})
    assert read_receipt(target)["name"] == "served"
    card = (target / "README.md").read_text()
    assert "# served" in card and "never diagnoses" in card and "| closed | 0.500 (" in card
    assert "20 questions about 20 images" in card and "taught from all images" in card


def test_the_guard_asks_every_engine_the_same(base: Path) -> None:
    engine = LocalEngine(load(base, "cpu", None))
    found = guard.measure(engine, 6)
    assert found == guard.measure(engine, 6) and set(found) == {"scenes", "tool-flip"}
    assert all(0 <= value <= 1 for value in found.values())


def write(folder: Path, count: int) -> Path:
    """Bright pictures are answered yes, dark ones no: only who looks can tell."""
    rows = []
    for i in range(count):
        rng = np.random.default_rng(i)
        is_bright = bool(rng.random() < 0.5)
        pixels = rng.integers(170, 255, (56, 56, 3)) if is_bright else rng.integers(0, 85, (56, 56, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        turn = {"question": "Is it bright?", "answer": "Yes." if is_bright else "No."}
        rows.append({"id": f"r{i}", "patient": f"p{i}", "image": f"{i}.png", "turns": [turn], "kind": "light"})
    rows += [{"id": "o", "patient": "p0", "turns": [{"question": "What?", "answer": "a heart"}], "kind": "thing"}]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return folder / "records.jsonl"


@pytest.mark.slow
def test_an_adapter_that_looks_beats_its_base_and_itself_on_blank_images(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, adapter, out = write(tmp_path, 90), tmp_path / "taught", tmp_path / "found.json"
    taught = ["--model_name_or_path", str(base), "--data_path", str(records), "--output_dir", str(adapter), "--lora_r", "8"]
    taught += ["--learning_rate", "5e-3", "--mm_projector_lr", "5e-3", "--num_train_epochs", "12", "--lora_alpha", "16"]
    assert lora.main([*taught, "--gradient_checkpointing", "False", "--licence", "drawn for a test"]) == 0
    asked = [str(records), "--model", str(base), "--adapter", str(adapter), "--out", str(out), "--guard", "2"]
    assert evaluate.main(asked) == 0
    found = json.loads(out.read_text())
    held_out = sum(split_of(f"p{i}") == "test" for i in range(90))
    assert found["records"] == held_out + (split_of("p0") == "test")
    assert list(found["systems"]) == ["base", "adapter", "blank", "other", "majority", "words"]
    assert found["systems"]["adapter"]["closed"][0] > 0.9 and found["systems"]["blank"]["closed"][0] == 0.5
    assert found["leads"]["adapter - blank"]["closed"][1] > 0 and found["leads"]["adapter - other"]["closed"][0] > 0
    receipt = read_receipt(adapter)
    assert receipt["metrics"]["evaluation"]["leads"] == found["leads"] and receipt["data"]["licence"] == "drawn for a test"
    assert "closed: light" in capsys.readouterr().out


def test_folds_ask_every_closed_question_once_and_are_pooled_whole_or_not_at_all(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, parts = write(tmp_path, 12), [tmp_path / f"{number}.json" for number in range(2)]
    for number, part in enumerate(parts):
        asked = [str(records), "--model", str(base), "--fold", f"{number}/2", "--out", str(part), "--guard", "0"]
        assert evaluate.main(asked) == 0
    rows = [row for part in parts for row in json.loads(part.read_text())["answers"]["model"]]
    assert sorted(row[0] for row in rows) == sorted(f"p{i}" for i in range(12))
    pooled = ["--pool", "--out", str(tmp_path / "all.json"), "--guard", "0"]
    assert evaluate.main([*map(str, parts), *pooled]) == 0
    found = json.loads((tmp_path / "all.json").read_text())
    assert (found["records"], found["closed"], found["patients"], found["folds"]) == (12, 12, 12, 2)
    right = [np.mean([row[3] for row in rows if row[2] == side]) for side in ("yes", "no")]
    assert found["systems"]["model"]["closed"][0] == pytest.approx(np.mean(right)) and "answers" not in found
    for wrong in ([parts[0]], [parts[0], parts[0]], [*parts, tmp_path / "all.json"]):
        assert evaluate.main([*map(str, wrong), *pooled]) == 2
    assert "are not the folds of one run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--install", "x"], "nothing to install"), (["--adapter", "nowhere", "--model", "BASE"], "nowhere is no adapter"),
        (["--adapter", "nowhere"], "needs its base"), ([], "No model is named"),
        (["--model", "BASE", "--split", "val"], "no record in the val"),
        (["--model", "BASE", "--fold", "0/9"], "cannot make 9"), (["--pool"], "holds no answers of a fold"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_one_sentence(
    flags: list[str], said: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(name for name in (f"q{i}" for i in range(99)) if split_of(name) == "test")
    (tmp_path / "records.jsonl").write_text(json.dumps({"id": name, "turns": [{"question": "?", "answer": "Yes."}]}))
    given = [str(base) if flag == "BASE" else flag for flag in flags]
    assert evaluate.main([str(tmp_path / "records.jsonl"), "--out", str(tmp_path / "out.json"), *given]) == 2
    assert said in capsys.readouterr().err
