"""Pictures: images as the page shows them, small and inside the page itself, so that no copy lies in a cache.

Knows images and data URLs. Does not know studies, models or components.
"""

import base64
import io

from PIL import Image

PREVIEW_SIDE = 1280
THUMBNAIL_SIDE = 240


def data_url(image: Image.Image, side: int) -> str:
    """`image` as a JPEG of at most `side` pixels a side, in a data URL; never enlarged."""
    scale = min(1.0, side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
