"""What a LoRA training reads: the training and validation parts of a file of records, as ids, and their images by hash.

Knows records, the one split and hashes. Does not know steps or optimizers.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.batches import Example, examples_of
from finetune.jsonl import disk_errors
from finetune.lora_base import Base
from finetune.lora_flags import Recipe
from finetune.receipts import digest_records
from finetune.record_files import read_records, share_patients
from finetune.record_formats import Record
from finetune.records import RecordError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lessons:
    """Examples to learn from and to validate by, the path of each image by its hash, and what the receipt says of them."""

    train: list[Example]
    val: list[Example]
    images: dict[str, Path]
    facts: dict[str, Any]


def read_lessons(recipe: Recipe, base: Base) -> Lessons:
    """Raises RecordError for records that cannot be read, and where none is in the training part or fits."""
    folder = recipe.image_folder or recipe.data_path.parent
    records, twice, _ = share_patients(read_records(recipe.data_path), folder)
    parts = {record.id: record.split if recipe.hold_out else "train" for record in records}
    taught = [record for record in records if parts[record.id] != "test"]
    digests = {name: _digest(folder / name) for name in sorted({record.image for record in taught if record.image})}
    most = min(recipe.model_max_length or base.context_tokens, base.context_tokens)
    train, long = _examples([record for record in taught if parts[record.id] == "train"], base, digests, most)
    val, longer = _examples([record for record in taught if parts[record.id] == "val"], base, digests, most)
    if twice or long or longer:
        log.warning(
            "%d records ask the same twice and %d examples are longer than %d tokens: left out", twice, long + longer, most
        )
    if not train:
        raise RecordError(
            f"{recipe.data_path.name} has nothing to teach: of {len(records)} records none is in the training part "
            f"(80 % of the patients; all: --hold_out False) and within {most} tokens. Add some, or raise --model_max_length."
        )
    facts: dict[str, Any] = {
        "sha256": digest_records(taught, digests), "train": len(train), "val": len(val), "left_out": twice + long + longer,
        "sources": dict(sorted(Counter(record.source for record in taught).items())),
    }  # fmt: skip
    used = {example.image for example in (*train, *val)}
    images = {digest: folder / name for name, digest in digests.items() if digest in used}
    return Lessons(train, val, images, facts)


def _digest(path: Path) -> str:
    with disk_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _examples(records: Sequence[Record], base: Base, digests: dict[str, str], most: int) -> tuple[list[Example], int]:
    """Those of at most so many tokens, and how many are longer."""
    found = [each for record in records for each in examples_of(record, base, digests.get(record.image or ""))]
    fitting = [example for example in found if len(example.ids) <= most]
    return fitting, len(found) - len(fitting)
