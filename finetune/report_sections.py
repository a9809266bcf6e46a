"""Sections of a report: where each begins and ends, in text as ragged as it comes.

Knows one report's text. Does not know files, models or where reports come from.
A phrase counts as a heading by what it says (`report_headings`) and by where it stands: at the head of a line, in capitals,
behind the end of a sentence. What a sentence says in passing ("there are no findings: ...") cuts nothing.
"""

import re
from dataclasses import dataclass

from finetune.report_headings import SECTIONS, SELDOM, section_of
from finetune.report_unnamed import findings_start


@dataclass(frozen=True)
class Segment:
    """A stretch of the report; `section` None is what belongs to none: a letterhead, a signature."""

    section: str | None
    heading: str
    body: str


@dataclass(frozen=True)
class _Heading:
    start: int
    end: int
    section: str | None


_LETTERHEADS = {"FINAL REPORT", "PRELIMINARY REPORT", "RADIOLOGY REPORT", "판독 보고서", "판독지"}
_PAIR = {"HISTORY", "INDICATION"}
_MOST_LETTERS = 70
_FULL_LINE = 45
_RANK = dict(zip(SECTIONS, (0, 0, 0, 0, 0, 1, 2), strict=True))
_DECORATION = (
    r"(?:[ \t>*#=~\-–—■□●○◆◇▶▷※•☞\[\(<【「《{\"']|_{1,2}(?=[^\W_])|</?[a-z]{1,4}>|\(?\d{1,2}[.)](?!\d)|[IVX]{1,4}\.|[가-하]\.)*"
)
_LINE = re.compile(r"[^\n\r\u2028\x0b\x0c]+")
_HEAD = re.compile(rf"(?P<before>{_DECORATION})(?P<phrase>[^\W\d_](?:[^:：;=|\n\t\]】」》}}>]){{1,{_MOST_LETTERS}}})")
_CLOSE = re.compile(r"[\]\)】」》}>*#\"']*(?:</[a-z]{1,4}>)?")
_SEPARATOR = re.compile(
    r"[ \t]*(?:[\]\)】」》}>*#\"'_]|</[a-z]{1,4}>)*[ \t]*(?:[:：;=|]+[-–—>]*|[-–—>]+(?=\s|$)|\)(?=\s|$))(?:\*\*|</[a-z]{1,4}>)?"
)
_MARKED = re.compile(r"(?:\[|【|<|《|「|\*\*)([^\W\d_][^\[\]<>\n*:：]{1,40})(?:\]|】|>|》|」|\*\*)(?![ \t]*[:：])")
_MARK = re.compile(r"(\W*(?:\d+\W+)?).*", re.DOTALL)
_COLON = re.compile(r"[:：]")
_TO_COLON = re.compile(r"[ \t]*(?:\([^()\n]*\))?[ \t\])*]*[:：]")
_WORDS = re.compile(r"[^\s:：.;!?]+")
_SHOUT = re.compile(r"(?<![\w-])[A-Z]{2,}(?:[ /&(),]+[A-Z]{2,}\)?){0,4}(?![\w-])")
_BOUNDARY = re.compile(r"(?:[.!?;:。)\]}|\t*/]|_{2,}|\bX{3,}|다|음|함|임|됨|\s{2,})[\"']?\s*$|^\s*$")
_OPENER = re.compile(
    r"\s*(?:the|there|no|none|lungs?|heart|cardiac|normal|clear|stable|unremarkable|pa|ap|two|one|single|frontal|portable|"
    r"cardiomediastinal|mediastinal|interval|mild|not|both|low|small|chest|unchanged|left|right|bilateral)\b|\s*[\d(\-•*]",
    re.IGNORECASE,
)
_KOREAN_CORE = re.compile(
    r"[ \t]*(검사명|병력|적응증|검사 ?방법|소견|판독 ?소견|결론|비교)"
    r"(?=(?<=비교)[ \t]+없음[ \t.]*$|[ \t]+(?!상 |없|있|보[이임였]|및|등|으로|에 |을 |를 |이 |은 |는 |검사|영상))"
)
_IN_PASSING = re.compile(
    r"(?:^|\W)(?:no|not?|the|th(?:is|ese|ose)|any|other|an?|additional|incidental|associated|significant|important|acute|abnormal|"
    r"normal|major|minor|key|main|following|above|below|prior|previous|with|of|for|in|on|to|from|and|or|by|as|per|our|my|his|her|"
    r"their|its|new|similar|positive|negative|secondary|chronic|unexpected|critical|emergent|initial|first|second|is|are|"
    r"was|were|limited|technical|medical|specific|common|typical|ancillary|several|some|all|more|most|these|physical|exam|"
    r"특이|이전|다른|기타|추가|동반|주요|위|상기|아래|이상|병적|의미|유의|전체|각|여러|해당|동일|이런|그런|주된|\S*[의한는은된적인할])\s*$",
    re.IGNORECASE,
)
_DETERMINER = re.compile(
    r"(?:^|\W)(?:no|the|th(?:is|ese|ose)|any|other|additional|an?|of|for|with|in|to|or|and)\s*$", re.IGNORECASE
)
_NO_SECTION = re.compile(
    r"[ \t]*(?:NOTIFICATION|WET[ -]?READ|(?:electronically |digitally )?(?:signed|approved|verified)(?: by| on|:)|"
    r"dictated (?:by|on)|"
    r"transcri(?:bed|ptionist)|reported by|read by|(?:attending|interpreting|reporting|reading) (?:radiologist|physician)|"
    r"radiologist:|cc:|(?:판독|담당|확인|전문)\s?(?:의사?|자|일자?|일시|전문의)\s*[:：]|서명\s*[:：]|"
    r"영상의학과\s*(?:전문의|전공의)\s*[:：]?)",
    re.IGNORECASE,
)


