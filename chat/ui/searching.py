"""Searching: what happens when a person looks for something in the image, or for a defect, or into the image itself.

Knows desks, the search's iterator and Gradio's events. Does not know how anything is found or laid out.
"""

import base64
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

import gradio as gr

from chat.acceptance import Acceptance
from chat.assistant import Assistant, RequestError
from chat.engine.base import EngineError
from chat.finding import Wanted, check, find, read_budget
from chat.ui import panels, search_panel
from chat.ui.desk import Desk
from chat.ui.diary import log_bug, log_refusal
from chat.ui.lookup import Lookup, Normals
from chat.ui.panels import About, Value
from chat.ui.pictures import Pyramid
from chat.ui.stage_panel import stage
from chat.ui.upload import take
from vision.anomaly import inspect, remember
from vision.evidence import CheckpointError
from vision.study import StudyError, read_study
from vision.tiling import cut

SECONDS_BETWEEN_DRAWINGS = 0.15
MOST_NORMALS = 12

LIBRARY = Path(__file__).parent / "vendor" / "openseadragon.min.js"

log = logging.getLogger(__name__)

Drawing = tuple[Any, ...]
"""The new values of (search, stage, talk)."""


def learn(files: Sequence[bytes], max_pixels: int) -> Normals:
    """What files of normal images show that repeats. Raises RequestError for too many, too large, or nothing repeating;
    StudyError for what is no image.
    """
    if not 1 <= len(files) <= MOST_NORMALS:
        raise RequestError("many_normals", f"Give 1 to {MOST_NORMALS} normal images.", most=MOST_NORMALS)
    images, left = [], max_pixels
    for file in files:
        images.append(read_study(file, max_pixels).image)
        left -= images[-1].width * images[-1].height
        if left < 0:
            limit = f"The normal images have more than {max_pixels:,} pixels together; give fewer or smaller ones."
            raise RequestError("large_normals", limit, limit=max_pixels)
    memory = remember(images)
    if memory is None:
        raise RequestError("no_normal", "Nothing repeats in the normal images; choose others.")
    return Normals(len(files), memory)


class Searching:
    """The events of both search tools and of the viewer, of all sessions."""

    def __init__(self, assistant: Assistant, about: About, acceptance: Acceptance, max_pixels: int) -> None:
        self.assistant = assistant
        self.about = about
        self.acceptance = acceptance
        self.max_pixels = max_pixels
        self._pyramids: WeakValueDictionary[str, Pyramid] = WeakValueDictionary()

    def draw(self, desk: Desk) -> Value:
        return search_panel.search(desk)

    def draw_both(self, desk: Desk) -> tuple[Value, Value]:
        """The search panel and the viewer, of an image that has just come or gone."""
        return search_panel.search(desk), search_panel.viewer(desk)

    def refer(self, desk: Desk, event: gr.EventData) -> Value:
        """A reference picture was given: a file, or the part of the image that is chosen; or it was taken away.

        Or normal images for an inspection were given, or taken away.
        """
        try:
            if event.kind == "normals":
                desk.normals = learn([take(str(path)) for path in event.paths], self.max_pixels)
            elif event.kind == "no_normals":
                desk.normals = None
            elif event.kind == "file":
                desk.reference = read_study(take(str(event.path)), self.max_pixels).image
            elif event.kind == "region" and desk.study and desk.region:
                desk.reference = cut(desk.study.image, desk.region).image
            else:
                desk.reference = None
        except (RequestError, StudyError) as error:
            log_refusal(error)
            return search_panel.search(desk, error)
        return search_panel.search(desk)

    def accept(self, desk: Desk, event: gr.EventData) -> tuple[Desk, Value]:
        """A search or an inspection was asked for: it waits its turn. What cannot be searched is told at once."""
        with desk.lock:
            study = desk.study
            if desk.lookup.is_busy or study is None:
                return desk, search_panel.search(desk)
            wanted = None
            try:
                if event.kind == "find":
                    text, reference = str(event.text)[:400], desk.reference
                    wanted = Wanted(reference, text, *read_budget(str(event.budget)))
                    check(study, wanted)
            except RequestError as error:
                log_refusal(error)
                return desk, search_panel.search(desk, error)
            desk.lookup = Lookup("waiting", wanted, study)
            return desk, search_panel.search(desk)

    def stop(self, desk: Desk) -> Value:
        """Stop the one that is under way; what was found stays."""
        desk.lookup.is_stopped = True
        if desk.lookup.state == "waiting":
            desk.lookup = Lookup()
        return search_panel.search(desk)

    def run(self, desk: Desk) -> Iterator[Drawing]:
        """Do what waits on the desk, if it still does. The likeliest hit becomes the part that the next question is about.

        Closing this stops the engine.
        """
        lookup, started = desk.lookup, time.perf_counter()
        if lookup.state != "waiting" or lookup.study is None:
            yield gr.skip(), gr.skip(), gr.skip()  # why it was not accepted stays on the page
            return
        lookup.state, is_whole = "running", False
        try:
            yield search_panel.search(desk), gr.skip(), gr.skip()
            if lookup.wanted is None:
                normals = desk.normals
                lookup.inspection = inspect(lookup.study.image, normals.memory if normals else None)
            else:
                for _ in self._follow(lookup, f"{desk.session} page"):
                    yield search_panel.search(desk), gr.skip(), gr.skip()
            is_whole = not lookup.is_stopped
        except (EngineError, CheckpointError) as error:
            lookup.trouble = error
        except Exception as error:
            log_bug(error)
            lookup.trouble = error
        finally:
            lookup.state = "done" if is_whole else "stopped"
            hits, passes = len(lookup.hits), lookup.search.passes
            log.info("searched: %d hits, %d looks, %.2f s", hits, passes, time.perf_counter() - started)
        with desk.lock:
            if lookup is desk.lookup and lookup.hits:
                desk.choose(lookup.crop(lookup.hits[0].box))
        yield search_panel.search(desk), stage(desk), panels.talk(desk, self.about)

    def _follow(self, lookup: Lookup, session: str) -> Iterator[None]:
        """The search as it grows, as often as an eye can follow."""
        assert lookup.wanted is not None
        drawn = 0.0
        steps = find(self.assistant, lookup.study, lookup.wanted, self.acceptance, session)
        with closing(cast(Any, steps)):
            for lookup.search in steps:
                if lookup.is_stopped:
                    return
                if time.perf_counter() - drawn >= SECONDS_BETWEEN_DRAWINGS:
                    yield
                    drawn = time.perf_counter()

    def look_into(self, desk: Desk) -> Value:
        """The viewer was opened: from now on tiles of this image are handed out to who has its key."""
        shown = search_panel.viewer(desk, is_open=True)
        if desk.pyramid:
            self._pyramids[desk.pyramid.key] = desk.pyramid
        return shown

    def served(self) -> list[Callable[..., str]]:
        """What the viewer's script may call: a tile in base64, "" where there is none, and the library that draws them."""

        def tile(place: list[Any]) -> str:
            try:
                key, level, column, row = place
                pyramid = self._pyramids.get(str(key))
                found = pyramid.tile(int(level), int(column), int(row)) if pyramid else b""
            except (TypeError, ValueError):
                found = b""
            return base64.b64encode(found).decode("ascii")

        def library(_: object = None) -> str:
            return LIBRARY.read_text("utf-8")

        return [tile, library]
