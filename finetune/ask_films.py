"""Asking about films: dialogues about real chest films, whose label is known and whose opacities have no known place.

Knows a film's label and the evidence beside it; the label is right, the evidence may be wrong. Does not know
pixels. Phantoms are asked about in `finetune.ask_phantoms`, whose names stand here, too.
"""

import numpy as np

from chat.wording import SECTIONS, Language, section_prompt
from finetune.ask_phantoms import IMAGE_SIDES, PHANTOM_KINDS, SIDE_WORDS, ZONE_WORDS, ask_about_phantom, ask_phantom_kind
from finetune.claims import claim_of
from finetune.exchange import Exchange, Random, closed_answer
from finetune.hints import draw_evidence, is_silent, is_withheld, pointed_to, trusted_peak
from finetune.phrasebook import Book, book, capital
from vision.evidence import Evidence, Peak

__all__ = [
    "FILM_KINDS",
    "KINDS",
    "PHANTOM_KINDS",
    "ask_about_film",
    "ask_about_phantom",
    "ask_film_kind",
    "ask_phantom_kind",
    "claim_of",
    "draw_evidence",
]

_OPENINGS = {
    "pneumonia": 16, "normal": 11, "impression": 12, "type": 8, "certainty": 4, "where": 9, "other_side": 2,
    "evidence": 9, "modality": 4, "anatomy": 6, "next": 4, "treat": 3, "diagnose": 4,
    **{f"section_{section}": 2 for section in SECTIONS},
}  # fmt: skip
_FOLLOW_UPS = {"follow_where": 5, "follow_type": 4, "follow_certainty": 3, "follow_why": 3, "follow_next": 2}
FILM_KINDS = (*_OPENINGS, *_FOLLOW_UPS, "follow_other_side")
KINDS = FILM_KINDS + PHANTOM_KINDS
_JUDGED = {"pneumonia", "normal", "impression", "type", "evidence", "certainty", *_FOLLOW_UPS}
_TOPICS = ("heart", "side", "dark", "diaphragm", "ribs")
_VERDICTS = ("normal", "pneumonia")
_TYPES = ("normal", "bacterial", "viral")
_LABELS: dict[Language, dict[str, str]] = {
    "ko": {"NORMAL": "정상", "PNEUMONIA": "폐렴"},
    "en": {"NORMAL": "normal", "PNEUMONIA": "pneumonia"},
}


def ask_about_film(
    label: int, evidence: Evidence | None, rng: Random, language: Language, turns: int, held_out: bool = False
) -> list[Exchange]:
    """A dialogue of `turns` exchanges about a film of this index into `finetune.films.LABELS`.

    About two of five later turns are follow-ups that need the turn before; no kind comes back within eight turns.
    """
    told: list[Exchange] = []
    for _ in range(turns):
        kind = _choose_kind([exchange.kind for exchange in told], label, evidence, rng)
        told.append(ask_film_kind(label, kind, evidence, rng, language, held_out))
    return told


def ask_film_kind(
    label: int, kind: str, evidence: Evidence | None, rng: Random, language: Language, held_out: bool = False
) -> Exchange:
    """One exchange of a kind in `FILM_KINDS`; the label decides its claim, whatever the evidence says."""
    words = book("film", language)
    if kind.startswith("section_"):
        section = kind.removeprefix("section_")
        answer = _write_section(section, label, evidence, rng, words)
        return Exchange(section_prompt(section, language), answer, kind, _VERDICTS[label > 0] if section == "summary" else None)
    topic = f"anatomy {_TOPICS[int(rng.integers(len(_TOPICS)))]}" if kind == "anatomy" else kind
    question = words.ask(topic, rng, held_out)
    answer, claim = _answer(topic.removeprefix("follow_"), label, evidence, rng, words)
    return Exchange(question, answer, kind, claim)


def _choose_kind(before: list[str], label: int, evidence: Evidence | None, rng: Random) -> str:
    last = before[-1] if before else ""
    if rng.random() < 0.62:
        base = last.removeprefix("follow_")
        if base == "where" and "follow_other_side" not in before and rng.random() < 0.6:
            return "follow_other_side"
        if last in _JUDGED or base == "where":
            weights = {k: w for k, w in _FOLLOW_UPS.items() if k.removeprefix("follow_") != base and k not in before}
            if label == 0:
                weights = {k: 1 if k in {"follow_where", "follow_type"} else w for k, w in weights.items()}
            if weights:
                return _pick(weights, rng)
    absent = {"evidence": 2} if evidence is None else {}
    return _pick({k: w for k, w in (_OPENINGS | absent).items() if k not in before[-8:]}, rng)


