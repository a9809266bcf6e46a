"""The rule-based report: three sentences per section from the evidence and the picture's size alone, whatever they are.

Knows evidence, studies and the report's words. Does not know engines or files.
"""

import re
from collections.abc import Sequence

import numpy as np

from chat.report.particles import with_particles
from chat.report.sentences import LABELS, MORE, OVER, RULES, SIDES, UNDER, ZONES
from chat.wording import Language
from vision.evidence import Evidence, Finding, Peak
from vision.study import Study

MOST_NAMED = 4
SMALL_SIDE = 512
"""Pixels; a chest radiograph has 2,000 and more a side."""
FLAT_RANGE = 60
"""Of 255 grey levels, between the 2nd and the 98th percentile."""

_OTHER = {"right": "left", "left": "right"}


def shown_probabilities(evidence: Evidence | None) -> dict[str, float]:
    """The calibrated probabilities that a report may name, the likeliest first.

    None when the classifier was not used, does not apply to this image, or was switched off.
    """
    if evidence is None or evidence.is_withheld or "labels" not in evidence.items:
        return {}
    told = evidence.probabilities or {finding.label: finding.probability for finding in evidence.findings}
    return {label: told[label] for label in sorted(told, key=lambda label: -told[label]) if 0 <= told[label] <= 1}


def shown_labels(evidence: Evidence | None) -> tuple[str, ...]:
    """The conformal label set, as far as a report may name it."""
    return evidence.labels if evidence is not None and shown_probabilities(evidence) else ()


def trusted_peaks(evidence: Evidence | None) -> list[tuple[str, Peak]]:
    """(label, peak) of the maps that may be read; the labels in the set come first, then the likeliest."""
    findings = sorted(_mapped(evidence), key=lambda f: (evidence is None or f.label not in evidence.labels, -f.probability))
    return [(finding.label, finding.peak) for finding in findings if finding.trusted and finding.peak]


def inside_share(evidence: Evidence | None) -> float | None:
    """How much of the map that is told of lies in the lungs, where that is known."""
    pointer = evidence.pointer if evidence else None
    return pointer.inside if pointer else None


def _mapped(evidence: Evidence | None) -> tuple[Finding, ...]:
    """The findings whose maps may be spoken of."""
    return () if evidence is None or evidence.is_withheld or "map" not in evidence.items else evidence.findings


def name_label(label: str, language: Language) -> str:
    """A label in easy words; one of another checkpoint as it is written there, without what is neither letter nor digit."""
    plain = " ".join(re.sub(r"[^\w/+-]|_", " ", label).split())[:40].strip()
    return LABELS[language].get(label, plain or "–")


def percent(probability: float, language: Language) -> str:
    """A probability in whole per cent; never 0 or 100, for nothing here is certain."""
    if probability > 0.99:
        return OVER[language]
    return UNDER[language] if probability < 0.01 else f"{round(100 * probability)}%"


def rule_sentences(section: str, study: Study, evidence: Evidence | None, language: Language) -> tuple[str, str, str]:
    """The three sentences of a section; the last is the most general, so the best to fill up with."""
    said = list(RULES[language][f"{section} {_kind(section, evidence)}"])
    peaks = trusted_peaks(evidence)
    if section == "looked_at" and peaks and inside_share(evidence) is not None:
        said[0] = RULES[language]["looked_at inside"][0]
    if section == "next" and peaks:
        said[1] = RULES[language]["next peak"][0]
    if section == "quality" and (fault := _fault(study)):
        said[0] = RULES[language][f"quality {fault}"][0]
    slots = _slots(study, evidence, peaks, language)
    first, second, third = (with_particles(sentence.format_map(slots)) for sentence in said)
    return first, second, third


def _kind(section: str, evidence: Evidence | None) -> str:
    """Which of the section's rules fits this evidence."""
    notes = evidence.notes if evidence else ()
    labels = shown_labels(evidence)
    if section == "looked_at":
        return _map_kind(evidence)
    if section == "quality":
        return "picture" if evidence is None or "not_a_radiograph" in notes else "film"
    if "not_a_radiograph" in notes:
        return "not_a_radiograph"
    if section == "next":
        return labels[0] if labels in {("NORMAL",), ("PNEUMONIA",)} else "other"
    if "outside_population" in notes:
        return "outside_population"
    if not shown_probabilities(evidence):
        return "absent"
    return ("none", "one", "several")[min(2, len(labels))]


def _map_kind(evidence: Evidence | None) -> str:
    if trusted_peaks(evidence):
        return "peak"
    findings = _mapped(evidence)
    if any(finding.trusted for finding in findings):
        return "unplaced"
    is_untrusted = evidence is not None and "map_untrusted" in evidence.notes and "map" in evidence.items
    return "map_untrusted" if is_untrusted or any(finding.heatmap for finding in findings) else "no_map"


def _fault(study: Study) -> str | None:
    """What the picture itself lacks: pixels, or contrast."""
    if min(study.image.size) < SMALL_SIDE:
        return "small"
    low, high = np.percentile(np.asarray(study.image.resize((128, 128)).convert("L")), (2, 98))
    return "flat" if high - low < FLAT_RANGE else None


def _slots(study: Study, evidence: Evidence | None, peaks: Sequence[tuple[str, Peak]], language: Language) -> dict[str, str]:
    width, height = study.image.size
    told = [f"{name_label(label, language)} {percent(p, language)}" for label, p in shown_probabilities(evidence).items()]
    slots = {
        "labels": _joined([name_label(label, language) for label in shown_labels(evidence)], language),
        "probabilities": ", ".join(_named(told, language)),
        "width": str(width),
        "height": str(height),
    }
    if peaks:
        label, peak = peaks[0]
        sides = SIDES[language]
        slots |= {"label": name_label(label, language), "side": sides[peak.side], "zone": ZONES[language][peak.zone]}
        slots["image_side"] = sides[_OTHER[peak.side]]
        slots["inside"] = f"{round(100 * (inside_share(evidence) or 0))}%"
    return slots


def _joined(names: Sequence[str], language: Language) -> str:
    *first, last = _named(names, language) or [""]
    return f"{', '.join(first)}{'[과/와]' if language == 'ko' else ' and'} {last}" if first else last


def _named(names: Sequence[str], language: Language) -> list[str]:
    """A few names, and how many more there are."""
    if len(names) <= MOST_NAMED:
        return list(names)
    return [*names[: MOST_NAMED - 1], MORE[language].format(count=len(names) - MOST_NAMED + 1)]
