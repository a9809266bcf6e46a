"""Windows: which windows of a study's raw values a person may choose, and the study as seen through one.

Knows studies and windows. Does not know components, words or desks; presets are keys that the page words.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vision.study import Study
from vision.windowing import Window

ORIGINAL = "original"
EIGHT_BITS: Window = (128.0, 256.0)
"""Shows 8-bit values as they are (PS3.3 C.11.2.1.2)."""


@dataclass(frozen=True)
class Windows:
    """The choice for one study: a center lies from `low` to `high`, a width between `narrowest` and their distance."""

    original: Study
    presets: Mapping[str, Window]
    low: float
    high: float
    narrowest: float

    def through(self, center: float, width: float, inverted: bool) -> Study:
        """The study through a window, pulled into its limits; through its own window it is the study as it came.

        Raises ValueError for numbers that are none.
        """
        if not inverted and (center, width) == self.presets[ORIGINAL]:
            return self.original
        inside = min(max(center, self.low), self.high), min(max(width, self.narrowest), self.high - self.low)
        return self.original.windowed(*inside, inverted)

    def of(self, study: Study) -> Window:
        """The window that the study is seen through."""
        return self.presets[ORIGINAL] if study is self.original or study.window is None else study.window


def windows_of(study: Study) -> Windows | None:
    """None for a study in colour, or of one value only."""
    presets = study.presets()
    if study.raw is None or not presets:
        return None
    own = study.window or (EIGHT_BITS if study.raw.lut is None and study.raw.bits == 8 else presets["auto"])
    named = {window: name for name, window in reversed(presets.items())} | {own: ORIGINAL}  # one name each, the first
    presets = {ORIGINAL: own} | {name: window for name, window in presets.items() if named[window] == name}
    low = min(center - width / 2 for center, width in presets.values())
    high = max(center + width / 2 for center, width in presets.values())
    narrowest = 1.0 if study.raw.function == "LINEAR" else (high - low) / 1000
    return Windows(study, presets, low, high, narrowest)
