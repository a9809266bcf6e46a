"""Bar charts: means with intervals, grouped, as a PNG. Drawn with Pillow, which is there anyway.

Knows numbers and pixels. Does not know what was measured.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from finetune.jsonl import disk_errors

_COLOURS = ("#3b6fb6", "#e08a2c", "#4c9a57", "#b54a4a", "#7b62a8", "#7d6a5b", "#c46aa5", "#6b6b6b")
_LEFT, _TOP, _HEIGHT, _BAR, _GAP, _FONT = 50, 20, 300, 26, 40, 14

Means = Mapping[str, Mapping[str, tuple[float, float, float]]]


def draw(means: Means, groups: Sequence[str], lowest: float, highest: float, out: Path) -> None:
    """A group of bars per measure, a bar per name: (mean, low, high). Raises RecordError for a full disk."""
    font = ImageFont.load_default(_FONT)
    wide = max(len(means) * _BAR + _GAP, 150)
    legend = 22 * len(means)
    image = Image.new("RGB", (_LEFT + wide * len(groups) + 20, _TOP + _HEIGHT + 40 + legend), "white")
    pen = ImageDraw.Draw(image)

    def height(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - lowest) / (highest - lowest))

    for tick in range(round(lowest), round(highest) + 1):
        pen.line((_LEFT, height(tick), image.width - 20, height(tick)), "#dddddd")
        pen.text((_LEFT - 20, height(tick)), str(tick), "black", font, anchor="mm")
    for place, group in enumerate(groups):
        left = _LEFT + place * wide + (wide - len(means) * _BAR) / 2
        pen.text((_LEFT + (place + 0.5) * wide, _TOP + _HEIGHT + 14), group, "black", font, anchor="mm")
        for number, scores in enumerate(means.values()):
            if group not in scores:
                continue
            mean, low, high = scores[group]
            x = left + number * _BAR
            pen.rectangle((x + 2, height(mean), x + _BAR - 2, height(lowest)), _COLOURS[number % len(_COLOURS)])
            pen.line((x + _BAR / 2, height(low), x + _BAR / 2, height(high)), "black", 2)
    for number, name in enumerate(means):
        y = _TOP + _HEIGHT + 34 + 22 * number
        pen.rectangle((_LEFT, y, _LEFT + 14, y + 14), _COLOURS[number % len(_COLOURS)])
        pen.text((_LEFT + 22, y + 7), name, "black", font, anchor="lm")
    data = io.BytesIO()
    image.save(data, "PNG")
    with disk_errors(out):
        out.write_bytes(data.getvalue())
