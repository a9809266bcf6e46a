"""Asking about phantoms: dialogues about synthetic chest films whose opacity has a known side and zone.

Knows a phantom's truth. Does not know pixels, real films or models. Sides are the patient's: right is the image's left.
"""

from chat.wording import Language
from finetune.exchange import Exchange, Random, closed_answer
from finetune.phantom import MARK, SIDES, Phantom
from finetune.phrasebook import Book, book

SIDE_WORDS: dict[Language, dict[str, str]] = {
    "ko": {"right": "오른쪽", "left": "왼쪽"},
    "en": {"right": "right", "left": "left"},
}
ZONE_WORDS: dict[Language, dict[str, str]] = {
    "ko": {"upper": "상부", "middle": "중간부", "lower": "하부"},
    "en": {"upper": "upper", "middle": "middle", "lower": "lower"},
}
IMAGE_SIDES = {"right": "left", "left": "right"}
"""Where a side of the patient lies in the picture."""

_OPENINGS = {
    "opacity": 18, "side": 15, "zone": 13, "phantom_impression": 14, "compare": 8, "clearer": 6, "marker": 9,
    "phantom_modality": 5, "synthetic": 5, "phantom_pneumonia": 6, "treat": 3, "diagnose": 3,
}  # fmt: skip
_AFTER = {
    "opacity": {"follow_place": 6, "follow_zone": 2, "follow_other_lung": 2, "follow_sure": 2},
    "phantom_pneumonia": {"follow_place": 6, "follow_zone": 2, "follow_sure": 2},
    "side": {"follow_zone": 5, "follow_other_lung": 4, "follow_sure": 2},
    "zone": {"follow_sure": 2, "follow_place": 1},
    "phantom_impression": {"follow_place": 2, "follow_other_lung": 4, "follow_sure": 3},
    "compare": {"follow_zone": 4, "follow_sure": 2},
    "clearer": {"follow_sure": 1},
    "follow_place": {"follow_other_lung": 5, "follow_sure": 2},
    "follow_zone": {"follow_other_lung": 2, "follow_sure": 2},
    "follow_other_lung": {"follow_sure": 1},
    "follow_sure": {"follow_place": 1},
}
_OUTSIDE = ("treat", "diagnose")
"""Asked about any film, and answered alike."""
_SEEN_IN = {
    **dict.fromkeys(("opacity", "phantom_pneumonia", "zone", "follow_zone", "follow_sure"), ("opacity",)),
    **dict.fromkeys(("side", "compare", "clearer", "phantom_impression", "follow_place"), ("opacity", "lung")),
}
"""Where one looks to answer, if there is an opacity."""
PHANTOM_KINDS = (*_OPENINGS, "follow_place", "follow_zone", "follow_other_lung", "follow_sure")


def ask_about_phantom(
    phantom: Phantom, evidence: None, rng: Random, language: Language, turns: int, held_out: bool = False
) -> list[Exchange]:
    """A dialogue of `turns` exchanges; about two of five later turns need the turn before."""
    told: list[Exchange] = []
    for _ in range(turns):
        kind = _choose_kind([exchange.kind for exchange in told], rng)
        told.append(ask_phantom_kind(phantom, kind, rng, language, held_out))
    return told


def ask_phantom_kind(phantom: Phantom, kind: str, rng: Random, language: Language, held_out: bool = False) -> Exchange:
    """One exchange of a kind in `PHANTOM_KINDS`."""
    words = book("film" if kind in _OUTSIDE else "phantom", language)
    question = words.ask(kind, rng, held_out)
    answer, claim = _answer(phantom, kind, rng, words)
    return Exchange(question, answer, kind, claim, _items(phantom, kind))


def _items(phantom: Phantom, kind: str) -> tuple[int, ...]:
    """What the question is about, by its value in the phantom's index less one."""
    if phantom.opacity is None:
        return ()
    values = {"opacity": MARK - 1, "lung": SIDES.index(phantom.opacity.side)}
    return tuple(values[name] for name in _SEEN_IN.get(kind, ()))


def _choose_kind(before: list[str], rng: Random) -> str:
    after = {k: w for k, w in _AFTER.get(before[-1], {}).items() if k not in before} if before else {}
    weights = after if after and rng.random() < 0.52 else {k: w for k, w in _OPENINGS.items() if k not in before[-3:]}
    shares = [weight / sum(weights.values()) for weight in weights.values()]
    return list(weights)[int(rng.choice(len(shares), p=shares))]


def _answer(phantom: Phantom, kind: str, rng: Random, words: Book) -> tuple[str, str]:
    if kind in {"synthetic", "phantom_modality"}:
        return words.say(kind, rng), "synthetic"
    if kind in _OUTSIDE:
        return words.say(kind, rng), "decline"
    if kind == "marker":
        return _read_marker(phantom.marker, rng, words)
    found, slots = phantom.opacity, _slots(phantom, words.language)
    if kind in {"opacity", "phantom_pneumonia"}:
        claim = "yes" if found else "no"
        said = words.answers[f"{kind} {claim}"].draw(rng).format(**slots)
        return f"{closed_answer(found is not None, words.language)}, {said}", claim
    key = kind.removeprefix("follow_")
    answer = words.say(f"{key} {'place' if found else 'none'}", rng, **slots)
    if key == "other_lung":
        return answer, "clear"
    if found is None:
        return answer, "none"
    if key == "zone":
        return answer, found.zone
    if key == "clearer":
        return answer, IMAGE_SIDES[found.side]
    return answer, found.side if key in {"side", "compare"} else f"{found.side} {found.zone}"


def _slots(phantom: Phantom, language: Language) -> dict[str, str]:
    if phantom.opacity is None:
        return {}
    sides, side = SIDE_WORDS[language], phantom.opacity.side
    other = IMAGE_SIDES[side]
    slots = {"side": sides[side], "other": sides[other], "zone": ZONE_WORDS[language][phantom.opacity.zone]}
    return slots | {"image_side": sides[other], "other_image_side": sides[side]}


def _read_marker(letter: str | None, rng: Random, words: Book) -> tuple[str, str]:
    if letter is None:
        return words.say("marker none", rng), "none"
    side = "right" if letter == "R" else "left"
    sides = SIDE_WORDS[words.language]
    return words.say("marker place", rng, letter=letter, letter_side=sides[side], image_side=sides[IMAGE_SIDES[side]]), letter
