"""Evidence: what vision can vouch for about a study, and what it refuses to say.

Knows values, maps and boxes. Does not know language: the words for the prompt are `chat.wording`'s.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vision.tiling import Box

Side = Literal["right", "left"]
Zone = Literal["upper", "middle", "lower"]


@dataclass(frozen=True)
class Heatmap:
    """A saliency map: float32 (height, width) in [0, 1], in the pixels of the study's image."""

    label: str
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Mask:
    """A segmentation: bool (height, width), in the pixels of the study's image."""

    label: str
    values: NDArray[np.bool_]


@dataclass(frozen=True)
class Peak:
    """Where a trusted map is highest: the side and zone as on the patient, the box in the study's pixels."""

    side: Side
    zone: Zone
    box: Box


@dataclass(frozen=True)
class Finding:
    """One label with its calibrated probability; `trusted` says whether its map may be shown to the model."""

    label: str
    probability: float
    heatmap: Heatmap | None = None
    trusted: bool = False
    peak: Peak | None = None


Refusal = Literal["not_a_radiograph", "outside_population", "map_untrusted"]


@dataclass(frozen=True)
class Evidence:
    """What crosses from vision into a prompt.

    `labels` is the conformal label set: one label, several when the classifier cannot decide, none when
    nothing fits. `notes` names what was refused and why.
    """

    findings: tuple[Finding, ...] = ()
    labels: tuple[str, ...] = ()
    masks: tuple[Mask, ...] = ()
    notes: tuple[Refusal, ...] = field(default=())
