"""Samples: images in a folder per class, each child on one side of the one split.

Knows files, names and hashes. Does not know models or transforms.
"""

import hashlib
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from PIL import Image, UnidentifiedImageError

from finetune.records import RecordError, Split, patient_of, split_of

log = logging.getLogger(__name__)
T = TypeVar("T", bound="Digested")


TRAINED_ON = "trained_on.txt"


class Digested(Protocol):
    """Something to teach with whose pixels a short hash stands for."""

    @property
    def digest(self) -> str: ...


class Saved(Protocol):
    """A model with all that belongs to it."""

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Sample:
    """One image on disk; `label` is its folder's name, `digest` stands for its pixels."""

    path: Path
    label: str
    patient: str
    split: Split
    digest: str


def digest_of(image: Image.Image) -> str:
    """A short hash of an image's grey pixels, and of nothing else in its file."""
    return hashlib.sha256(repr(image.size).encode() + image.convert("L").tobytes()).hexdigest()[:16]


def find_samples(root: Path, labels: Sequence[str] | None = None) -> list[Sample]:
    """The images in `root/LABEL/`, sorted; files of equal pixels are kept once, what is no image is left out and counted.

    Without `labels` every folder is a class. A name without a patient's number is a patient of its own. Raises RecordError
    when there is no class folder, or when no image is in one.
    """
    folders = [folder for folder in sorted(root.glob("*")) if folder.is_dir() and (labels is None or folder.name in labels)]
    samples: dict[str, Sample] = {}
    equal = broken = 0
    for folder in folders:
        for path in sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")):
            try:
                with Image.open(path) as image:
                    digest = digest_of(image)
            except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
                broken += 1
                continue
            equal += digest in samples
            patient = patient_of(path.name)
            samples.setdefault(digest, Sample(path, folder.name, patient, split_of(patient), digest))
    if not samples:
        wanted = f"folders named {', '.join(labels)}" if labels else "a folder per class"
        raise RecordError(f"There is no image to read in {root.name}/. It needs {wanted}, with image files in them.")
    log.info("%d images; %d more with pixels seen before, %d files that are no image", len(samples), equal, broken)
    return list(samples.values())


def publish(model: Saved, out: Path) -> None:
    """Save into `out`; a disk that is full leaves what stood there before."""
    with tempfile.TemporaryDirectory(dir=out) as fresh:
        model.save(Path(fresh))
        for file in Path(fresh).iterdir():
            file.chmod(0o644)
            file.replace(out / file.name)


def list_seen(seen: Iterable[Digested], folder: Path) -> None:
    """Write down beside a model's weights what it was taught and tuned with."""
    (folder / TRAINED_ON).write_text("".join(f"{digest}\n" for digest in sorted(s.digest for s in seen)), "utf-8")


def leave_seen_out(found: Sequence[T], folder: Path, root: Path) -> tuple[list[T], int]:
    """What of `root` the model in `folder` was not taught or tuned with, and how many were left out.

    Raises RecordError when nothing is left.
    """
    listed = folder / TRAINED_ON
    seen = set(listed.read_text("utf-8").split()) if listed.is_file() else set()
    left = [one for one in found if one.digest not in seen]
    if not left:
        raise RecordError(f"Every image in {root.name}/ was trained on. Evaluate on others.")
    return left, len(found) - len(left)
