"""Evidence: what vision can vouch for about a study, and what it refuses to say.

Knows values, maps and boxes. Does not know language: the words for the prompt are `chat.wording`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision.tiling import Box

Side = Literal["right", "left"]
Zone = Literal["upper", "middle", "lower"]
LUNGS = ("right lung", "left lung")
"""The labels, and the order, of the masks of the patient's lungs."""


class CheckpointError(Exception):
    """Weights that evidence or a search needs cannot be used; the message says which, and what to do.

    Where a page may have to say it, `reason` names the fact and `fields` hold what the person's sentence needs.
    """

    def __init__(self, message: str, reason: str = "", **fields: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.fields = fields


@dataclass(frozen=True)
class Heatmap:
    """A saliency map: float32 (rows, columns) in [0, 1], cells of equal size that cover the study's image from edge to edge."""

    label: str
    values: NDArray[np.float32]

    def at(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """The map as float32 (height, width) for an image of `size` (width, height), bilinear."""
        return np.asarray(Image.fromarray(self.values).resize(size, Image.Resampling.BILINEAR), np.float32)


@dataclass(frozen=True)
class Mask:
    """A segmentation: bool (height, width), in the pixels of the study's image."""

    label: str
    values: NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """One class in one film: `share` of its pixels, the `box` around it in them, its number of `components`.

    `area_cm2` is None without the film's pixel spacing; `box` and `side`, the patient's (whose right is at the image's left)
    on which its middle lies, are None where nothing was found.
    """

    mask: Mask
    share: float
    components: int
    area_cm2: float | None = None
    box: Box | None = None
    side: Side | None = None

    def result(self) -> dict[str, object]:
        """What the API and the command line say about a region that was found."""
        area = {} if self.area_cm2 is None else {"area_cm2": round(self.area_cm2, 1)}
        return {"label": self.mask.label, "area": round(self.share, 4), **area, "box": self.box.corners if self.box else None}


@dataclass(frozen=True)
class Peak:
    """Where a trusted map is highest: the side and zone as on the patient, the box in the study's pixels."""

    side: Side
    zone: Zone
    box: Box


@dataclass(frozen=True)
class Finding:
    """One label with its calibrated probability; `trusted` says whether its map may be shown to the model, `doubt` why not.

    `inside` is the share of the map's mass that lies in the lungs of a mask; None without one.
    """

    label: str
    probability: float
    heatmap: Heatmap | None = None
    trusted: bool = False
    peak: Peak | None = None
    doubt: str | None = None
    inside: float | None = None


Item = Literal["labels", "map"]
"""What a person may switch off: what the classifier says, and where its map peaks."""
ITEMS: frozenset[Item] = frozenset(get_args(Item))

Refusal = Literal["not_a_radiograph", "outside_population", "map_untrusted"]


@dataclass(frozen=True)
class Evidence:
    """What crosses from vision into a prompt.

    `labels` is the conformal label set: one label, several when the classifier cannot decide, none when nothing fits;
    `probabilities` are the calibrated ones of every label. `regions` are what a segmenter found, `mask_reason` why it gave
    nothing. `notes` names what was refused, `reason` what an image that was refused looks like instead. `items` is what the
    person lets through to the prompt.
    """

    findings: tuple[Finding, ...] = ()
    labels: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[Refusal, ...] = field(default=())
    reason: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    mask_reason: str | None = None

    items: frozenset[Item] = ITEMS

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of what was found."""
        return tuple(region.mask for region in self.regions)

    @property
    def pointer(self) -> Finding | None:
        """The finding whose map may be built on; None when there is none, or when the map is switched off."""
        if "map" not in self.items or self.is_withheld:
            return None
        return next((finding for finding in self.findings if finding.trusted and finding.peak), None)

    @property
    def is_withheld(self) -> bool:
        """Whether the classifier has no say about this image, whatever it found."""
        return bool({"not_a_radiograph", "outside_population"} & set(self.notes))

    @property
    def is_in_domain(self) -> bool:
        """Whether the study is a film of the kind that was trained on, whoever it is of."""
        return "not_a_radiograph" not in self.notes

    def result(self, image: str | None = None) -> dict[str, object]:
        """What the API and the command line say about an examination; the keys are a promise to others."""
        pointer = self.pointer
        peak = pointer.peak if pointer else None
        return {
            "image": image,
            "in_domain": self.is_in_domain,
            "reason": self.reason or next((f.doubt for f in self.findings if "map_untrusted" in self.notes), None),
            "labels": list(self.labels),
            "probabilities": {label: round(p, 4) for label, p in self.probabilities.items()},
            "trusted": pointer is not None,
            "peak": {"side": peak.side, "zone": peak.zone, "box": peak.box.corners} if peak else None,
            "masks": [region.result() for region in self.regions],
            "mask_reason": self.mask_reason,
        }
