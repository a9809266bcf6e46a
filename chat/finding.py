"""Finding: where a thing stands in a very large image, within a budget, as an iterator that can be watched and stopped.

Knows the assistant, the engine's closed questions and when to believe an answer. Does not know pages or terminals.
Every part of the image is ranked first, cheaply; the engine is asked about the best. What it ends with is a hit that was
believed, or how much was looked at; never a guess.
"""

import heapq
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Literal, cast

from PIL import Image

from chat.acceptance import Acceptance
from chat.assistant import Assistant, RequestError
from chat.choosing import SEEN, filled_by, find_named
from chat.closed_questions import OPTIONS
from chat.engine.base import Message, Sampling, Scorer
from chat.prompt import layout_search
from chat.wording import Language, language_of, search_prompt
from vision.search import Hit, detail, distinct, merge, plan_search, zoomed
from vision.study import Study
from vision.tiling import Box, cut

if TYPE_CHECKING:
    from vision.matching import Likeness, Match

PASSES = 24
MOST_PASSES = 100_000
BATCH = 4
MOST_HITS = 8
MOST_LIKELY = 40

WIDER = 3.3
"""As `SEEN`, for the second look at a place: with more around it and less of its pixels, a chance yes seldom stays one."""


@dataclass(frozen=True)
class Wanted:
    """What to look for: a reference picture, a description (with its article, or its particle), or both; and the budget."""

    reference: Image.Image | None = None
    text: str = ""
    passes: int = PASSES
    seconds: float | None = None
    language: Language | None = None


@dataclass(frozen=True)
class Search:
    """A search as far as it has come. `hits` are believed, best first; `best` is the likeliest place, believed or not.

    `ranked` is the share of `tiles` that were ranked, `asked` the tiles that the engine was asked about in `passes`,
    `pixels` the side of what one look covers at the finest, `seconds` how long it took so far. `in_words` says that the
    engine gives no probabilities.
    `likely` are the places that rank highest so far, `looked_at` the crops that the engine was shown.
    """

    hits: tuple[Hit, ...] = ()
    best: Hit | None = None
    passes: int = 0
    ranked: float = 0.0
    asked: int = 0
    tiles: int = 0
    pixels: int = 0
    end: Literal["found", "not_found", "budget"] | None = None
    in_words: bool = False
    looked_at: tuple[Box, ...] = ()
    likely: tuple[Hit, ...] = ()
    seconds: float = 0.0

    def result(self) -> dict[str, object]:
        """What the API and the command line say about a search; the keys are a promise to others."""
        hits = [{"box": hit.box.corners, "probability": round(hit.score, 4)} for hit in self.hits]
        counts = {"passes": self.passes, "ranked": round(self.ranked, 4), "asked": self.asked}
        cover = {"tiles": self.tiles, "pixels_per_tile": self.pixels, "in_words": self.in_words}
        return {"found": bool(hits), "hits": hits, **counts, **cover}


def find(assistant: Assistant, study: Study | None, wanted: Wanted, acceptance: Acceptance, session: str) -> Iterator[Search]:
    """The search as it grows; closing the iterator stops it. The last one has an `end`.

    The best place's probability never falls. Raises RequestError where nothing is asked for, EngineError when the engine fails.
    """
    check(study, wanted)
    assert study is not None
    yield from _Finder(assistant, study.image, wanted, acceptance, session).run()


def read_budget(text: str | None) -> tuple[int, float | None]:
    """Looks and seconds from a person's "24", "30s" or "24 30s"; without one, the usual looks. Raises RequestError."""
    given = re.fullmatch(r"(\d{1,6})?(?:(?:^|\s+)(\d{1,6}(?:\.\d{1,3})?)\s?s)?", (text or "").strip() or str(PASSES))
    if not given:
        raise RequestError("bad_budget", "Write the budget in looks, as 24, or in seconds, as 30s.", budget=str(text)[:20])
    return int(given[1] or MOST_PASSES), float(given[2]) if given[2] else None


def check(study: Study | None, wanted: Wanted) -> None:
    """Raises RequestError, naming what to do, where there is nothing to search in or for, or nothing to do it with."""
    if study is None:
        raise RequestError("no_image", "Add an image first, then search in it.")
    if wanted.reference is None and not wanted.text.strip():
        raise RequestError("nothing_wanted", "Give a reference picture or a description of what to find.")
    if wanted.passes < 1 or (wanted.seconds is not None and not wanted.seconds > 0):
        raise RequestError("no_budget", "Give the search a budget of at least 1 look.")
    if wanted.reference is None:
        return
    if min(wanted.reference.size) < 8:
        raise RequestError("reference_too_small", "The reference must have at least 8 x 8 pixels; choose a larger one.")
    if max(wanted.reference.size) > 2 * max(study.image.size):
        raise RequestError("reference_too_large", "The reference is larger than the image; shrink it, or swap the two.")
    low, high = zip(*cast(Sequence[tuple[int, int]], wanted.reference.convert("RGB").getextrema()), strict=True)
    if max(b - a for a, b in zip(low, high, strict=True)) < 8:
        raise RequestError("reference_blank", "The reference shows nothing but one colour; choose another.")


