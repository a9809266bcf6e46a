"""Samples: images in a folder per class, each child on one side of the one split.

Knows files, names and hashes. Does not know models or transforms.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from finetune.records import RecordError, Split, patient_of, split_of

log = logging.getLogger(__name__)


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
