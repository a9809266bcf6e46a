"""When a hit of a search is believed: a calibration per checkpoint, as a file beside it: `search.calibration`.

Knows what was fitted and for which checkpoint. Does not know how the numbers that it weighs came about.
"""

from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from chat.verified import identity

if TYPE_CHECKING:
    from vision.matching import Likeness

SEARCH = "search.calibration"
"""JSON; not named so, for a checkpoint's identity is over its .json files, and this one says which identity it belongs to."""


@dataclass(frozen=True)
class Acceptance:
    """When a hit is believed: a logistic regression over what the shapes and the engine say, fitted on scenes of both kinds.

    `match`, `margin`, `lead`, `agreement`, `alike` and `apart` weigh a `Likeness`, `yes` the log-odds of the engine's yes.
    Of a description there is the yes, and where it names a plain shape how nearly a patch fills its box like one, 0 to 1, to
    the power of `fit`, which is 0 for a checkpoint that was not taught such shapes. `identity` is the checkpoint's that it was
    fitted on; the defaults trust an engine that was never measured little.
    """

    bias: float = -8.5
    match: float = 3.3
    margin: float = 2.4
    yes: float = 0.3
    threshold: float = 0.5
    text_threshold: float = 0.9
    fit: float = 0.0
    lead: float = 3.6
    agreement: float = 1.1
    alike: float = 0.5
    apart: float = 0.8
    identity: str = ""

    def probability(self, likeness: "Likeness", yes: float | None) -> float:
        odds = self.bias + sum(getattr(self, name) * value for name, value in asdict(likeness).items())
        return 1 / (1 + exp(-max(-30.0, min(30.0, odds + (self.yes * log_odds(yes) if yes is not None else 0)))))


SCHEMA = TypeAdapter(Acceptance)


def log_odds(probability: float) -> float:
    """The log-odds, bounded: no single answer outweighs everything else."""
    p = min(0.999, max(0.001, probability))
    return log(p / (1 - p))


def read_acceptance(folder: Path) -> Acceptance:
    """What `search.calibration` beside a checkpoint says; the defaults when there is none, or it is another checkpoint's."""
    try:
        read = SCHEMA.validate_json((folder / SEARCH).read_bytes())
        return read if read.identity == identity(folder) else Acceptance()
    except (OSError, ValidationError):
        return Acceptance()


def write_acceptance(acceptance: Acceptance, folder: Path) -> None:
    """Keep what was fitted beside the checkpoint that it was fitted on. Raises OSError."""
    kept = replace(acceptance, identity=identity(folder))
    (folder / SEARCH).write_bytes(SCHEMA.dump_json(kept, indent=1) + b"\n")