def segments(text: str) -> tuple[Segment, ...]:
    """The report cut into stretches that, joined, are the text again, character by character."""
    found = _with_unnamed_findings(text, _accepted(text))
    first = found[0].start if found else len(text)
    parts = [Segment(None, "", text[:first])] if first else []
    for heading, following in zip(found, [*found[1:], None], strict=False):
        until = following.start if following else len(text)
        parts.append(Segment(heading.section, text[heading.start : heading.end], text[heading.end : until]))
    return tuple(parts)


def sections(text: str) -> dict[str, str]:
    """The seven sections that the report has, verbatim but for white space around them; one told twice is joined by a line."""
    found: dict[str, list[str]] = {}
    for segment in segments(text):
        if segment.section and (body := segment.body.strip()):
            found.setdefault(segment.section, []).append(body)
    return {name: "\n".join(found[name]) for name in SECTIONS if name in found}


class _Found:
    """The headings so far, and what they tell about those to come; kept as they come, for a text may hold a million."""

    def __init__(self, text: str) -> None:
        letters = re.findall(r"[A-Za-z]", text[:20_000])
        self.text = text
        self.shouts = sum(map(str.isupper, letters)) > 0.9 * len(letters)
        self.headings: list[_Heading] = []
        self.seen: set[str | None] = set()
        self._is_small: bool | None = None

    @property
    def last(self) -> _Heading | None:
        return self.headings[-1] if self.headings else None

    @property
    def is_small(self) -> bool:
        """Whether the first heading is in small letters, all are in Hangul, or the whole text is in capitals."""
        return self.shouts or (bool(self.seen - {None}) and self._is_small is not False)

    def add(self, heading: _Heading) -> None:
        named = self.text[heading.start : heading.end]
        if heading.section and self._is_small is None and re.search("[A-Za-z]", named):
            self._is_small = named.islower()
        self.seen.add(heading.section)
        self.headings.append(heading)


def _accepted(text: str) -> list[_Heading]:
    found = _Found(text)
    previous = ""
    for line in _LINE.finditer(text):
        end = line.start()
        heading = _at_head(text, line, previous, found)
        if heading and not _is_item(text, heading, found.last):
            found.add(heading)
            end = heading.end
        _look_inside(text, end, line.span(), found)
        previous = line[0] if line[0].strip() else previous
    return found.headings


def _is_item(text: str, heading: _Heading, last: _Heading | None) -> bool:
    """Whether it is an item of a list in the section above (`- 비교: 변화 없음`), not the next section."""
    if last is None or heading.section is None or last.section not in ("FINDINGS", "IMPRESSION"):
        return False
    marks = [re.sub(r"\d+", "1", _MARK.sub(r"\1", text[each.start : each.end], count=1)).strip() for each in (heading, last)]
    return marks[0] not in ("", marks[1]) and not _rises(last, heading.section)


