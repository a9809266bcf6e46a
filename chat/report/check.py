"""The support check: which sentences of a model the evidence does not carry, and which texts are no report at all.

Knows evidence and the vocabulary of claims in both languages. Does not know engines, sections or files.
It reads words, not meaning: it marks for the person's eye, and what it lets through is not thereby true.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal

from chat.fluency import LEAST_DISTINCT, measure_fluency
from chat.report.rules import inside_share, shown_labels, shown_probabilities, trusted_peaks
from chat.wording import Language
from vision.evidence import Evidence

Mark = Literal["label", "side", "zone", "map", "number", "certain", "treatment"]
Words = dict[Language, re.Pattern[str]]


def _words(ko: str, en: str) -> Words:
    return {"ko": re.compile(ko), "en": re.compile(en, re.IGNORECASE)}


_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|dr|mr|mrs|ms|vs|cf|fig|no|approx|etc)\.$", re.IGNORECASE)
_END = re.compile(r"""[.!?。…]+["'”’)\]]*(?=\s|$)|(?<=[가-힣])\.(?=[가-힣])""")
_HEADING = re.compile(r"^\s*(?:#+ .*|\*\*[^*]+\*\*:?|[^.!?。]{0,30}:)\s*$")
_BULLET = re.compile(r"^\s*(?:[-*•>+=]+|\(?\d{1,2}[.)])\s+")
_EMPHASIS = re.compile(r"\*\*|__|`")

_TAIL = 400
"""Letters at a text's end in which a loop shows; in a longer text even good prose repeats its triples."""
_LEAST_OWN_LETTERS = {"ko": 0.15, "en": 0.7}
"""Korean names its technical terms in Latin letters, and a checkpoint's labels may be long."""
_LONG_ENOUGH = 12
_COMMON = re.compile(
    r"\b(?:the|of|and|is|are|to|this|that|with|for|it|be|by|from|not|should|may|can|was|looks?|there|has|have|an|at|both)\b"
)

