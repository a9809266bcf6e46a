"""Scene views: which words single out an item of a scene, and how many items some words fit.

Knows scenes and descriptions. Does not know sentences or languages.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from typing import TypeVar

from finetune.easel import COLOURS, Item
from finetune.exchange import Random
from finetune.outlines import SHAPES
from finetune.scene_words import CELLS, Ref
from finetune.scenes import HELD_OUT, Scene

MARGIN = 0.05  # nearer to a border of the grid, a centre has no sure cell
APART = 0.12  # the least distance of two centres, as a part of the side, that "left of" or "above" stands for
ATTRIBUTES = ("kind", "colour", "size", "cell")
USUAL = {1: 6.0, 2: 4.0, 3: 1.0, 4: 0.2}
_COUNT_ODDS = {0: 0.3, 1: 0.6, 2: 1.0, 3: 1.8, 4: 3.2, 5: 5.5, 6: 2.0}

T = TypeVar("T")


def pick(rng: Random, among: Sequence[T], odds: Sequence[float] = ()) -> T:
    """One of them, all alike or by `odds` that need not sum to one."""
    if not odds:
        return among[int(rng.integers(len(among)))]
    left = float(rng.random()) * sum(odds)
    for one, share in zip(among, odds, strict=True):
        left -= share
        if left < 0:
            return one
    return among[-1]


class View:
    """One scene, looked at for what can be asked about it without doubt."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.items = scene, scene.items
        width, height = scene.image.size
        self.centres = [((i.box.left + i.box.right) / 2 / width, (i.box.top + i.box.bottom) / 2 / height) for i in self.items]
        self.near = [self._near(x, y) for x, y in self.centres]
        self.cells = [next(iter(near)) if len(near) == 1 else None for near in self.near]

    @staticmethod
    def _near(x: float, y: float) -> frozenset[str]:
        """The cells that a centre lies in or too close to."""

        def thirds(at: float) -> set[int]:
            return {min(2, max(0, int(3 * (at + d)))) for d in (-MARGIN, 0, MARGIN)}

        return frozenset(CELLS[3 * row + column] for row in thirds(y) for column in thirds(x))

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (colour, shape) that may be asked for; those held out only where the scene holds one of them."""
        free = any((item.colour, item.kind) in HELD_OUT for item in self.items)
        return [(c, s) for c in COLOURS for s in SHAPES if free or (c, s) not in HELD_OUT]

    def truth(self, index: int) -> Ref:
        """All that is known of an item; the cell only where it is sure."""
        item = self.items[index]
        return Ref(item.kind, item.colour, item.size, self.cells[index])

    def fitting(self, ref: Ref) -> list[int]:
        """The items that `ref` fits, or may fit where a cell is in doubt."""

        def fits(index: int, item: Item) -> bool:
            return (
                ref.kind in (None, item.kind)
                and ref.colour in (None, item.colour)
                and ref.size in (None, item.size)
                and (ref.cell is None or ref.cell in self.near[index])
            )

        return [index for index, item in enumerate(self.items) if fits(index, item)]

    def reading(self, indices: Sequence[int]) -> list[int]:
        """These items in the order in which one reads: by the picture's thirds, then from left to right."""
        return sorted(indices, key=lambda index: (int(3 * self.centres[index][1]), self.centres[index][0]))

    def place(self, index: int) -> str:
        """The cell in which an item's centre lies, however near to a border of the grid."""
        x, y = self.centres[index]
        return CELLS[3 * int(3 * y) + int(3 * x)]

    def refs(self, index: int, without: str) -> list[Ref]:
        """The descriptions that fit this item only and leave out one attribute."""
        truth = self.truth(index)
        names = [name for name in ATTRIBUTES if name != without and getattr(truth, name)]
        subsets = [chosen for size in (1, 2, 3) for chosen in combinations(names, size)]
        refs = [Ref(**{name: getattr(truth, name) for name in chosen}) for chosen in subsets]
        return [ref for ref in refs if self.fitting(ref) == [index]]

    def single(self, rng: Random, without: str) -> tuple[int, Ref] | None:
        """An item and a description of it that leaves out one attribute, which the item has for sure."""
        for index in rng.permutation(len(self.items)).tolist():
            refs = self.refs(index, without) if getattr(self.truth(index), without) else []
            if refs:
                return index, pick(rng, refs, [USUAL[r.length] for r in refs])
        return None

    def group(self, rng: Random) -> Ref:
        """Words for a group: shape and colour, one of them, or all; its size is 0 to 6, large ones as likely as can be."""
        present = {(item.colour, item.kind) for item in self.items}
        absent = [pair for pair in self.pairs if pair not in present]
        missing = [p for p in absent if any((p[0] == c) != (p[1] == s) for c, s in present)] or absent
        refs = [Ref(kind=s, colour=c) for c, s in sorted(present)] * 2 + [Ref(kind=s) for s in sorted({s for _, s in present})]
        refs += [Ref(colour=c) for c in sorted({c for c, _ in present})] + [Ref()]
        if missing:
            colour, kind = pick(rng, missing)
            refs.append(Ref(kind=kind, colour=colour))
        by_count: dict[int, list[Ref]] = {}
        for ref in refs:
            by_count.setdefault(len(self.fitting(ref)), []).append(ref)
        counts = [count for count in by_count if count <= 6]
        return pick(rng, by_count[pick(rng, counts, [_COUNT_ODDS[count] for count in counts])]) if counts else Ref()

    def thing(self, rng: Random, there: bool) -> Ref | None:
        """Something that is in the scene, or is not; half of those that are not differ in shape or colour alone."""
        plan = float(rng.random())
        if there:
            if not self.items:
                return None
            item = pick(rng, self.items)
            return (
                Ref(item.kind, item.colour) if plan < 0.7 else Ref(kind=item.kind) if plan < 0.87 else Ref(colour=item.colour)
            )
        refs = [Ref(kind=s, colour=c) for c, s in self.pairs]
        if self.items and plan < 0.5:
            item = pick(rng, self.items)
            near = [ref for ref in refs if (ref.colour == item.colour) != (ref.kind == item.kind) and not self.fitting(ref)]
            return pick(rng, near) if near else None
        if plan > 0.72:
            refs = [Ref(kind=s) for s in SHAPES] if plan < 0.87 else [Ref(colour=c) for c in COLOURS]
        absent = [ref for ref in refs if not self.fitting(ref)]
        return pick(rng, absent) if absent else None

    def extreme(self, largest: bool) -> int | None:
        """The item that is clearly larger, or smaller, than all others."""
        sides = sorted((max(item.box.size) * (1 if largest else -1), index) for index, item in enumerate(self.items))
        if len(sides) < 2:
            return None
        (second, _), (first, index) = sides[-2:]
        ratio = first / second if largest else second / first
        return index if ratio >= 1.25 else None

    def relation(self, rng: Random) -> tuple[int, Ref, int, Ref, str] | None:
        """Two items, a description of each, and the side of the second ("left", "above", ...) on which the first lies."""
        found = []
        for index in rng.permutation(len(self.items)).tolist():
            refs = [ref for ref in self.refs(index, "cell") if ref.kind or ref.colour]
            if refs:
                found.append((index, pick(rng, refs, [USUAL[r.length] for r in refs])))
        if len(found) < 2:
            return None
        (one, first), (other, second) = found[:2]
        (x, y), (u, v) = self.centres[one], self.centres[other]
        sides = [("left" if x < u else "right", abs(x - u)), ("above" if y < v else "below", abs(y - v))]
        clear = [side for side, distance in sides if distance >= APART and distance >= 0.5 * max(d for _, d in sides)]
        return (one, first, other, second, pick(rng, clear)) if clear else None


def other_value(rng: Random, attribute: str, value: str, view: View, index: int) -> str:
    """A wrong value for an attribute of an item; it makes no pair that is held out unless the scene may name those."""
    truth, free = view.truth(index), set(view.pairs)
    values = {"kind": SHAPES, "colour": tuple(COLOURS), "size": ("small", "medium", "large"), "cell": CELLS}[attribute]
    wrong = [v for v in values if v != value]
    allowed = [v for v in wrong if (replace(truth, **{attribute: v}).colour, replace(truth, **{attribute: v}).kind) in free]
    return pick(rng, allowed or wrong)