def _at_head(text: str, line: re.Match[str], previous: str, found: _Found) -> _Heading | None:
    """The heading that a line begins with: with a separator, alone on its line, or in capitals before other text."""
    start, stop = line.span()
    if _NO_SECTION.match(line[0]):
        return _Heading(start, start, None)
    if line[0].strip(" \t\r*_=-").upper() in _LETTERHEADS:
        return _Heading(start, stop, None)
    match = _HEAD.match(text, start, stop)
    if not match:
        return None
    phrase, is_marked = match["phrase"], bool(re.search(r"[\[<【「《#*]", match["before"]))
    dashed = re.search(r"\s[-–—]+(?:\s|$)|[-–—]+\s|[-–—]+$", phrase)
    closed = phrase.partition(")")[0] if "(" not in phrase and ")" in phrase else None
    for candidate in filter(None, (phrase, dashed and phrase[: dashed.start()], closed)):
        stripped = candidate.rstrip(" \t.*#)\"'_") + (")" if "(" in candidate and candidate.rstrip().endswith(")") else "")
        section = section_of(stripped, lenient=True)
        if not section:
            continue
        end = match.start("phrase") + len(stripped)
        if separator := _SEPARATOR.match(text, end, stop):
            is_cut_off = stripped.islower() and _goes_on(text, start, previous, found.is_small)
            return None if is_cut_off else _Heading(start, separator.end(), section)
        rest = _CLOSE.sub("", text[end:stop].strip(), count=1).strip(" ._")
        if is_marked and _CLOSE.match(text, end, stop)[0] and not rest.startswith("**"):  # type: ignore[index]
            return _Heading(start, _CLOSE.match(text, end, stop).end(), section)  # type: ignore[union-attr]
        if not rest and (found.is_small or stripped.lower() not in SELDOM or not stripped.islower()):
            is_heading = not stripped.islower() or (
                not _goes_on(text, start, previous, found.is_small) and not text[end:stop].strip()
            )
            return _Heading(start, stop, section) if is_heading else None
    return _without_separator(text, start, stop, match, found)


def _goes_on(text: str, start: int, previous: str, is_small: bool) -> bool:
    """Whether the line is the rest of the sentence above it: one that breaks off in passing, or a full one without an end."""
    if text[max(0, start - 2) : start].count("\n") > 1 or re.search(r"[.:!?;)\]_다음함]\s*$", previous):
        return False
    return bool(_IN_PASSING.search(previous)) or (len(previous.strip()) > _FULL_LINE and not is_small)


def _without_separator(text: str, start: int, stop: int, match: re.Match[str], found: _Found) -> _Heading | None:
    """`FINDINGS The lungs are clear.`, and `소견 양측 폐야는 깨끗합니다.`"""
    shouts = found.shouts
    if korean := _KOREAN_CORE.match(text, match.start("phrase"), stop):
        return _Heading(start, korean.end(), section_of(korean[1]))
    words = list(_WORDS.finditer(text, match.start("phrase"), min(stop, match.start("phrase") + _MOST_LETTERS)))[:6]
    for last in range(len(words) - 1, -1, -1):
        phrase, rest = text[words[0].start() : words[last].end()], text[words[last].end() : stop]
        section = section_of(phrase, lenient=phrase.isupper() and not shouts)
        if not section or not rest.strip(" .") or phrase.lower() in SELDOM:
            continue
        is_capital = phrase.isupper() and not shouts and not re.match(r"\s*(?:[a-z]|[A-Z]{2,}[ :](?<!XXXX ))", rest)
        is_title = not phrase.islower() and (_OPENER.match(rest) and not re.match(r"\s+[a-z]", rest))
        if is_capital or (is_title and (not shouts or _OPENER.match(rest))):
            return _Heading(start, words[last].end() + (1 if rest.startswith(".") else 0), section)
    return None


