"""A lookup: what one use of a search tool was asked for on one image, and how far it has come.

Knows searches and inspections. Does not know desks, components or words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from chat.finding import Search, Wanted
from chat.ui.pictures import THUMBNAIL_SIDE, data_url, layers_of
from vision.anomaly import Inspection, Memory
from vision.search import Hit, zoomed
from vision.study import Study
from vision.tiling import Box, cut

AROUND = 1.6
"""How many times larger than a hit the part is that the next question is about."""


@dataclass(frozen=True)
class Normals:
    """How many normal images a person gave, and what is remembered of them."""

    count: int
    memory: Memory


@dataclass(eq=False)
class Lookup:
    """None yet, one that waits for the engine or is under way, or one that has ended; without `wanted`, for a defect."""

    state: Literal["none", "waiting", "running", "done", "stopped"] = "none"
    wanted: Wanted | None = None
    study: Study | None = None
    search: Search = field(default_factory=Search)
    inspection: Inspection | None = None
    trouble: Exception | None = None
    is_stopped: bool = False
    _shown: dict[Box, str] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        return self.state in ("waiting", "running")

    @property
    def hits(self) -> Sequence[Hit]:
        """What was found, best first, in the pixels of the study's image."""
        return self.inspection.hits if self.inspection else self.search.hits

    def crop(self, box: Box) -> Box:
        """A place with a little around it: what a question about it is asked with."""
        return zoomed(box, AROUND, self.study.image.size) if self.study else box

    def thumbnail(self, box: Box) -> str:
        """The crop as a data URL, made once."""
        if box not in self._shown and self.study:
            self._shown[box] = data_url(cut(self.study.image, self.crop(box)).image, THUMBNAIL_SIDE)
        return self._shown.get(box, "")

    @property
    def heat(self) -> str:
        """The inspection's map as a layer over the image, made once; "" where there is none."""
        if not self.study or not self.inspection or not self.inspection.rows:
            return ""
        whole = self.study.box
        if whole not in self._shown:
            self._shown[whole] = layers_of(self.inspection.heatmap, self.study.image.size, trusted=True).heat
        return self._shown[whole]
