"""Hints: evidence as a classifier might give it about a film, right, wrong or undecided, to train with.

Knows a film's label and `vision.evidence`. Does not know images, maps or sentences.
"""

from typing import get_args

from chat.wording import Language, evidence_lines
from finetune.exchange import Random
from vision.evidence import Evidence, Finding, Peak, Side, Zone
from vision.tiling import Box

RIGHT, WRONG = 0.7, 0.15  # the rest is undecided, refused, or comes with an untrusted map
FRAME = 336  # a drawn peak's box lies on a square of this side, as no image is known here


def draw_evidence(label: int, rng: Random, probability_of_pneumonia: float | None = None) -> tuple[Evidence, bool]:
    """Evidence about a film of this index into `finetune.films.LABELS`, and whether it points the right way.

    A given probability is told as it is, even where it errs, but turned round in the wrong part. Undecided or
    withheld evidence points no way, so False.
    """
    way, truth = rng.random(), label > 0
    given = probability_of_pneumonia
    if way < RIGHT + WRONG:
        wrong = way >= RIGHT
        chance = _chance(truth != wrong, rng) if given is None else given
        if wrong and (chance > 0.5) == truth:
            chance = 1 - chance
        return _leaning(chance, rng), (chance > 0.5) == truth
    kind = rng.random()
    if kind < 0.5:
        return _undecided(rng, given), False
    chance = _chance(truth != (rng.random() < 0.18), rng) if given is None else given
    if kind < 0.75:
        found = (Finding("PNEUMONIA", chance),) if rng.random() < 0.5 else ()
        return Evidence(found, _leaning(chance, rng).labels if found else (), notes=("outside_population",)), False
    bare = _findings(chance, rng, None)
    return Evidence(bare, (_name(chance),), notes=("map_untrusted",)), (chance > 0.5) == truth


def pointed_to(evidence: Evidence | None) -> str | None:
    """The one label that evidence names in a prompt; None when it is undecided, withheld or absent."""
    if evidence is None or is_withheld(evidence) or len(evidence.labels) != 1:
        return None
    return evidence.labels[0]


def is_withheld(evidence: Evidence) -> bool:
    """Whether a prompt shows neither label nor probability."""
    return not evidence.findings or evidence.is_withheld


def trusted_peak(evidence: Evidence | None) -> Peak | None:
    """The peak that a prompt shows, if any."""
    pointer = evidence.pointer if evidence else None
    return pointer.peak if pointer else None


def is_silent(evidence: Evidence | None, language: Language) -> bool:
    return evidence is None or not evidence_lines(evidence, language)


def _name(chance: float) -> str:
    return "PNEUMONIA" if chance > 0.5 else "NORMAL"


def _chance(pneumonia: bool, rng: Random) -> float:
    """A calibrated probability of pneumonia, mostly far from a half."""
    doubt = 0.45 * float(rng.beta(0.8, 2.2)) + 0.003
    return 1 - doubt if pneumonia else doubt


def _leaning(chance: float, rng: Random) -> Evidence:
    peak = _peak(rng) if chance > 0.5 and rng.random() < 0.65 else None
    return Evidence(_findings(chance, rng, peak), (_name(chance),))


def _undecided(rng: Random, given: float | None) -> Evidence:
    chance = float(rng.uniform(0.3, 0.7)) if given is None else given
    labels = ("NORMAL", "PNEUMONIA") if rng.random() < 0.8 else ()
    return Evidence(_findings(chance, rng, _peak(rng) if rng.random() < 0.3 else None), labels)


def _findings(chance: float, rng: Random, peak: Peak | None) -> tuple[Finding, ...]:
    """Mostly pneumonia alone; sometimes the label that leads, sometimes both."""
    inside = float(rng.beta(9, 2)) if peak and rng.random() < 0.8 else None
    pneumonia = Finding("PNEUMONIA", chance, trusted=peak is not None, peak=peak, inside=inside)
    normal = Finding("NORMAL", 1 - chance)
    way = rng.random()
    if way < 0.6 or (peak and way < 0.8):
        return (pneumonia,)
    if way < 0.8:
        return (pneumonia if chance > 0.5 else normal,)
    return (pneumonia, normal) if chance > 0.5 else (normal, pneumonia)


def _peak(rng: Random) -> Peak:
    """Somewhere in a lung; the patient's right lies on the left of the square."""
    sides: tuple[Side, ...] = get_args(Side)
    zones: tuple[Zone, ...] = get_args(Zone)
    side, zone = int(rng.integers(2)), int(rng.integers(3))
    left, top = round(FRAME * (0.2 + 0.4 * side)), round(FRAME * (0.15 + 0.22 * zone))
    return Peak(sides[side], zones[zone], Box(left, top, left + FRAME // 5, top + FRAME // 5))
