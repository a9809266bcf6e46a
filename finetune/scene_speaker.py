"""Scene speaker: one question about a scene with its true answer, kind by kind.

Knows scenes and sentences. Does not know dialogues, models or tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from chat.wording import Language, search_prompt
from finetune import scene_en, scene_ko
from finetune.exchange import Exchange, Parts, Random, closed_answer
from finetune.phrasebook import book, roughened
from finetune.scene_said import Said, listed
from finetune.scene_view import View, other_value, pick
from finetune.scene_words import (
    COLOURS_KO,
    PLACES,
    SIZES_KO,
    EnglishNoun,
    KoreanNoun,
    Noun,
    Ref,
    Written,
    amount,
    colour_name,
    counted,
    lowered,
)  # fmt: skip
from finetune.scenes import BACKGROUNDS, Scene

TABLES: dict[str, ModuleType] = {"en": scene_en, "ko": scene_ko}
OPEN = {"colour": "colour", "shape": "kind", "position": "cell", "size": "size"}
"""The kinds that ask for one attribute of one item."""
GROUNDS = tuple(dict.fromkeys(name for name, _ in BACKGROUNDS))


class Speaker:
    """Asks about one scene, in one language; every method of a kind gives None where the scene cannot carry it."""

    def __init__(self, scene: Scene, rng: Random, language: Language, held_out: bool) -> None:
        self.view, self.rng, self.language, self.held_out = View(scene), rng, language, held_out
        self.scene, self.table, self.questions = scene, TABLES[language], book("scene", language).questions
        self.korean = language == "ko"

    def chance(self, odds: float) -> bool:
        return float(self.rng.random()) < odds

    def question(self, key: str, **fields: Any) -> str:
        text = self.questions[key].draw(self.rng, self.held_out).format(**fields)
        return roughened(text[0].upper() + text[1:], self.language, self.rng)

    def answer(self, key: str, **fields: Any) -> str:
        text: str = self.table.ANSWERS[key].draw(self.rng).format(**fields)
        return text if self.korean else text[0].upper() + text[1:]

    def closed(self, claim: bool, key: str, **fields: Any) -> str:
        text: str = self.table.ANSWERS[key].draw(self.rng).format(**fields)
        return f"{closed_answer(claim, self.language)}, {text if self.korean else lowered(text)}"

    def noun(self, ref: Ref, loose: bool = False) -> Noun:
        return ref.noun(self.language, self.rng if loose else None)

    def value(self, attribute: str, value: str) -> Any:
        """The words for a colour, a shape, a size or a cell."""
        if attribute == "colour":
            return colour_name(value, self.language)
        if attribute == "kind":
            return self.noun(Ref(kind=value))
        return value if not self.korean else KoreanNoun({**SIZES_KO, **PLACES}[value])

    def values(self, attribute: str, value: str, ref: Ref) -> dict[str, Any]:
        """The fields of a sentence that says one attribute of the item that `ref` singles out."""
        fields = {"where" if attribute == "cell" else attribute: self.value(attribute, value)}
        if attribute == "size" and self.korean:
            sized, rank = pick(self.rng, scene_ko.SIZED[value]), KoreanNoun(scene_ko.RANKS[value])
            fields |= {"sized": sized, "rank": rank, "noun": self.noun(Ref(kind=ref.kind))}
        return fields

    def about(self, kind: str) -> Said | None:
        """The kinds of OPEN."""
        found = self.view.single(self.rng, OPEN[kind])
        return self.tell(kind, *found) if found else None

    def tell(self, kind: str, index: int, ref: Ref, follow: Noun | None = None) -> Said:
        """One attribute of an item; `follow` is how a follow-up's answer names it."""
        attribute = OPEN[kind]
        value = getattr(self.view.truth(index), attribute)
        key = f"follow_{kind}" if follow else kind
        question = self.question(key, it=self.noun(ref, loose=True))
        answer = self.answer(kind, it=follow or self.noun(ref), **self.values(attribute, value, ref))
        told = frozenset(name for name in ("kind", "colour", "size", "cell") if getattr(ref, name)) | {attribute}
        known = replace(ref, **{attribute: value})
        return Said(Exchange(question, answer, key, value), index, known, None, told, attribute)

    def count(self, group: Ref | None = None, key: str = "count", short: Noun | None = None) -> Said:
        group = group or self.view.group(self.rng)
        found = self.view.fitting(group)
        digits, number = self.chance(0.5), len(found)
        question = self.question(key, thing=self.noun(group, loose=True), short=short)
        form = ("none", "one", "many")[min(2, number)]
        places = self.places(found)
        fields: dict[str, Any] = {"thing": self.noun(group), "number": counted(number, digits), "places": listed(places)}
        fields["amount"] = amount(group, number, self.language, digits)
        answer = self.answer(f"count_{form}", **fields)
        kind = "follow_count" if key.startswith("follow") else "count"
        index = found[0] if number == 1 else None
        told = frozenset({"count"} | {name for name in ("kind", "colour") if getattr(group, name)})
        return Said(Exchange(question, answer, kind, str(number), parts=places), index, group, group, told)

    def exists(
        self, kind: str = "exists", there: bool | None = None, group: Ref | None = None, short: Noun | None = None
    ) -> Said | None:
        there = self.chance(0.52) if there is None else there
        group = group or self.view.thing(self.rng, there)
        if group is None:
            return None
        found = self.view.fitting(group)
        fields: dict[str, Any] = {"thing": self.noun(group)}
        if kind == "search":
            question = search_prompt(self.language, f"{self.noun(group):{'이' if self.korean else 'a'}}")
        else:
            question = self.question(kind, thing=self.noun(group, loose=True), short=short)
        told = {name for name in ("kind", "colour") if getattr(group, name)}
        if not found:
            return Said(Exchange(question, self.no(group, fields), kind, "no"), group=group, told=frozenset(told))
        truth, form = self.view.truth(found[0]), "one"
        places = self.places(found)
        if len(found) > 1:
            form = "some" if self.chance(0.6) else "many"
            fields["places"] = listed(places)
        elif truth.cell and self.chance(0.45):
            form = "place"
            fields["where"] = self.value("cell", truth.cell)
            told.add("cell")
        answer = self.closed(True, f"yes_{form}", **fields)
        if "하나" in answer:
            told.add("count")
        index = found[0] if len(found) == 1 else None
        parts = places if form == "many" else ()
        return Said(Exchange(question, answer, kind, "yes", parts=parts), index, group, group, frozenset(told))

    def no(self, group: Ref, fields: dict[str, Any]) -> str:
        """That there is no such thing, and now and then what there is instead."""
        if group.kind and group.colour and self.chance(0.6):
            for given, key in (("kind", "no_colour"), ("colour", "no_kind")):
                others = self.view.fitting(Ref(**{given: getattr(group, given)}))
                if len(others) == 1:
                    item = self.view.items[others[0]]
                    said: dict[str, Any] = {"kind": self.value("kind", item.kind), "colour": self.value("colour", item.colour)}
                    if self.korean and given == "colour":
                        said["colour"] = KoreanNoun(COLOURS_KO[item.colour])
                    return self.closed(False, key, **fields, **said)
        return self.closed(False, "no", **fields)

    def search(self) -> Said | None:
        return self.exists("search")

    def largest(self) -> Said | None:
        name = pick(self.rng, ("largest", "smallest"))
        index = self.view.extreme(name == "largest")
        if index is None:
            return None
        item = self.view.items[index]
        ref = Ref(kind=item.kind, colour=item.colour)
        exchange = Exchange(
            self.question(name), self.answer(name, item=self.noun(ref)), "largest", f"{item.colour} {item.kind}"
        )
        return Said(exchange, index, ref, None, frozenset({"kind", "colour"}))

    def relation(self) -> Said | None:
        found = self.view.relation(self.rng)
        if not found:
            return None
        _, ref, _, other, side = found
        opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[side]
        claim = self.chance(0.5)
        words = self.table.SIDES
        question = self.question(
            "relation",
            it=self.noun(ref, loose=True),
            other=self.noun(other, loose=True),
            side=words[side if claim else opposite],
        )
        answer = self.closed(claim, "relation", it=self.noun(ref), other=self.noun(other), side=words[side])
        return Said(Exchange(question, answer, "relation", "yes" if claim else "no"))

    def check(self) -> Said | None:
        """A closed question about an attribute of an item, about the background or about lettering."""
        kind = pick(self.rng, (*OPEN, "background", "read"), (3, 3, 2, 3, 1, 0.7))
        if kind == "read":
            written = self.scene.lettering
            text = self.text() if written else None
            answer = self.closed(bool(written), f"check_read_{'yes' if written else 'no'}", text=text)
            return Said(Exchange(self.question("check_read"), answer, "check", "yes" if written else "no"))
        claim = self.chance(0.5)
        if kind == "background":
            truth = self.scene.background
            asked = truth if claim else pick(self.rng, [name for name in GROUNDS if name != truth])
            question = self.question("check_background", colour=self.value("colour", asked))
            paper = EnglishNoun(f"{truth} background")
            answer = self.closed(claim, "background", colour=self.value("colour", truth), paper=paper)
            return Said(Exchange(question, answer, "check", "yes" if claim else "no"))
        found = self.view.single(self.rng, OPEN[kind])
        if not found:
            return None
        attribute, (index, ref) = OPEN[kind], found
        value = getattr(self.view.truth(index), attribute)
        asked = value if claim else other_value(self.rng, attribute, value, self.view, index)
        question = self.question(f"check_{kind}", it=self.noun(ref, loose=True), **self.values(attribute, asked, ref))
        answer = self.closed(claim, kind, it=self.noun(ref), **self.values(attribute, value, ref))
        told = frozenset(name for name in ("kind", "colour", "size", "cell") if getattr(ref, name)) | {attribute}
        return Said(Exchange(question, answer, "check", "yes" if claim else "no"), index, ref, None, told)

    def text(self) -> str:
        assert self.scene.lettering
        return Written(self.scene.lettering.text) if self.korean else self.scene.lettering.text

    def read(self) -> Said:
        question = self.question("read")
        if not self.scene.lettering:
            return Said(Exchange(question, self.answer("read_none"), "read", "none"))
        return Said(Exchange(question, self.answer("read", text=self.text()), "read", self.scene.lettering.text))

    def background(self) -> Said:
        colour = self.scene.background
        answer = self.answer("background", colour=self.value("colour", colour), paper=EnglishNoun(f"{colour} background"))
        return Said(Exchange(self.question("background"), answer, "background", colour), doubt="background")

    def domain(self) -> Said:
        of = self.contents()
        key = pick(self.rng, ("domain", "domain_no", "domain_yes"), (2, 1.5, 1.5))
        claim = {"domain": "drawing", "domain_no": "no", "domain_yes": "yes"}[key]
        answer = self.answer(key, of=of) if key == "domain" else self.closed(claim == "yes", key, of=of)
        return Said(Exchange(self.question(key), answer, "domain", claim))

    def contents(self) -> str:
        """What the drawing is made of: "of coloured shapes", "색 도형과 글자가 있는"."""
        shapes, lettering = bool(self.scene.items), self.scene.lettering is not None
        if self.korean:
            return "색 도형과 글자가 있는" if shapes and lettering else "색 도형이 있는" if shapes else "글자가 있는"
        return "of " + " and ".join(["coloured shapes"] * shapes + ["lettering"] * lettering)

    def describe(self) -> Said:
        groups = self.groups()
        ground = colour_name(self.scene.background, self.language)
        named = [self.part(ref, number) for ref, number in groups]
        parts = tuple((name, tuple(self.view.fitting(ref))) for name, (ref, _) in zip(named, groups, strict=True))
        if self.scene.lettering:
            named.append(KoreanNoun(f"{self.text():라는} 글자") if self.korean else f'the text "{self.text()}"')
        if self.korean:
            joined: str = KoreanNoun(", ".join(named))
            be = ""
        else:
            joined = named[0] if len(named) == 1 else ", ".join(named[:-1]) + " and " + named[-1]
            be = "is" if not groups or groups[0][1] == 1 else "are"
        answer = self.answer("describe", list=joined, ground=ground, be=be, paper=EnglishNoun(f"{ground} background"))
        return Said(Exchange(self.question("describe"), answer, "describe", parts=parts))

    def each(self) -> Said | None:
        """Every item with all that is known of it, in the order in which one reads."""
        view = self.view
        order = view.reading(range(len(view.items)))
        named = [f"{view.truth(index).noun(self.language):{'' if self.korean else 'a'}}" for index in order]
        if not named:
            return None
        answer = self.answer("each", list=KoreanNoun(", ".join(named)) if self.korean else ", ".join(named))
        parts = tuple((name, (index,)) for name, index in zip(named, order, strict=True))
        return Said(Exchange(self.question("each"), answer, "each", parts=parts))

    def places(self, indices: Sequence[int]) -> Parts:
        """Where these items are, one by one: to go through them is how they are counted."""
        return tuple((str(self.value("cell", self.view.place(i))), (i,)) for i in self.view.reading(indices))

    def part(self, ref: Ref, number: int) -> str:
        """A group in a description, which says whether it is one or several, and leaves the counting to who asks for it."""
        noun = ref.noun(self.language)
        if self.korean:
            return f"{noun} {'여러' if number > 1 else '한'} 개"
        return f"{noun:{'many' if number > 1 else 'a'}}"

    def groups(self) -> list[tuple[Ref, int]]:
        """The items by shape and colour; by one of them where that would make a long list."""

        def by(*names: str) -> list[tuple[Ref, int]]:
            counts: dict[Ref, int] = {}
            for item in self.view.items:
                ref = Ref(**{name: getattr(item, name) for name in names})
                counts[ref] = counts.get(ref, 0) + 1
            return sorted(counts.items(), key=lambda pair: -pair[1])

        whole = by("kind", "colour")
        return whole if len(whole) <= 4 else min(by("kind"), by("colour"), key=len)
