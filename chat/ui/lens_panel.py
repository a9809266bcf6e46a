"""The lens: what the model saw, pixel for pixel, where it lies on the image, and what is too small to be made out in it.

Knows desks, views and how an engine of this process prepares a picture. Does not know components or events.
"""

from collections.abc import Sequence
from html import escape
from math import ceil, sqrt
from typing import Any

import numpy as np
from PIL import Image

from chat.assistant import Assistant
from chat.prompt import View
from chat.ui.desk import Desk
from chat.ui.pictures import THUMBNAIL_SIDE, Eye, data_url
from chat.ui.search_words import said
from chat.ui.words import word
from chat.wording import Language
from vision.tiling import Box


def eye_of(assistant: Assistant) -> Eye:
    """How this assistant's engine sees; an engine elsewhere prepares pictures as it likes, so there only the sides are told."""
    engine: Any = assistant.engine
    patch = assistant.input_side / max(1.0, sqrt(engine.limits.tokens_per_image))
    if not hasattr(engine, "_ready"):
        return Eye(assistant.input_side, patch)

    def see(image: Image.Image) -> Image.Image:
        return exact(engine._ready().image_processor, image)

    return Eye(assistant.input_side, patch, see)


def exact(processor: Any, image: Image.Image) -> Image.Image:
    """The 8-bit RGB pixels that a checkpoint's processor makes the tensor from: padded and resized, not yet scaled."""
    from chat.engine.sight import bounded  # torch; an engine behind an address does without

    pixels = processor(images=[bounded(image)], do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    return Image.fromarray(np.ascontiguousarray(np.asarray(pixels).transpose(1, 2, 0), np.uint8))


def views(desk: Desk) -> str:
    """The pictures that the last prompt held, with a warning where what was asked about, or found, is lost in them."""
    last, language = desk.last, desk.language
    if last is None:
        return f'<p class="quiet">{escape(word("views_none", language))}</p>'
    shown = last.prompt.views
    whole = shown[0].image.size
    request = desk.exchanges[-1].request
    things = list(dict.fromkeys([*(request.regions if request else ()), *(hit.box for hit in desk.lookup.hits)]))
    figures = [_figure(desk, view, whole, shown[1:] if place == 0 else (), things) for place, view in enumerate(shown)]
    clear = {thing for view in shown for thing in _inside(view, things) if _is_clear(desk, view, thing)}
    lost = set(things) - clear
    warning = f'<p class="lost">{escape(said("lens_lost", language, count=len(lost)))}</p>' if lost else ""
    note = "lens_exact" if desk.eye.see else "lens_elsewhere"
    quiet = f'<p class="quiet">{escape(said(note, language, side=desk.eye.side))}</p>' if desk.eye.side else ""
    return f'{warning}<div class="views">{"".join(figures)}</div>{quiet}'


def detail(eye: Eye, box: Box) -> float:
    """The side, in the image's pixels, of one patch of a view of `box`: the smallest thing that a vision transformer can
    tell from what stands around it, for all of a patch becomes one token (Dosovitskiy et al. 2021, section 3.1).
    """
    return eye.patch * max(box.size) / eye.side if eye.side else 0.0


def _is_clear(desk: Desk, view: View, thing: Box) -> bool:
    return max(thing.size) >= detail(desk.eye, view.box)


def _inside(view: View, things: Sequence[Box]) -> list[Box]:
    """The things whose middle lies in a view."""

    def middle(box: Box) -> tuple[float, float]:
        return (box.left + box.right) / 2, (box.top + box.bottom) / 2

    left, top, right, bottom = view.box.corners
    return [thing for thing in things if left <= middle(thing)[0] < right and top <= middle(thing)[1] < bottom]


def _figure(desk: Desk, view: View, whole: tuple[int, int], marked: Sequence[View], things: Sequence[Box]) -> str:
    language, glimpse = desk.language, desk.eye.glimpse(view.image)
    title = escape(word(f"view_{view.kind}", language))
    place = f"x {view.box.left}–{view.box.right}<br>y {view.box.top}–{view.box.bottom}"
    frames = "".join(_frame(crop.box, whole, is_padded=glimpse is not None) for crop in marked)
    source, digest = (glimpse.url, glimpse.sha256) if glimpse else (data_url(view.image, THUMBNAIL_SIDE), "")
    facts = _facts(desk.eye, view, language) if desk.eye.side else ""
    lost = [thing for thing in _inside(view, things) if not _is_clear(desk, view, thing)]
    small = min(lost, key=lambda thing: max(thing.size), default=None)
    warning = f"<em>{escape(said('lens_small', language, width=small.size[0], height=small.size[1]))}</em>" if small else ""
    mark = f"<code>SHA-256 {digest}</code>" if digest else ""
    return (
        f'<figure class="view" tabindex="0" data-kind="{view.kind}" data-sha256="{digest}"><div class="picture">'
        f'<img alt="{title}" src="{source}">{frames}</div>'
        f"<figcaption><b>{title}</b><span>{place}</span>{facts}{warning}{mark}</figcaption></figure>"
    )


def _facts(eye: Eye, view: View, language: Language) -> str:
    scale = max(view.box.size) / eye.side
    shown = f"{1 / scale:.1f} : 1" if scale < 1 else f"1 : {scale:.1f}"
    return f"<small>{escape(said('lens_facts', language, scale=shown, detail=max(1, ceil(detail(eye, view.box)))))}</small>"


def _frame(box: Box, whole: tuple[int, int], is_padded: bool) -> str:
    """Where a crop lies on the whole, in hundredths of it, or of the square that it is padded to."""
    width, height = (max(whole), max(whole)) if is_padded else whole
    left, top = 100 * (box.left + (width - whole[0]) / 2) / width, 100 * (box.top + (height - whole[1]) / 2) / height
    across, down = 100 * box.size[0] / width, 100 * box.size[1] / height
    return f'<i class="frame" style="left:{left:.2f}%;top:{top:.2f}%;width:{across:.2f}%;height:{down:.2f}%"></i>'
