"""Asking about scenes: dialogues of true answers about a picture of shapes and lettering.

Knows what can be asked next. Does not know pixels, models or tokens.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from chat.wording import Language
from finetune.easel import COLOURS
from finetune.exchange import Exchange, Random, closed_answer
from finetune.outlines import SHAPES
from finetune.scene_ko import RANKS
from finetune.scene_said import Said
from finetune.scene_speaker import GROUNDS, OPEN, Speaker
from finetune.scene_view import other_value, pick
from finetune.scene_words import EnglishNoun, It, KoreanNoun, Noun, Ref, claim_of, lowered
from finetune.scenes import Scene

__all__ = ["FOLLOW_UPS", "KINDS", "ask_about_scene", "ask_kind", "claim_of"]

ODDS = {
    "colour": 10, "shape": 9, "position": 14, "count": 15, "exists": 10, "size": 6, "largest": 8, "relation": 7,
    "check": 7, "describe": 6, "each": 16, "read": 2, "background": 4, "search": 6, "domain": 4,
}  # fmt: skip
KINDS = tuple(ODDS)
FOLLOW_UPS = tuple(f"follow_{kind}" for kind in ("position", "size", "colour", "shape", "count", "exists", "sure"))
FOLLOWED = 0.78  # how often a later turn tries to follow up; about two turns in five come to do so
TRIES = 12

_UNSURE = {"describe", "each", "domain", "follow_sure"}


def ask_about_scene(scene: Scene, rng: Random, language: Language, turns: int, held_out: bool = False) -> list[Exchange]:
    """A dialogue of so many turns; `held_out` phrases every question in words that are kept from training."""
    speaker = Speaker(scene, rng, language, held_out)
    said: list[Said] = []
    for _ in range(turns):
        following = bool(said) and speaker.chance(FOLLOWED)
        turn = follow(speaker, said) if following else None
        said.append(turn or _another(speaker, said))
    return [_singled_out(speaker, one) for one in said]


def _singled_out(speaker: Speaker, said: Said) -> Exchange:
    """The exchange with what it is about: an item, or those of a group."""
    group = speaker.view.fitting(said.group) if said.group else []
    return replace(said.exchange, items=(said.index,) if said.index is not None else tuple(group))


def ask_kind(scene: Scene, kind: str, rng: Random, language: Language, held_out: bool = False) -> Exchange | None:
    """One exchange of a kind of KINDS, or None when the scene cannot carry it. Raises ValueError for another kind."""
    speaker = Speaker(scene, rng, language, held_out)
    said = _ask(speaker, kind)
    return _singled_out(speaker, said) if said else None


def ask_boxed(scene: Scene, index: int, rng: Random, language: Language, held_out: bool = False) -> Exchange:
    """What item `index` is, asked about a box around it."""
    speaker, item = Speaker(scene, rng, language, held_out), scene.items[index]
    noun = speaker.noun(Ref(kind=item.kind, colour=item.colour))
    return Exchange(speaker.question("boxed"), speaker.answer("boxed", it=noun), "boxed", f"{item.colour} {item.kind}")


def _ask(speaker: Speaker, kind: str) -> Said | None:
    if kind not in ODDS:
        raise ValueError(f"There is no kind {kind!r}; the kinds are {', '.join(KINDS)}.")
    if kind in OPEN:
        return speaker.about(kind)
    said: Said | None = getattr(speaker, kind)()
    return said


def _another(speaker: Speaker, said: list[Said]) -> Said:
    """A question of its own that repeats none so far, as far as a few tries find one."""
    odds = {**ODDS, "read": 14 if speaker.scene.lettering else 2}
    if not speaker.scene.items:
        odds |= {"count": 3, "exists": 4, "search": 3}
    asked = {(one.exchange.kind, one.ref, one.group) for one in said}
    once = {one.exchange.kind for one in said} & {"describe", "each", "read", "background", "domain", "largest"}
    last: Said | None = None
    for _ in range(TRIES):
        kind = pick(speaker.rng, KINDS, tuple(odds.values()))
        new = _ask(speaker, kind) if kind not in once else None
        if new and ((new.index is None and new.group is None) or (kind, new.ref, new.group) not in asked):
            return new
        last = new or last
    return last or speaker.domain()


def follow(speaker: Speaker, said: list[Said]) -> Said | None:
    """A question that needs the turn before it, or None where nothing fits."""
    last = said[-1]
    ways: list[tuple[float, Callable[[], Said | None]]] = []
    if last.index is not None:
        sure = speaker.view.truth(last.index)
        for kind, attribute in OPEN.items():
            if attribute not in last.told and getattr(sure, attribute):
                ways.append((4.0 if kind == "position" else 1.5, partial(_attribute, speaker, last, kind)))
    kind = last.exchange.kind.removeprefix("follow_")
    if last.group and "count" not in last.told and last.exchange.claim == "yes":
        ways.append((3.0 if last.index is None else 0.8, partial(_number, speaker, last.group)))
    if last.group and (last.group.colour or last.group.kind) and kind in ("count", "exists"):
        ways.append((4.0, partial(_instead, speaker, said, last.group, kind)))
    if kind not in _UNSURE and last.exchange.kind not in _UNSURE and all(one.exchange.kind != "follow_sure" for one in said):
        ways.append((0.3, partial(_sure, speaker, last)))
        if last.doubt:
            ways.append((0.6, partial(_doubt, speaker, last, last.doubt)))
    ways.append((0.8, lambda: None))  # so that a turn with nothing else to build on is seldom doubted
    return pick(speaker.rng, [way for _, way in ways], [odds for odds, _ in ways])()


def _attribute(speaker: Speaker, last: Said, kind: str) -> Said:
    """ "Where is it?", "And its colour?" about the item talked about."""
    assert last.index is not None
    named = Ref(kind=last.ref.kind, colour=last.ref.colour if OPEN[kind] != "colour" else None)
    pronoun: Noun = It("it") if not speaker.korean else KoreanNoun(f"그 {Ref(kind=last.ref.kind).noun('ko')}")
    said = speaker.tell(kind, last.index, last.ref, pronoun if speaker.chance(0.5) else speaker.noun(named))
    return replace(said, told=last.told | said.told, group=None)


def _number(speaker: Speaker, group: Ref) -> Said:
    """ "And how many are there?" """
    return speaker.count(group, "follow_count")


def _instead(speaker: Speaker, said: list[Said], group: Ref, kind: str) -> Said | None:
    """ "What about the blue ones?": the same question with another colour or another shape."""
    attribute = pick(speaker.rng, [name for name in ("colour", "kind") if getattr(group, name)])
    values = COLOURS if attribute == "colour" else SHAPES
    others = [replace(group, **{attribute: value}) for value in values if value != getattr(group, attribute)]
    free = set(speaker.view.pairs)
    known = {one.group for one in said}
    others = [ref for ref in others if ref not in known]
    others = [ref for ref in others if not (ref.colour and ref.kind) or (ref.colour, ref.kind) in free]
    there = speaker.chance(0.65 if kind == "exists" else 0.9)
    fitting = [ref for ref in others if bool(speaker.view.fitting(ref)) == there]
    if not fitting:
        return None
    ref = pick(speaker.rng, fitting, [float(len(speaker.view.fitting(ref)) or 1) for ref in fitting])
    short = _short(speaker, attribute, ref)
    if kind == "count":
        return speaker.count(ref, "follow_count_other", short)
    return speaker.exists("follow_exists", there, ref, short)


def _short(speaker: Speaker, attribute: str, ref: Ref) -> Noun:
    """The new words: "blue one", "파란 것"; another shape is named in full, since "a square" alone could be of any colour."""
    if attribute == "kind":
        return speaker.noun(ref)
    if not speaker.korean:
        return EnglishNoun(f"{ref.colour} one")
    return KoreanNoun(str(speaker.noun(Ref(colour=ref.colour))).replace("도형", "것"))


def _core(answer: str, korean: bool) -> str:
    """The sentence of an answer without its Yes or No, as it goes on within a sentence."""
    head, comma, rest = answer.partition(", ")
    core = rest if comma and head in ("Yes", "No", "예", "아니오") else answer
    return core if korean else lowered(core)


def _sure(speaker: Speaker, last: Said) -> Said:
    """ "Are you sure?": the truth again."""
    core = _core(last.exchange.answer, speaker.korean)
    key = "sure" if not speaker.korean else "sure_요" if core.endswith("요.") else "sure_다"
    answer = speaker.closed(True, key, core=core)
    sure = Exchange(speaker.question("follow_sure"), answer, "follow_sure", "yes", parts=last.exchange.parts)
    return replace(last, exchange=sure, doubt=None)


def _doubt(speaker: Speaker, last: Said, attribute: str) -> Said | None:
    """ "Isn't it blue?": the truth, whatever the person would like to hear."""
    claim, truth = speaker.chance(0.3), last.exchange.claim
    if truth is None or truth in ("yes", "no"):
        return None
    if attribute == "background":
        other = pick(speaker.rng, [name for name in GROUNDS if name != truth])
        attribute = "colour"
    else:
        assert last.index is not None
        other = other_value(speaker.rng, attribute, truth, speaker.view, last.index)
    question = speaker.question("follow_doubt", word=_word(speaker, attribute, truth if claim else other))
    core = _core(last.exchange.answer, speaker.korean)
    answer = f"{closed_answer(claim, speaker.language)}, {core}"

    return replace(last, exchange=Exchange(question, answer, "follow_sure", "yes" if claim else "no"), doubt=None)


def _word(speaker: Speaker, attribute: str, value: str) -> str:
    """A value as it completes "Isn't it ...?" and "... 아니에요?"."""
    if speaker.korean:
        return RANKS[value] if attribute == "size" else str(speaker.value(attribute, value))
    if attribute == "kind":
        return f"{Ref(kind=value).noun('en'):a}"
    return f"at the {value}" if attribute == "cell" else value