@dataclass(frozen=True, order=True)
class _Place:
    """Somewhere to ask about, the most promising the smallest; `likeness` is to the reference, `fit` how far a place that was
    compared with none can be believed at most.
    """

    priority: float
    number: int
    box: Box = field(compare=False)
    likeness: "Likeness | None" = field(default=None, compare=False)
    fit: float = field(default=1.0, compare=False)
    scale: int = field(default=0, compare=False)


class _Finder:
    """One search: what is queued, what was asked, what was found."""

    def __init__(self, assistant: Assistant, image: Image.Image, wanted: Wanted, acceptance: Acceptance, session: str) -> None:
        self.engine, self.image, self.wanted, self.acceptance = assistant.engine, image, wanted, acceptance
        self.session = f"{session} search"
        self.scales = plan_search(image.size, assistant.input_side)
        self.language = wanted.language or language_of(wanted.text)
        self.question = search_prompt(self.language, wanted.text.strip() or None if wanted.reference is None else None)
        self.is_scorer = hasattr(assistant.engine, "choose")
        self.started = time.monotonic()
        tiles = sum(map(len, self.scales))
        self.state = Search(tiles=tiles, pixels=assistant.input_side, in_words=not self.is_scorer)
        self.queue: list[_Place] = []
        self.found: list[Hit] = []
        self.asked: set[Box] = set()
        self.numbers = count()
        self.asking = 0.0

    @property
    def threshold(self) -> float:
        return self.acceptance.threshold if self.wanted.reference is not None else self.acceptance.text_threshold

    def run(self) -> Iterator[Search]:
        yield self.state
        try:
            yield from self._rank_shapes() if self.wanted.reference is not None else self._rank_tiles()
            heapq.heapify(self.queue)
            yield self.state
            while self.queue and not self._is_spent() and self._may_be(self.queue[0]):
                yield self._ask([heapq.heappop(self.queue) for _ in range(min(self._at_once(), len(self.queue)))])
        finally:
            self.engine.forget(self.session)
        is_cut = self._is_spent() and (self.state.ranked < 1 or (bool(self.queue) and self._may_be(self.queue[0])))
        yield replace(self.state, end="found" if self.state.hits else "budget" if is_cut else "not_found")

    def _may_be(self, place: _Place) -> bool:
        """Whether the surest yes would make this place believed; places come in the order of what speaks for them."""
        return self._believe(place, 1.0) >= self.threshold

    def _left(self) -> int:
        return self.wanted.passes - self.state.passes

    def _is_spent(self) -> bool:
        return self._left() < 1 or self._is_late()

    def _is_late(self) -> bool:
        return self.wanted.seconds is not None and time.monotonic() - self.started > self.wanted.seconds

    def _at_once(self) -> int:
        """How many looks go into one batch: what the budget still holds, judged by how long those before took."""
        if self.wanted.seconds is None:
            return min(BATCH, self._left())
        each = self.asking / self.state.passes if self.state.passes else self.wanted.seconds
        rest = self.wanted.seconds - (time.monotonic() - self.started)
        return max(1, min(BATCH, self._left(), int(rest / max(each, 1e-6))))

    def _rank_shapes(self) -> Iterator[Search]:
        """Slide the reference over the whole image; what looks like it is queued, the likest first."""
        from vision.matching import compare, find_matches

        assert self.wanted.reference is not None
        matches: list[Match] = []
        for ranked, so_far in find_matches(self.image, self.wanted.reference):
            likely = tuple(Hit(match.box, match.score) for match in so_far[:MOST_LIKELY])
            matches, self.state = so_far, replace(self.state, ranked=ranked, likely=likely)
            yield self.state
            if self._is_late():
                break
        for match, likeness in zip(matches, compare(matches), strict=True):
            prior = self.acceptance.probability(likeness, None)
            self.queue.append(_Place(-prior, next(self.numbers), match.box, likeness))

    def _rank_tiles(self) -> Iterator[Search]:
        """Without a reference: patches of a colour that the description names, then the tiles, the coarsest first."""
        patches = find_named(self.image, self.wanted.text)
        is_plain = filled_by(self.wanted.text) is not None
        for hit in patches:
            fit = hit.score**self.acceptance.fit if is_plain else 1.0
            self.queue.append(_Place(-1 - hit.score, next(self.numbers), hit.box, fit=fit))
        # A plain shape is one of the patches of its colour, where there are any: what is none of them fills its box like none.
        fit = 0.0**self.acceptance.fit if is_plain and patches else 1.0
        scale = len(self.scales) - 1
        boxes = list(distinct(self.image, self.scales[scale]))
        for box, much in zip(boxes, detail(self.image, boxes), strict=True):
            self.queue.append(_Place(-0.5 - min(0.4, much / 100), next(self.numbers), box, fit=fit, scale=scale + 1))
        likely = tuple(Hit(place.box, -place.priority) for place in sorted(self.queue)[:MOST_LIKELY])
        self.state = replace(self.state, ranked=1.0, likely=likely)
        yield self.state

    def _ask(self, places: Sequence[_Place]) -> Search:
        """One look at each place, and a wider second one at those that may be it."""
        crops = [p.box if p.scale else zoomed(p.box, SEEN, self.image.size) for p in places]
        answers = self._choose(crops)
        for place, yes in zip(places, answers, strict=True):
            if place.scale > 1 or (place.scale == 1 and yes >= self.threshold):
                self._look_inside(place, yes)
            if place.scale:
                continue
            probability = self._believe(place, yes)
            if probability >= self.threshold and not self._is_spent():
                again = self._choose([zoomed(place.box, WIDER, self.image.size)])[0]
                probability = self._believe(place, min(yes, again))
            self._note(Hit(place.box.clipped(self.image.size), probability))
        self.asked |= {p.box if p.scale else self._tile_of(p.box) for p in places}
        seconds = time.monotonic() - self.started
        self.state = replace(self.state, asked=len(self.asked), looked_at=(*self.state.looked_at, *crops), seconds=seconds)
        return self.state

    def _tile_of(self, box: Box) -> Box:
        """The finest tile in whose middle a place lies."""
        x, y = box.left + box.right, box.top + box.bottom
        return min(self.scales[0], key=lambda t: abs(t.left + t.right - x) + abs(t.top + t.bottom - y))

    def _believe(self, place: _Place, yes: float) -> float:
        return self.acceptance.probability(place.likeness, yes) if place.likeness else yes * place.fit

    def _look_inside(self, place: _Place, yes: float) -> None:
        """Queue the next finer tiles whose centre lies in this one; below the finest, its quarters as places."""
        inside = self.scales[place.scale - 2] if place.scale > 1 else _quarters(place.box)
        for box in inside:
            x, y = (box.left + box.right) // 2, (box.top + box.bottom) // 2
            if place.box.left <= x < place.box.right and place.box.top <= y < place.box.bottom:
                heapq.heappush(self.queue, _Place(-yes, next(self.numbers), box, fit=place.fit, scale=place.scale - 1))

    def _note(self, hit: Hit) -> None:
        best = self.state.best
        if best is None or hit.score > best.score:
            best = hit
        self.found += [hit] if hit.score >= self.threshold else []
        self.state = replace(self.state, best=best, hits=tuple(merge(self.found)[:MOST_HITS]))

    def _choose(self, crops: Sequence[Box]) -> list[float]:
        """P(yes) for each crop, one pass each; in words, from an engine that gives no probabilities."""
        batch = [layout_search(self.wanted.reference, cut(self.image, crop).image, self.question) for crop in crops]
        self.state = replace(self.state, passes=self.state.passes + len(batch))
        started = time.monotonic()
        if self.is_scorer:
            answers = [float(row[0]) for row in cast(Scorer, self.engine).choose(batch, OPTIONS[self.language])]
        else:
            answers = [self._in_words(messages) for messages in batch]
        self.asking += time.monotonic() - started
        return answers

    def _in_words(self, messages: Sequence[Message]) -> float:
        said = ""
        for delta in self.engine.stream(messages, Sampling(max_new_tokens=8, temperature=0), self.session):
            said += delta.text
        yes, no = (option.lower() for option in OPTIONS[self.language])
        said = said.strip().lower()
        return 0.95 if said.startswith(yes) else 0.05 if said.startswith(no) else 0.5


def _quarters(box: Box) -> list[Box]:
    """Four overlapping parts of a tile, two thirds of its sides each."""
    width, height = (max(1, 2 * side // 3) for side in box.size)
    lefts, tops = (box.left, box.right - width), (box.top, box.bottom - height)
    return [Box(left, top, left + width, top + height) for top in tops for left in lefts]
