"""Once: what was worked out about an image, kept while the image lives.

Knows images by identity alone, for nobody paints on one that is being talked about. Does not know what is worked out.
"""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar, cast

from PIL import Image

T = TypeVar("T")

_kept: dict[int, dict[object, Any]] = {}
"""By the image's id; an entry must not hold the image itself, or neither would ever go."""


def once(image: Image.Image, name: object, find: Callable[[], T]) -> T:
    """`find()`, or what it gave when this image was last asked for `name`. May be called from any thread."""
    if (kept := _kept.get(id(image))) is None:
        kept = _kept.setdefault(id(image), {})
        weakref.finalize(image, _kept.pop, id(image), None)
    if name not in kept:
        kept[name] = find()
    return cast(T, kept[name])
