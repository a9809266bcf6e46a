"""Drill: few questions about few films made into many, so that an answer has to come from the film and not from the words.

Knows records, English phrases and pixels. Does not know models, files of records or what else is taught beside them. Where the
same is asked of films that show it and of films that do not, yes and no are brought near to balance and their wordings are
exchanged; elsewhere they are balanced for each kind of question. A question is put in other words or turned into its opposite,
on copies of the film that differ in turn, cut and tone; and some are asked of a picture that shows nothing, where the answer is
that it cannot be told.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
from PIL import Image, ImageEnhance

from chat.wording import language_of
from finetune.compare import MOST_PIXELS
from finetune.grades import Verdict, verdict_of
from finetune.jsonl import disk_errors
from finetune.oddities import draw_oddity
from finetune.phrasebook import book
from finetune.record_formats import Exchange, Record
from finetune.records import RecordError
from vision.study import StudyError, read_study

MOST_TIMES = 3
"""How much oftener than itself the rarer answer to what is asked, or of its kind, may come."""

BLANK_SHARE = 0.08
LONGEST = 512
"""Longest side of a copy in pixels; the embedded model sees 336."""

_IS = r"(?:is/are|is|are)"
_THERE = re.compile(rf"^{_IS} there (?:evidence of )?(?P<thing>[^?,]+?)(?: present| seen| visible)?\?$", re.IGNORECASE)
_NORMAL = re.compile(rf"^(?!.*\bthere\b)(?P<head>(?:{_IS}|does|do) .+?) (?P<ab>ab)?normal(?P<tail> in size)?\?$", re.IGNORECASE)
_LARGE = re.compile(rf"^(?P<head>{_IS} the (?:heart|cardiac silhouette)) enlarged\?$", re.IGNORECASE)
_OTHER_WORDS = ("Do you see {}?", "Does this film show {}?", "Can {} be seen here?", "Does the chest X-ray show {}?")
_FRAMES = ("In this film: {}", "{} Answer yes or no.", "Please look closely. {}", "Looking at this X-ray: {}")
_OPPOSITE = {"yes": "No.", "no": "Yes."}
_SAME = (
    (r"\W*yes/no\b", ""), (r"cardiomegaly|enlarged heart", "heart enlarged"), (r"cardiac silhouette", "heart"),
    (r"\bx[- ]?ray|\b(?:an?|the|is|are|there|any|this|that|it|in|on|of|for|with|to|does|do|you|can|be|has|have|see|seen|shows?|"
     r"shown|present|visible|visualized|appears?|looks?|evidence|signs?|patient|s|image|film|chest|cxr)\b", ""),
)  # fmt: skip


def opposite(question: str) -> str | None:
    """The question whose answer is yes where this one's is no; None where it has none that is plain."""
    if found := _NORMAL.match(question):
        return f"{found['head']} {'' if found['ab'] else 'ab'}normal{found['tail'] or ''}?"
    if found := _LARGE.match(question):
        return f"{found['head']} normal in size?"
    return None


def topic(question: str) -> tuple[str, ...]:
    """What a question asks for: its words in their order, in the singular, without those that only carry it.

    Two questions of one topic have the same answer on the same film; not all that ask for the same are of one topic.
    """
    text = question.lower()
    for pattern, word in _SAME:
        text = re.sub(pattern, word, text)
    return tuple(w.rstrip("s") if len(w) > 3 else w for w in re.findall(r"\w+", text))


def in_other_words(question: str, rng: Random) -> str:
    """The same question, put another way."""
    if (found := _THERE.match(question)) and rng.random() < 0.7:
        return rng.choice(_OTHER_WORDS).format(found["thing"])
    return rng.choice(_FRAMES).format(question)


def vary(image: Image.Image, rng: Random) -> Image.Image:
    """A film as another day would have it: turned by up to 6 degrees, cut by up to 7 % a side, in other tones. Never mirrored,
    for left and right are asked about.
    """
    changed = image.copy()
    changed.thumbnail((LONGEST, LONGEST))
    width, height = changed.size
    cut = [rng.uniform(0, 0.07) for _ in range(4)]
    box = round(cut[0] * width), round(cut[1] * height), round((1 - cut[2]) * width), round((1 - cut[3]) * height)
    changed = changed.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC).crop(box)
    gamma = rng.uniform(0.8, 1.25)
    changed = changed.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    return ImageEnhance.Contrast(changed).enhance(rng.uniform(0.8, 1.2))


