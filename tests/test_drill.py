"""The drill: what a question turns into, and on which pictures it is asked."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from finetune.drill import drill, in_other_words, opposite, topic, vary
from finetune.grades import verdict_of
from finetune.record_files import share_patients
from finetune.record_formats import Exchange, Record
from finetune.records import RecordError

QUESTIONS = ("Is there a pneumothorax?", "Is the heart normal in size?", "Is the heart enlarged?", "Was this taken in PA?")


@pytest.mark.parametrize(
    ("question", "turned"),
    [
        ("Is this image normal?", "Is this image abnormal?"),
        ("Is/Are the trachea abnormal?", "Is/Are the trachea normal?"),
        ("Is the heart enlarged?", "Is the heart normal in size?"),
        ("Does the aorta look normal?", "Does the aorta look abnormal?"),
        ("Are there abnormal findings?", None),
        ("Is there an abnormality?", None),
        ("Is the normal heart enlarged?", None),
        ("Is the trachea deviated?", None),
    ],
)
def test_only_a_plain_question_has_an_opposite(question: str, turned: str | None) -> None:
    assert opposite(question) == turned
    assert turned is None or "normal in size" in turned or opposite(turned) == question


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Is there cardiomegaly?", "Does the heart appear enlarged?", True),
        ("Is/Are there rib fractures?", "Is a rib fracture present in this image?", True),
        ("Is the heart normal?", "Is the heart abnormal?", False),
        ("Is there a pneumothorax?", "Is there no pneumothorax?", False),
        ("Is the left lung larger than the right?", "Is the right lung larger than the left?", False),
        ("폐렴이 있습니까?", "기흉이 있습니까?", False),
    ],
)
def test_questions_of_one_topic_have_one_answer_on_one_film(one: str, other: str, is_same: bool) -> None:
    assert (topic(one) == topic(other)) is is_same


def test_what_films_decide_is_balanced_and_asked_of_both_in_the_same_words(tmp_path: Path) -> None:
    asked = []
    for number in range(12):
        tiny.picture(number).save(tmp_path / f"{number}.png")
        question, answer = ("Is there cardiomegaly?", "No.") if number % 4 else ("Is cardiomegaly shown?", "Yes.")
        for place, turn in enumerate((Exchange(question, answer), Exchange(f"Is there thing {number}?", "No."))):
            asked.append(Record(f"r{number}-{place}", f"p{number}", (turn,), f"{number}.png", "", "presence"))
    drilled = [r for r in drill(asked, tmp_path, tmp_path / "copies", 6, 0, all_taught=True) if r.kind == "presence"]
    hearts = [(r.turns[-1].question, verdict_of(r.turns[-1].answer)) for r in drilled if "thing" not in r.turns[-1].question]
    sides = Counter(side for _, side in hearts)
    assert 0.8 < sides["yes"] / sides["no"] < 1.25
    assert {("Is there cardiomegaly?", "yes"), ("Is cardiomegaly shown?", "no")} <= set(hearts)
    assert {verdict_of(r.turns[-1].answer) for r in drilled if "thing" in r.turns[-1].question} == {"no"}


@given(st.sampled_from(("a pneumothorax", "rib fractures", "evidence of a mass")), st.integers())
def test_other_words_ask_for_the_same_thing(thing: str, seed: int) -> None:
    said = in_other_words(f"Is/Are there {thing} present?", Random(seed))
    assert thing.removeprefix("evidence of ") in said and said.count("?") == 1


def records(folder: Path, patients: int = 30) -> list[Record]:
    """Four closed questions and an open one for each patient, nine of ten closed ones with no."""
    found = []
    for number in range(patients):
        tiny.picture(number).save(folder / f"{number}.png")
        for place, question in enumerate(QUESTIONS):
            answer = "Yes." if (number + place) % 10 == 0 else "No."
            turns, image = (Exchange(question, answer),), f"{number}.png"
            found.append(Record(f"r{number}-{place}", f"p{number}", turns, image, "", "presence"))
        found.append(Record(f"r{number}-open", f"p{number}", (Exchange("Where?", "The lungs"),), image, "", "position"))
    return found


def test_the_training_part_grows_nearer_to_balance_and_the_rest_stays(tmp_path: Path) -> None:
    asked = records(tmp_path)
    drilled = list(drill(asked, tmp_path, tmp_path / "out" / "copies", 4, 0))
    own = {record.id: record for record in asked}
    for record in (r for r in drilled if r.split != "train"):
        assert record.turns == own[record.id].turns and record.image == f"../{own[record.id].image}"
    sides = [
        Counter(verdict_of(r.turns[-1].answer) for r in some if r.split == "train" and r.kind == "presence")
        for some in (asked, drilled)
    ]
    assert sides[1]["yes"] / sides[1]["no"] > 2.5 * sides[0]["yes"] / sides[0]["no"]
    for record in drilled:
        first = own[record.id.rsplit("-", 1)[0]] if record.id not in own else own[record.id]
        if record.kind != "blank" and record.turns[-1].question == opposite(first.turns[-1].question):
            assert verdict_of(record.turns[-1].answer) != verdict_of(first.turns[-1].answer)
        elif record.kind != "blank":
            assert record.turns[-1].answer == first.turns[-1].answer
    blank = [record for record in drilled if record.kind == "blank"]
    assert blank and not any(verdict_of(record.turns[-1].answer) for record in blank)
    kept, _, moved = share_patients(drilled, tmp_path / "out")
    assert moved == 0 and {r.patient for r in kept if r.split != "train"} == {r.patient for r in asked if r.split != "train"}
    assert drilled == list(drill(asked, tmp_path, tmp_path / "out" / "copies", 4, 0))


@given(st.integers())
def test_a_varied_film_keeps_its_left_and_its_tones_in_order(seed: int) -> None:
    film = Image.fromarray(np.tile(np.linspace(0, 255, 80).astype(np.uint8), (60, 1))).convert("RGB")
    varied = np.asarray(vary(film, Random(seed)).convert("L"), float)
    middle = varied[varied.shape[0] // 2 - 5 : varied.shape[0] // 2 + 5].mean(0)
    assert middle[len(middle) // 4] < middle[3 * len(middle) // 4]
    assert 0.85 * 80 <= varied.shape[1] <= 80


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    record = next(record for record in records(tmp_path) if record.split == "train" and record.kind == "position")
    (tmp_path / str(record.image)).write_bytes(b"no image")
    with pytest.raises(RecordError, match="cannot be read as an image"):
        list(drill([record], tmp_path, tmp_path / "copies", 3, 0))
