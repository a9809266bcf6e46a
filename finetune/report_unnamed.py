"""Findings that no heading announces: the paragraph of a report that states them.

Knows the words of chest films in Korean and English. Does not know headings.
"""

import re

_LINE = re.compile(r"[^\n\r\u2028\x0b\x0c]+")
_ANATOMY = re.compile(
    r"\b(?:lungs?|heart|cardi\w+|mediastin\w*|hil(?:ar|a|um)|pleura\w*|pneumothora\w+|effusions?|consolidations?|osseous|bony|"
    r"chest|radiographs?|opacit\w+|diaphragm\w*|pulmonary|aort\w+|thora\w+|atelectasis|costophrenic|infiltrates?|airspace|nodules?)\b|"
    r"폐|심장|심비대|종격동|흉막|흉수|기흉|횡격막|늑골|대동맥|음영|경화|결절",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"\b(?:is|are|was|were|no|not|normal|clear|within|without|unremarkable|there|stable|unchanged|intact|demonstrates?|shows?|"
    r"seen|noted|has|have|enlarged|remains?)\b|(?:없|있|보[이임]|관찰|정상|깨끗|확인|[음함임됨])",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"\s*(?:evaluat|assess|r/o|rule|please|question|history|status|eval|check|concern|\?|s/p|year|\d+.?(?:year|y/?o|세))|[^.\n]*\?\s*$",
    re.IGNORECASE,
)


def findings_start(text: str, begin: int, stop: int, is_paragraph: bool) -> tuple[int, int] | None:
    """Where the first line that states findings starts, and what it says behind a title like "TWO VIEWS OF THE CHEST:".

    With `is_paragraph` it is not the first line, nor one that goes on.
    """
    previous = ""
    for line in _LINE.finditer(text, begin, stop):
        said = line[0]
        title = re.match(r"\s*[A-Z][A-Z ,&\-/]{3,60}:\s", said)
        told = said[title.end() :] if title else said
        is_new = not is_paragraph or (previous.strip() and (previous.strip().endswith(".") or len(previous) < 60))
        if line.start() == begin and is_paragraph:
            is_new = False
        states = _ANATOMY.search(told) and _STATED.search(told) and not _REQUEST.match(told) and len(told.split()) >= 4
        if is_new and states and told.strip()[:1].isalnum() and not told.strip()[0].islower():
            return line.start(), line.start() + (title.end() if title else 0)
        previous = said
    return None