def drill(
    records: Sequence[Record], source: Path, folder: Path, copies: int, seed: int, all_taught: bool = False
) -> Iterator[Record]:
    """The training part of `records` (images lie beside `source`), or all, `copies` times, and the rest as it is.

    A closed question whose words alone give the answer, since no film of the other answer is asked about it, is not copied but
    for the balance of its kind. Images go to `folder`; paths are seen from the folder above it. Raises RecordError for an image
    that cannot be read.
    """
    taught = [record for record in records if all_taught or record.split == "train"]
    group_of, asked = _groups(taught), dict[tuple[object, Verdict | None], list[str]]()
    for record in taught:
        asked.setdefault((group_of[record.id], verdict_of(record.turns[-1].answer)), []).append(record.turns[-1].question)
    for record in records:
        if not record.image:
            yield record
            continue
        path = source / record.image
        yield replace(record, image=Path(os.path.relpath(path, folder.parent)).as_posix())
        if record.id not in group_of:
            continue
        rng, verdict, group = Random(f"{seed}:{record.id}"), verdict_of(record.turns[-1].answer), group_of[record.id]
        others = asked.get((group, "no" if verdict == "yes" else "yes"), []) if verdict else []
        share = min(MOST_TIMES, max(1.0, len(others) / len(asked[group, verdict])))
        is_decided = isinstance(group, tuple)
        for number in range(1, round((copies if is_decided or not verdict else 1) * share)):
            again = _again(record, number, rng, others if is_decided else ())
            yield replace(again, image=_copy(path, folder, 1 + number % copies, seed))
        if verdict and rng.random() < BLANK_SHARE * copies:
            yield _blank(record, folder, Random(f"{seed}:{record.id}:blank"))


def _groups(taught: Sequence[Record]) -> dict[str, tuple[str, ...] | str]:
    """Of each record its topic where that is answered with yes and with no, so that the film decides; else its kind."""
    topics = {record.id: topic(record.turns[-1].question) for record in taught}
    sides = {(topics[record.id], verdict_of(record.turns[-1].answer)) for record in taught}
    return {r.id: of if (of := topics[r.id]) and {(of, "yes"), (of, "no")} <= sides else r.kind for r in taught}


def _again(record: Record, number: int, rng: Random, others: Sequence[str]) -> Record:
    """The record's `number`th copy: its last question as it is, in other words, or turned around.

    `others` are questions for the same that another film answers the other way: words that fit both give nothing away.
    """
    *before, last = record.turns
    verdict, turned = verdict_of(last.answer), opposite(last.question)
    if verdict and record.language != "ko" and last.answer.strip(" .").lower() == verdict:
        if others and rng.random() < 0.5:
            last = Exchange(rng.choice(others), last.answer)
        elif turned and number % 2:
            last = Exchange(turned, _OPPOSITE[verdict])
        elif rng.random() < 0.5:
            last = Exchange(in_other_words(last.question, rng), last.answer)
    return replace(record, id=f"{record.id}-{number}", turns=(*before, last))


def _copy(path: Path, folder: Path, number: int, seed: int) -> str:
    """The name of a varied copy of an image, which is made when it is not there yet."""
    name = f"{path.stem}-{crc32(str(path).encode()):08x}-{number}.png"
    if not (folder / name).exists():
        try:
            image = read_study(path.read_bytes(), MOST_PIXELS).image
        except (OSError, StudyError) as error:
            raise RecordError(f"{path.name} cannot be read as an image ({error}). Mend it, or remove its records.") from error
        _save(vary(image, Random(f"{seed}:{path.name}:{number}")), folder / name)
    return f"{folder.name}/{name}"


def _blank(record: Record, folder: Path, rng: Random) -> Record:
    """The record's question about a picture that shows no film: one shade of grey, or some oddity."""
    draw, name = np.random.default_rng(rng.getrandbits(63)), f"blank-{record.id}.png"
    size = (rng.randint(200, 500), rng.randint(200, 500))
    picture = Image.new("RGB", size, (rng.randrange(256),) * 3) if rng.random() < 0.6 else draw_oddity(draw)
    _save(picture, folder / name)
    said = Exchange(record.turns[-1].question, book("oddity", language_of(record.turns[-1].question)).say("medical", draw))
    return replace(record, id=f"{record.id}-blank", turns=(said,), image=f"{folder.name}/{name}", kind="blank")


def _save(image: Image.Image, path: Path) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
