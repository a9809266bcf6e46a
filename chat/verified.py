"""What `python app.py verify` found out about a checkpoint, as a file beside it: `verified.json`.

Knows the file's schema and which checkpoint it belongs to. Does not know how anything in it was measured.
A threshold that was measured on one checkpoint, or in one precision, is never handed out for another.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from chat.wording import Language
from vision.figures import Size

VERIFIED = "verified.json"

PIECES, PIECE_BYTES = 64, 1 << 16
"""Of a large file so many pieces, evenly spread, go into the identity: milliseconds, also for 14 GB."""

_READ = (".json", ".safetensors", ".bin", ".model")

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Interval = tuple[Share, Share]


@dataclass(frozen=True)
class Calibration:
    """Closed questions in one language, half of them true. P(yes) is the probability of "Yes" against "No".

    `yes_bias` is the mean P(yes) where the truth is no. Intervals are 95 % bootstrap intervals. `threshold` is the P(yes)
    from which a yes should be believed, None where the interval of `auc` does not lie above 0.5; `balanced_accuracy` holds
    at it, on the same questions (so a little too good).
    """

    questions: int
    auc: Share
    auc_interval: Interval
    accuracy_at_half: Share
    yes_bias: Share
    threshold: Share | None
    threshold_interval: Interval | None
    balanced_accuracy: Share | None


@dataclass(frozen=True)
class ClosedQuestions(Calibration):
    """The calibration of a language, and the same for whole pictures and for small crops alone."""

    by_size: Mapping[Size, Calibration]


@dataclass(frozen=True)
class Speed:
    """On the machine at hand. `peak_bytes` is of the GPU's memory, or of the process where there is none."""

    load_seconds: Amount
    first_token_seconds: Amount
    tokens_per_second: Amount | None
    peak_bytes: int


@dataclass(frozen=True)
class Fluency:
    """Greedy answers to Korean questions: shares of Hangul among letters and of distinct letter triples, and how they end."""

    answers: int
    hangul_share: Share
    distinct_3: Share
    broken_letters: int
    ended: int


@dataclass(frozen=True)
class Verified:
    """One verification. `problems` are the sentences of what is off; none of them holds a prompt or an answer."""

    version: Literal[1]
    name: str
    identity: str
    date: str
    device: str
    dtype: str
    four_bit: bool
    is_quick: bool
    has_manifest: bool
    machine: str
    speed: Speed
    greedy_equal: int
    closed_questions: Mapping[Language, ClosedQuestions]
    korean: Fluency
    problems: tuple[str, ...]


SCHEMA = TypeAdapter(Verified)


def precision(description: Mapping[str, str]) -> tuple[str, bool]:
    """The `dtype` and `four_bit` of a `LocalEngine.description`."""
    return description["compute"], description["weights"].startswith("4-bit")


def identity(folder: Path) -> str:
    """SHA-256 over the names, sizes and contents of a checkpoint's files, of large ones in samples.

    It tells checkpoints apart and is no proof against tampering, which the manifest is. Raises OSError.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in _READ or path.name == VERIFIED:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(PIECE_BYTES, size // PIECES)):
                file.seek(start)
                digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()


def read_verified(folder: Path, description: Mapping[str, str], file: Path | None = None) -> Verified | None:
    """What is known about the checkpoint in `folder` as an engine with this `description` runs it; `file` for `--out`.

    None when it was never verified, the file is damaged, or it belongs to another checkpoint or another precision.
    """
    try:
        verified = SCHEMA.validate_json((file or folder / VERIFIED).read_bytes())
        is_own = (verified.identity, verified.dtype, verified.four_bit) == (identity(folder), *precision(description))
    except (OSError, ValidationError):
        return None
    return verified if is_own else None