_LABELS: dict[str, Words] = {
    "NORMAL": _words(
        r"(?<!비)정상(?! ?크기)|폐야?[가는도] (?:모두 |전체적으로 )?(?:맑|깨끗)|이상 ?(?:소견)?[이은]? ?(?:없|보이지 않)",
        r"\bnormal\b(?! heart| size)|lungs?(?: fields?)? (?:look|appear|are|is) clear|clear lung"
        r"|nothing suspicious|unremarkable",
    ),
    "PNEUMONIA": _words(
        r"폐렴|경화|침윤|뿌옇|뿌연|음영|폐 감염",
        r"pneumonia|consolidation|infiltrat\w+|lung infection|opacit(?:y|ies)|\bhaz(?:e|y|iness)\b",
    ),
}
_CLAUSES = _words(r"[,;:]|(?<=지만)\s|(?<=으나)\s|(?<=며)\s|(?<=고)\s", r"[,;:]|\b(?:but|however|although|while|so|yet)\b")
_SUPPOSED = _words(
    r"인지|는지|을지|이면|다면|라면|경우|비교|견주|놓칠|놓치|가려|가릴|보일 수 있|보이게|할 수 있습|감별|살펴|확인(?:해|하|합)"
    r"|배운|학습|확률|배제|사이|가운데|또는|이나|틀릴|때문에|%",
    r"\b(?:if|whether|unless|compare|check|look (?:again|for)|rul\w+ out|exclud\w+|correlate|can (?:look|make|hide|mimic|be)"
    r"|missed|mistaken|mimics?|learn\w*|taught|train\w+|probabilit\w+|between|or|to confirm)\b|%",
)
_NOT_BEFORE = _words(r"(?!)", r"\b(?:no|not|without|never|neither|nor|free of|absence of|cannot see)\b|n't\b")
_NOT_AFTER = _words(
    r"(?<!틀림)없|아니|아닙|않|드뭅", r"\b(?:is|are|was|were)(?: \w+)? not\b|n't\b|unlikely|\babsent\b|\bnot seen\b"
)
_SIDES: dict[str, Words] = {
    "right": _words(r"오른쪽|우측|우폐|우[상중하]", r"\bright\b"),
    "left": _words(r"왼쪽|좌측|좌폐|좌[상하]엽", r"\bleft\b"),
}
_ZONES: dict[str, Words] = {
    "upper": _words(r"상부|위쪽|윗부분|상엽", r"\b(?:upper|apical|apex)\b"),
    "middle": _words(r"중간|가운데|중엽", r"\b(?:middle|mid)\b"),
    "lower": _words(r"하부|아래쪽|아랫부분|하엽|폐 바닥|기저", r"\b(?:lower|basal|bases?)\b"),
}
_PLACED = _words(
    r"폐|지도|주목|음영|뿌옇|뿌연|정점",
    r"\b(?:lungs?|map|attention|opacit\w+|haz\w+|pneumonia|consolidation|infiltrat\w+|shadow)\b",
)
_MAP = _words(r"지도|주목", r"\b(?:map|attention|attended)\b")
_OF_PICTURE = _words(
    r"(?:영상|사진|화면|이미지|그림)(?:에서는?|의) ?(?:오른쪽|왼쪽)",
    r"(?:right|left)(?:-hand)?(?: side)? of the (?:image|picture|film|screen)|image'?s (?:right|left)",
)
_CERTAIN = _words(
    r"확실(?:히|합|하게|한)|틀림없|확진|분명(?:히|합|한)|명백|진단(?:됩|합|할 수 있)|단정(?:합|할 수 있)|100 ?(?:%|퍼센트)",
    r"\b(?:definite(?:ly)?|certain(?:ly| that)|undoubtedly|without (?:any )?doubt|confirms|confirmed|proves|diagnos(?:ed|tic)"
    r"|the diagnosis is|must be|surely|clearly (?:has|shows) pneumonia)\b|\b100 ?(?:%|per ?cent)",
)
_TREATMENT = _words(
    r"항생제|처방|투여|복용|투약|수술|스테로이드|해열제|입원|치료(?:를 (?:시작|받|권)|가 필요|해야|하세요)",
    r"\b(?:antibiotics?|amoxicillin|prescri\w+|dos(?:e|age)s?|medicat\w+|steroids?|surgery|administer\w*|start treatment"
    r"|treat(?:ed|ment)? (?:with|should|is)|should be (?:treated|given)|should take|recommend\w* treatment)\b|\d ?mg\b",
)
_LEFT_OPEN = _words(
    r"않|아니|아닙|없|못|어렵|전까지|결정|상의|문의|의사가",
    r"\b(?:no|not|cannot|never|should (?:confirm|be confirmed)|until|before|unless|whether|decid\w+|decision|ask)\b|n't\b",
)
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:%|퍼센트|프로|per ?cent)")


def clean(text: str) -> str:
    """Composed letters in lines; without control, format (bidirectional overrides) and unassigned characters."""
    lines = unicodedata.normalize("NFC", text).splitlines()
    kept = ("".join(c if unicodedata.category(c)[0] != "C" else " " * (c == "\t") for c in line) for line in lines)
    return "\n".join(" ".join(line.split()) for line in kept).strip()


def split_sentences(text: str) -> tuple[list[str], str]:
    """The whole sentences of a cleaned text, and what stands behind the last one.

    A line break ends a sentence; list marks, emphasis and headings, which claim nothing, are left out.
    """
    whole, rest = [], ""
    for line in text.split("\n"):
        if rest:
            whole.append(rest)
        rest = ""
        if _HEADING.match(line):
            continue
        *ended, rest = _split_line(_EMPHASIS.sub("", _BULLET.sub("", line)))
        whole += ended
    return [sentence for sentence in whole if any(map(str.isalnum, sentence))], rest


def _split_line(line: str) -> Iterator[str]:
    """The sentences of one line; the last is what has no end yet, maybe nothing."""
    start = 0
    for end in _END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.end()]):
            yield line[start : end.end()].strip()
            start = end.end()
    yield line[start:].strip()


def is_in_language(sentences: Iterable[str], language: Language) -> bool:
    """Whether each sentence is in `language`, by its letters; long English also by its commonest words."""
    told = list(sentences)
    if any(_own_letters(sentence, language) < _LEAST_OWN_LETTERS[language] for sentence in told):
        return False
    text = " ".join(told).lower()
    return language == "ko" or text.count(" ") < _LONG_ENOUGH or len(_COMMON.findall(text)) >= 0.1 * text.count(" ")


