"""The stage panel: the image on a desk, the map over it, the windows it can be seen through, or the gallery.

Knows desks and words. Does not know components, events or what an image means.
"""

import time
from typing import Any

from chat.assistant import RequestError
from chat.ui.desk import Desk
from chat.ui.evidence_panel import map_value, masks_value
from chat.ui.gallery import EXAMPLES, thumbnail
from chat.ui.upload import MOST_MEGABYTES
from chat.ui.windows import Windows
from chat.ui.words import explain, word, words
from vision.study import Study

Value = dict[str, Any]


def stage(desk: Desk, trouble: Exception | None = None) -> Value:
    """The image, or the place for one with the gallery."""
    examples = [{"thumb": thumbnail(example), "title": example.title[desk.language]} for example in EXAMPLES]
    lost = RequestError("upload_lost", "")
    too_large = RequestError("upload_too_large", "", limit=f"{MOST_MEGABYTES:,} MB")
    uploads = {"too_large": explain(too_large, desk.language), "upload_lost": explain(lost, desk.language)}
    return {
        "words": words(desk.language, **uploads),
        "most_bytes": MOST_MEGABYTES << 20,
        "drawn": time.time_ns() // 1000,
        "preview": desk.shown.preview,
        "size": list(desk.study.image.size) if desk.study else [],
        "frames": word("first_frame", desk.language, frames=desk.study.frames) if desk.study and desk.study.frames > 1 else "",
        "map": map_value(desk),
        "masks": masks_value(desk),
        "levels": _levels(desk, desk.shown.windows, desk.study) if desk.shown.windows and desk.study else None,
        "region": desk.region.corners if desk.region else [],
        "examples": [] if desk.study else examples,
        "trouble": explain(trouble, desk.language) if trouble else "",
    }


def _levels(desk: Desk, windows: Windows, study: Study) -> Value:
    """The window that the image is seen through, in raw values, and what it may become; `number`: the page's last choice."""
    center, width = windows.of(study)

    def named(name: str) -> str:
        kind, _, number = name.partition("_")
        return f"{word(f'preset_{kind}', desk.language)} {number}".strip()

    presets = [{"label": named(name), "center": at, "width": wide} for name, (at, wide) in windows.presets.items()]
    return {
        "number": desk.rewindows,
        "presets": presets,
        "center": center,
        "width": width,
        "low": windows.low,
        "high": windows.high,
        "narrowest": windows.narrowest,
        "inverted": study.is_inverted,
    }