def _look_inside(text: str, begin: int, line: tuple[int, int], found: _Found) -> None:
    """Add the headings within a line: before a colon, or in capitals amid small letters."""
    decoration = re.compile(_DECORATION).match(text, *line)
    head = decoration.end() if decoration else line[0]
    places = [(colon.start(), True) for colon in _COLON.finditer(text, begin, line[1])]
    if not found.shouts:
        shouted = [shout.end() for shout in _SHOUT.finditer(text, begin, line[1])]
        places += [(end, False) for end in shouted if not _TO_COLON.match(text, end)]
    marked = {match.end(): match for match in _MARKED.finditer(text, begin, line[1])}
    for place, has_colon in sorted([*places, *((end, False) for end in marked)]):
        if (mark := marked.get(place)) and (section := section_of(mark[1])) and place > begin:
            begin = place
            found.add(_Heading(mark.start(), place, section))
            continue
        named = _behind(text, begin, place, has_colon) if place >= begin else None
        if named is None or named[0] == head:  # the line's own heading is judged elsewhere
            continue
        where, section = named
        phrase, before, last = text[where:place].strip(), text[max(begin, where - 40) : where], found.last
        follows = last is not None and where - last.end < 40 and not text[last.end : where].strip()
        if follows and last and (last.section == section or ({last.section, section} == _PAIR and not phrase.isupper())):
            continue  # MIMIC-CXR's own "INDICATION: History: ..." is one section
        is_next = found.is_small and has_colon and section not in found.seen and _rises(last, section)
        starts_line = begin == line[0] and (not phrase.isascii() or text[begin:where].isupper())
        # At a line's head "심장비대 소견:" or "TWO VIEWS:" is one phrase, and "비교: 없음 소견:" is two.
        rises = _rises(last, section) or phrase.isupper() or (phrase.isascii() and not phrase.islower())
        counts = rises and not (starts_line and not _BOUNDARY.search(before))
        counts = counts and _counts(phrase, section, before, has_colon, found.shouts, follows)
        if counts or (is_next and not _passes(before, section)):
            begin = place + 1 if has_colon or text[place : place + 1] == "." else place
            found.add(_Heading(where, begin, section))


def _passes(before: str, section: str) -> bool:
    """Whether the words before a heading make it a part of their sentence; "normal impression" is two sections run together."""
    return bool((_DETERMINER if section == "IMPRESSION" else _IN_PASSING).search(before))


def _behind(text: str, begin: int, place: int, has_colon: bool) -> tuple[int, str] | None:
    """Where the longest heading starts that ends at `place`, and its section."""
    words = list(_WORDS.finditer(text[max(begin, place - _MOST_LETTERS) : place]))[-6:]
    offset = max(begin, place - _MOST_LETTERS)
    for word in words:
        where = offset + word.start()
        opened = re.match(r"[\[(<【「《*#\"']*", text[where:place])
        clean = text[where + len(opened[0] if opened else "") : place].rstrip(" ])>】」》*\"'")
        if where > begin and text[where - 1].isalnum():
            continue
        first, final = clean.split(" ")[0], clean.split(" ")[-1]
        if first.lower() in ("the", "this", "a", "an") or re.search("X{3}", clean) or (final.isupper() and not clean.isupper()):
            continue
        is_plain = clean.count(" ") < 3 and not re.search("[,.;]", clean) and not _IN_PASSING.fullmatch(first)
        is_lenient = is_plain and (clean.isupper() or has_colon)
        if section := section_of(clean, lenient=is_lenient):
            return where, section
    return None


def _counts(phrase: str, section: str, before: str, has_colon: bool, shouts: bool, follows: bool) -> bool:
    """Whether a known phrase within a line is a heading there."""
    at_boundary = bool(_BOUNDARY.search(before)) or follows
    if not has_colon:
        return phrase.isupper() and at_boundary and phrase.lower() not in SELDOM
    if phrase.islower() or shouts or phrase.lower() in SELDOM:
        capital = phrase.isupper() and not shouts and not _DETERMINER.search(before)
        return capital or (at_boundary and (phrase.lower() not in SELDOM or not phrase.islower()))
    word = (before.split() or [""])[-1]
    is_alike = word.isupper() == phrase.isupper() and not word.islower()
    passes = _passes(before, section) if is_alike or not phrase.isascii() else bool(_DETERMINER.search(before))
    return at_boundary or not passes


def _rises(last: _Heading | None, section: str) -> bool:
    return last is None or last.section is None or _RANK[section] >= _RANK[last.section]


def _with_unnamed_findings(text: str, found: list[_Heading]) -> list[_Heading]:
    """Give a paragraph that states findings its own start, where no heading of the report announces them."""
    if any(heading.section == "FINDINGS" for heading in found):
        return found
    bounds = [0, *(heading.end for heading in found)]
    stops = [*(heading.start for heading in found), len(text)]
    names = ["" if heading.start < heading.end else None for heading in found]  # "" is a letterhead, None a signature
    names = ["", *(heading.section or name for heading, name in zip(found, names, strict=True))]
    for place, (begin, stop, name) in enumerate(zip(bounds, stops, names, strict=True)):
        if name == "IMPRESSION" or stop - begin < 15 or name is None:
            continue
        if bounds_of := findings_start(text, begin, stop, is_paragraph=name != ""):
            return [*found[:place], _Heading(*bounds_of, "FINDINGS"), *found[place:]]
    return found
