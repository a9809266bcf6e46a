"""Records: which child a film belongs to, and on which side of the one split it falls.

Knows names and hashes. Does not know pixels, models or prompts. Every trainer and benchmark takes its
split from here, so that nothing that was trained on is ever measured on.
"""

import hashlib
import re
from typing import Literal

Split = Literal["train", "val", "test"]


class RecordError(Exception):
    """This folder or record cannot be taught from; the message says which, and what to do."""


_CLASS_PREFIX = re.compile(r"^(NORMAL|PNEUMONIA)_")
_PERSON = re.compile(r"^person(\d+)", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?:NORMAL2-)?IM-(\d+)", re.IGNORECASE)


def patient_of(file_name: str) -> str:
    """The child that a film of Kermany et al. (2018) belongs to, from its file name.

    `person12_virus_46.jpeg` and `PNEUMONIA_person12_bacteria_50.jpg` are the same child, and so are
    `IM-0115-0001.jpeg` and `NORMAL2-IM-0115-0001-0002.jpeg`. A name of another form is its own patient.
    """
    stem = _CLASS_PREFIX.sub("", file_name.rsplit("/", 1)[-1]).rsplit(".", 1)[0]
    if match := _PERSON.match(stem):
        return f"person{int(match[1])}"
    if match := _NUMBERED.match(stem):
        return f"IM-{int(match[1])}"
    return stem


def split_of(patient: str) -> Split:
    """`train`, `val` or `test` (80/10/10) by a hash of the patient, the same in every run and on every machine."""
    bucket = int.from_bytes(hashlib.sha256(f"hilum:{patient}".encode()).digest()[:4], "big") % 10
    return "val" if bucket == 8 else "test" if bucket == 9 else "train"