def _own_letters(text: str, language: Language) -> float:
    letters = [letter for letter in text if letter.isalpha()]
    own = sum("가" <= letter <= "힣" if language == "ko" else letter.isascii() for letter in letters)
    return own / len(letters) if letters else 0.0


def is_repetitive(sentences: list[str]) -> bool:
    """Whether half of the sentences come back, the text goes round in circles at its end, or letters are broken."""
    found = measure_fluency([" ".join(sentences)[-_TAIL:]], ended=1)
    return 2 * len(set(sentences)) <= len(sentences) or found.distinct_3 < LEAST_DISTINCT or found.broken_letters > 0


def check(sentence: str, evidence: Evidence | None, language: Language) -> tuple[Mark, ...]:
    """What in a sentence contradicts the evidence, or claims more than any evidence here can carry."""
    marks: list[Mark] = ["label"] if _contradicts_label(sentence, evidence, language) else []
    marks += _place_marks(sentence, evidence, language)
    if _has_foreign_number(sentence, evidence):
        marks.append("number")
    claims: tuple[tuple[Mark, Words], ...] = (("certain", _CERTAIN), ("treatment", _TREATMENT))
    for mark, words in claims:
        left = words[language].sub("", sentence)
        if left != sentence and not _LEFT_OPEN[language].search(left):
            marks.append(mark)
    return tuple(marks)


def _contradicts_label(sentence: str, evidence: Evidence | None, language: Language) -> bool:
    probabilities = shown_probabilities(evidence)
    if not probabilities:
        return False
    labels = shown_labels(evidence)
    known = {*probabilities, *labels}
    known |= set(_LABELS) if known & set(_LABELS) else set()
    for clause in _CLAUSES[language].split(sentence):
        if _SUPPOSED[language].search(clause):
            continue
        for label, is_denied in _stances(clause, known, language):
            is_elsewhere = is_denied and any(words[language].search(clause) for words in _SIDES.values())
            if (labels == (label,) and not is_elsewhere) if is_denied else label not in labels:
                return True
    return False


def _stances(clause: str, known: Iterable[str], language: Language) -> Iterator[tuple[str, bool]]:
    """(label, whether it is denied) of each label that a clause names; a "no" belongs to the label that stands nearest."""
    found = sorted((*named.span(), label) for label in known for named in _pattern(label)[language].finditer(clause))
    for number, (start, end, label) in enumerate(found):
        before = clause[found[number - 1][1] if number else 0 : start]
        after = clause[end : found[number + 1][0] if number + 1 < len(found) else None]
        yield label, bool(_NOT_BEFORE[language].search(before) or _NOT_AFTER[language].search(after))


def _pattern(label: str) -> Words:
    words = re.escape(label.replace("_", " "))
    return _LABELS.get(label) or _words(rf"(?i:{words})", rf"\b{words}\b")


def _place_marks(sentence: str, evidence: Evidence | None, language: Language) -> Iterator[Mark]:
    peaks = [peak for _, peak in trusted_peaks(evidence)]
    is_claim = _PLACED[language].search(sentence) and not _SUPPOSED[language].search(sentence)
    if evidence is None or not is_claim or _NOT_BEFORE[language].search(sentence) or _NOT_AFTER[language].search(sentence):
        return
    sides = {side for side, words in _SIDES.items() if words[language].search(sentence)}
    zones = {zone for zone, words in _ZONES.items() if words[language].search(sentence)}
    if _OF_PICTURE[language].search(sentence):
        sides = {"left" if side == "right" else "right" for side in sides}
    if not peaks:
        if _MAP[language].search(sentence) and (sides or zones):
            yield "map"
        return
    if len(sides) == 1 and not sides & {peak.side for peak in peaks}:
        yield "side"
    if len(zones) == 1 and not zones & {peak.zone for peak in peaks}:
        yield "zone"


def _has_foreign_number(sentence: str, evidence: Evidence | None) -> bool:
    """Whether a percentage is none of the probabilities, nor the map's share in the lungs, nor what is left of one, to within
    one point.
    """
    inside = inside_share(evidence)
    shares = [*shown_probabilities(evidence).values(), *([] if inside is None else [inside])]
    known = [share for told in shares for share in (told, 1 - told)]
    told = [float(number.replace(",", ".")) for number in _NUMBER.findall(sentence)]
    return any(all(abs(number - 100 * share) > 1 for share in known) for number in told)
