"""The one split: children stay together, and every run agrees."""

from collections import Counter

import pytest

from finetune.records import patient_of, split_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("person12_virus_46.jpeg", "PNEUMONIA_person12_bacteria_50.jpg"),
        ("IM-0115-0001.jpeg", "NORMAL_IM-0115-0002.jpg"),
        ("IM-0383-0001.jpeg", "NORMAL2-IM-0383-0001-0002.jpeg"),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115-0001.png"),
    ],
)
def test_names_of_one_child_agree(one: str, other: str) -> None:
    assert patient_of(one) == patient_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("person1_virus_6.jpeg", "person12_virus_6.jpeg"), ("IM-0115-0001.jpeg", "person115_virus_1.jpeg"), ("a.png", "b.png")],
)
def test_names_of_two_children_differ(one: str, other: str) -> None:
    assert patient_of(one) != patient_of(other)


def test_the_split_is_80_10_10_and_never_changes() -> None:
    counts = Counter(split_of(f"person{number}") for number in range(10_000))
    assert {split: round(count / 1_000) for split, count in counts.items()} == {"train": 8, "val": 1, "test": 1}
    assert [split_of(f"person{number}") for number in (1, 2, 3, 12, 46)] == ["val", "train", "train", "train", "train"]
