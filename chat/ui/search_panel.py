"""The search panel: the two tools, what is looked for, how far it has come, and what was found, as values and marks.

Knows desks, lookups and words. Does not know components, events or how anything is found; what is text is set as text there.
"""

import time
from typing import Any

from chat.finding import MOST_PASSES, PASSES
from chat.ui.desk import Desk
from chat.ui.lookup import Lookup
from chat.ui.pictures import PREVIEW_SIDE, THUMBNAIL_SIDE, TILE_OVERLAP, TILE_SIDE, data_url
from chat.ui.search_words import SAID, said
from chat.ui.words import explain, words
from chat.wording import Language

Value = dict[str, Any]

LEAST_RANKED = 12
"""How many of the places that rank highest are marked: the page is for the eye, the search for the rest."""


def search(desk: Desk, trouble: Exception | None = None) -> Value:
    """The tools and the last lookup, of the image on the desk."""
    with desk.lock:
        lookup, language, reference = desk.lookup, desk.language, desk.reference
        trouble, normals = trouble or lookup.trouble, desk.normals
        return {
            "words": words(language),
            "said": SAID[language],
            "drawn": time.time_ns() // 1000,
            "can_search": desk.study is not None,
            "has_region": desk.region is not None,
            "reference": data_url(reference, THUMBNAIL_SIDE) if reference else "",
            "passes": PASSES,
            "seconds_name": said("seconds", language),
            "normals": {
                "count": normals.count if normals else 0,
                "title": said("normals_given", language, count=normals.count) if normals else said("normals", language),
                "hint": said("normals_hint", language),
                "remove": said("normals_remove", language),
            },
            "state": lookup.state,
            "progress": _progress(lookup),
            "verdict": _verdict(lookup, language),
            "notes": _notes(lookup, language),
            "trouble": explain(trouble, language) if trouble else "",
            "marks": _marks(lookup, language),
        }


def viewer(desk: Desk, is_open: bool = False) -> Value:
    """What the deep-zoom viewer needs; a key to the tiles only once it is opened."""
    pyramid = desk.open_pyramid() if is_open else None
    size = desk.study.image.size if desk.study else (0, 0)
    return {
        "words": words(desk.language),
        "said": SAID[desk.language],
        "drawn": time.time_ns() // 1000,
        "is_large": max(size) > PREVIEW_SIDE,
        "key": pyramid.key if pyramid else "",
        "source": {"width": size[0], "height": size[1], "tileSize": TILE_SIDE, "tileOverlap": TILE_OVERLAP},
    }


def _progress(lookup: Lookup) -> float:
    """0 to 1; ranking is worth the first third, and without a reference next to nothing."""
    found, wanted = lookup.search, lookup.wanted
    if not wanted or not lookup.is_busy:
        return 0.0
    return found.ranked / 3 + 2 / 3 * min(1.0, max(found.passes / wanted.passes, found.seconds / (wanted.seconds or 1e9)))


def _verdict(lookup: Lookup, language: Language) -> str:
    """Where it stands, or how it ended, in a few words."""
    found, state = lookup.search, lookup.state
    if state in ("none", "waiting"):
        return said("waiting", language) if state == "waiting" else ""
    if state == "running" and lookup.wanted:
        if found.ranked < 1:
            return said("ranking", language, percent=int(100 * found.ranked))
        if lookup.wanted.passes < MOST_PASSES:
            return said("asking", language, passes=found.passes, budget=lookup.wanted.passes)
        return said("asking_for", language, passes=found.passes, seconds=int(found.seconds))
    if state == "running":
        return said("inspecting", language)
    if lookup.trouble:
        return ""
    if lookup.is_stopped or (lookup.wanted and found.end is None):
        return said("stopped_at", language, count=len(lookup.hits))
    if lookup.wanted:
        key = {"found": "found", "not_found": "not_found", "budget": "spent"}[found.end or "not_found"]
        return said(key, language, count=len(lookup.hits)) if key == "found" else said(key, language)
    return _odd(lookup, language)


def _odd(lookup: Lookup, language: Language) -> str:
    seen = lookup.inspection
    if seen is None or not seen.rows:
        return said("nothing_repeats", language)
    key = "odd" if seen.hits else "none_odd"
    return said(key, language, count=len(seen.hits), rows=seen.rows)


def _notes(lookup: Lookup, language: Language) -> list[str]:
    """How much was looked at, the best so far, and what a person should know about the numbers."""
    found, notes = lookup.search, []
    if not lookup.wanted or lookup.state in ("none", "waiting"):
        return []
    if found.ranked:
        counts = {"asked": found.asked, "tiles": found.tiles, "passes": found.passes, "pixels": found.pixels}
        notes.append(said("cover", language, percent=int(100 * found.ranked), **counts))
    if found.best and not found.hits:
        notes.append(said("best", language, percent=round(100 * found.best.score)))
    return notes + ([said("in_words", language)] if found.in_words else [])


def _marks(lookup: Lookup, language: Language) -> Value:
    """What is drawn over the image, in its pixels; a hit's `crop` is what a question about it is asked with."""
    found, size = lookup.search, lookup.study.image.size if lookup.study else (0, 0)
    has_best = found.best and lookup.is_busy and not found.hits
    return {
        "size": list(size),
        "heat": lookup.heat,
        "likely": [hit.box.corners for hit in found.likely[:LEAST_RANKED]] if lookup.is_busy else [],
        "asked": [box.corners for box in found.looked_at],
        "best": found.best.box.corners if found.best and has_best else [],
        "hits": [
            {
                "box": hit.box.corners,
                "crop": lookup.crop(hit.box).corners,
                "picture": lookup.thumbnail(hit.box),
                "title": said("hit", language, number=number),
                "chance": said("chance", language, percent=round(100 * hit.score)) if lookup.wanted else "",
            }
            for number, hit in enumerate(lookup.hits, start=1)
        ],
    }
