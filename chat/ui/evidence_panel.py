"""The evidence panel: what vision vouches for about the image on a desk, what it refused, and what the model is told of it.

Knows desks, evidence and words. Does not know components or events; what is text is set as text by the page's script.
"""

from typing import Any

from chat.assistant import Assistant
from chat.report.rules import name_label, percent
from chat.ui.desk import Desk
from chat.ui.words import WORDS, word, words
from chat.wording import Language, evidence_lines, language_of
from vision.evidence import LUNGS, Evidence, Finding, Region
from vision.overlay import colour_of

Value = dict[str, Any]


def evidence(desk: Desk, assistant: Assistant) -> Value:
    """The panel: nothing without a classifier, one quiet line for what is no film."""
    found, language = desk.evidence, desk.language
    if found is None:
        return {"words": words(language), "state": "none"}
    if not found.is_in_domain:
        quiet = word("not_a_radiograph", language, why=_why(found.reason, language))
        return {"words": words(language), "state": "refused", "quiet": quiet}
    named = [name_label(label, language) for label in found.labels]
    kind = ("label_none", "label_one", "label_several")[min(2, len(named))]
    likeliest = sorted(found.probabilities.items(), key=lambda pair: -pair[1])
    told = evidence_lines(desk.told_evidence, _spoken(desk)) if desk.told_evidence and desk.told else []
    is_outside = "outside_population" in found.notes
    return {
        "words": words(language),
        "state": "withheld" if is_outside else "film",
        "verdict": word(kind, language, label="".join(named[:1])),
        "bars": [
            {"label": name_label(label, language), "share": p, "told": percent(p, language), "is_in": label in found.labels}
            for label, p in likeliest
        ],
        "note": word("outside_population", language, why=_why(found.reason, language)) if is_outside else "",
        "told": told,
        "told_in": _spoken(desk),
        "switches": _switches(desk, found, assistant),
    }


def map_value(desk: Desk) -> Value | None:
    """The map as the stage lays it over the image; None where there is none."""
    finding, language = mapped(desk.evidence), desk.language
    if finding is None or desk.evidence is None or desk.shown.layers is None:
        return None
    is_shown = finding.trusted or "map_untrusted" in desk.evidence.notes
    why = _why(finding.doubt, language, label=name_label(finding.label, language))
    return {
        "heat": desk.shown.layers.heat,
        "contour": desk.shown.layers.contour,
        "is_trusted": finding.trusted,
        "is_shown": is_shown,
        "note": word("map_meaning" if finding.trusted else "map_untrusted" if is_shown else "map_unused", language, why=why),
    }


def masks_value(desk: Desk) -> Value | None:
    """The masks' outlines with their legend, or why a film has none; None where there is nothing to say."""
    found, language = desk.evidence, desk.language
    if found is None or not found.is_in_domain or not (found.regions or found.mask_reason):
        return None
    labels = list(dict.fromkeys(region.mask.label for region in found.regions))
    told = {label: WORDS[language].get(f"mask_{label}", label) for label in labels}
    is_lungs = set(labels) == set(LUNGS)
    name = word("masks_lungs", language) if is_lungs else word("masks", language, labels=", ".join(told.values()))
    why = word("masks_refused", language, why=_why(found.mask_reason, language)) if found.mask_reason else ""
    legend = [
        {"label": told[label], "colour": "rgb({} {} {})".format(*colour_of(labels, label)), "told": _area(region, language)}
        for label, region in ((region.mask.label, region) for region in found.regions)
    ]
    return {"outline": desk.shown.outline, "label": name, "legend": legend, "note": why}


def _area(region: Region, language: Language) -> str:
    """A share of the picture, and square centimetres where the file says how large a pixel is."""
    known = [] if region.area_cm2 is None else [f"{region.area_cm2:,.0f} cm²"]
    return " · ".join([word("mask_area", language, percent=f"{100 * region.share:.0f}"), *known])


def mapped(found: Evidence | None) -> Finding | None:
    """The finding whose map the page shows: the one that is pointed at, or the first that has one.

    None outside the population: there the classifier has no say.
    """
    if found is None or "outside_population" in found.notes:
        return None
    return found.pointer or next((finding for finding in found.findings if finding.heatmap), None)


def _why(reason: str | None, language: Language, **fields: str) -> str:
    key = f"reason_{reason}"
    return word(key if key in WORDS[language] else "reason", language, **fields)


def _switches(desk: Desk, found: Evidence, assistant: Assistant) -> list[Value]:
    """What a person may keep from the model, as far as there is anything of it."""
    language, pointer = desk.language, found.pointer
    if "outside_population" in found.notes:
        return []
    items = {"labels": True, "map": pointer or "map_untrusted" in found.notes, "overlay": pointer}
    can_show = "map" in desk.told and assistant.engine.limits.max_images > 1
    is_on = {"labels": "labels" in desk.told, "map": "map" in desk.told, "overlay": desk.tells_overlay and can_show}
    alone = word("tell_overlay_alone", language) if assistant.engine.limits.max_images == 1 else ""
    return [
        {"item": item, "label": word(f"tell_{item}", language), "is_on": is_on[item]}
        | ({"is_off_limits": not can_show, "why": alone} if item == "overlay" else {})
        for item, is_there in items.items()
        if is_there
    ]


def _spoken(desk: Desk) -> Language:
    """The conversation's language: the last question's, else the page's."""
    return language_of(desk.exchanges[-1].question, desk.language) if desk.exchanges else desk.language