def _pick(weights: dict[str, int], rng: Random) -> str:
    shares = np.array(list(weights.values()), float)
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def _answer(kind: str, label: int, evidence: Evidence | None, rng: Random, words: Book) -> tuple[str, str | None]:
    """The answer and its claim, for every kind but the sections."""
    verdict = _VERDICTS[label > 0]
    if kind in {"pneumonia", "normal"}:
        claim = verdict == kind
        told = "yes" if claim else "no"
        said = f"{closed_answer(claim, words.language)}, {words.answers[f'{kind} {told}'].draw(rng)}"
        return _with_hint(said, label, evidence, rng, words), told
    if kind == "impression":
        return _with_hint(words.say(f"impression {verdict}", rng), label, evidence, rng, words), verdict
    if kind == "type":
        return _with_hint(words.say(f"type {_TYPES[label]}", rng), label, evidence, rng, words), _TYPES[label]
    if kind == "certainty":
        return words.say(f"certainty {verdict}", rng), verdict
    if kind == "where":
        return _place(label, trusted_peak(evidence), rng, words)
    if kind == "other_side":
        return _other_side(label, trusted_peak(evidence), rng, words)
    if kind == "evidence":
        return _weigh(label, evidence, rng, words), verdict
    if kind in {"next", "why"}:
        return words.say(f"{kind} {verdict}", rng), None
    claim_word = {"modality": "chest x-ray", "treat": "decline", "diagnose": "decline"}.get(kind)
    return words.say(kind, rng), claim_word


def _with_hint(answer: str, label: int, evidence: Evidence | None, rng: Random, words: Book) -> str:
    """Now and then a word on whether the hints agree, when they point one way."""
    hint = pointed_to(evidence)
    if hint is None or rng.random() > 0.35:
        return answer
    return words.add(answer, f"hint {_stance(hint, label)}", rng)


def _stance(hint: str, label: int) -> str:
    return "agree" if (hint == "NORMAL") == (label == 0) else "disagree"


def _slots(peak: Peak, language: Language) -> dict[str, str]:
    other = "left" if peak.side == "right" else "right"
    sides = SIDE_WORDS[language]
    image_side = sides[IMAGE_SIDES[peak.side]]
    return {"side": sides[peak.side], "other": sides[other], "zone": ZONE_WORDS[language][peak.zone], "image_side": image_side}


def _place(label: int, peak: Peak | None, rng: Random, words: Book) -> tuple[str, str]:
    if label == 0:
        return words.say("where none", rng), "none"
    if peak is None:
        return words.say("where unplaced", rng), "unplaced"
    return words.say("where peak", rng, **_slots(peak, words.language)), f"{peak.side} {peak.zone}"


def _other_side(label: int, peak: Peak | None, rng: Random, words: Book) -> tuple[str, str]:
    if label == 0:
        return words.say("other_side clear", rng), "clear"
    if peak is None:
        return words.say("other_side unsure", rng), "unsure"
    return words.say("other_side peak", rng, **_slots(peak, words.language)), "unsure"


def _weigh(label: int, evidence: Evidence | None, rng: Random, words: Book) -> str:
    """What the evidence says, and what the picture says to that."""
    look = words.answers[f"look {_VERDICTS[label > 0]}"].draw(rng)
    if evidence is None or is_silent(evidence, words.language):
        return words.say("evidence absent", rng, look=look)
    if is_withheld(evidence):
        return words.say("evidence withheld", rng, look=look)
    names, first = _LABELS[words.language], evidence.findings[0]
    slots: dict[str, str | int] = {"finding": names[first.label], "percent": round(100 * first.probability), "look": look}
    hint = pointed_to(evidence)
    if hint is None:
        return words.say("evidence undecided", rng, **slots)
    return words.say(f"evidence {_stance(hint, label)}", rng, hint=names[hint], **slots)


def _write_section(section: str, label: int, evidence: Evidence | None, rng: Random, words: Book) -> str:
    """Two or three sentences for the report."""
    verdict, hint, peak = _VERDICTS[label > 0], pointed_to(evidence), trusted_peak(evidence)
    if section == "summary":
        said = [words.say(f"section_summary {verdict}", rng)]
        if hint is not None and rng.random() < 0.8:
            said = [words.add(said[0], f"hint {_stance(hint, label)}", rng)]
        return " ".join([*said, words.say("summary hedge", rng)])
    if section == "looked_at":
        said = [words.say("section_looked_at none", rng)]
        if peak:
            said.append(words.say("map peak", rng, **_slots(peak, words.language)))
            said.append(words.say("map doubted" if label == 0 else "map reading", rng))
        else:
            untrusted = evidence is not None and "map_untrusted" in evidence.notes
            said.append(words.say("map untrusted" if untrusted else "map none", rng))
        return " ".join(said)
    if section == "next":
        return " ".join([words.say(f"section_next first {verdict}", rng), words.say("section_next last", rng)])
    return capital(" ".join([words.say("section_quality first", rng), words.say("section_quality last", rng)]))
