"""How well sections are found: F1 on Open-i reports flattened and made ragged, and on reports written by hand.

    python -m benchmarks.reports --openi FOLDER [--hand FILE] [--seeds 5] [--json OUT] [--worst 10]

Truth of the first is the tags of Open-i's XML, whose text a seeded mangler lays out as hospitals do; of the second, marks in
the file: a pilcrow before a heading, a letter in guillemets before its text. Precision and recall count words of each section.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.machine import describe
from finetune.report_sections import sections
from finetune.report_sources import read_reports

LETTERS = dict(
    zip("EHITCFM", ("EXAMINATION", "HISTORY", "INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS", "IMPRESSION"), strict=True)
)
Case = tuple[str, dict[str, str]]

_OTHER_NAMES = {
    "INDICATION": ("REASON FOR EXAM", "CLINICAL INDICATION", "INDICATIONS", "적응증", "검사 사유"),
    "COMPARISON": ("COMPARISONS", "PRIOR STUDIES", "비교", "비교 검사"),
    "FINDINGS": ("FINDING", "RADIOGRAPHIC FINDINGS", "소견", "판독 소견"),
    "IMPRESSION": ("CONCLUSION", "IMPRESSIONS", "OPINION", "결론", "판독 결론"),
}
_LAYOUTS = (
    "{h}: {t}",
    "{h}:\n{t}",
    "{h}\n{t}",
    " {h}:  {t}",
    "{h} : {t}",
    "{h}; {t}",
    "{h} - {t}",
    "**{h}:** {t}",
    "[{h}]\n{t}",
    "{h}:{t}",
)
_DECOYS = ("There are no other findings: none at all.", "For comparison: see above.", "no significant findings: as stated.")
_KOREAN_DECOY = "특이 소견: 없음."


def mangle(parts: dict[str, str], rng: random.Random) -> Case:
    """One report of these sections laid out raggedly, and what is to be found in it."""
    layout, case = rng.choice(_LAYOUTS), rng.choice((str.upper, str.upper, str.title, str.lower))
    is_flat = ":" in layout and "\n" not in layout and "*" not in layout and rng.random() < 0.35
    text, truth = rng.choice(("", "", "FINAL REPORT\n", "Patient: ___  MRN: [** **]\n\n")), {}
    for number, (name, body) in enumerate(parts.items(), 1):
        heading = rng.choice(_OTHER_NAMES[name]) if rng.random() < 0.3 else name
        if heading.isascii() and len(heading) > 7 and rng.random() < 0.15:
            heading = _slip(heading, rng)
        if name == "FINDINGS" and rng.random() < 0.2:
            body += " " + (_KOREAN_DECOY if rng.random() < 0.2 else rng.choice(_DECOYS))
        body = _wrap(body, rng) if not is_flat and rng.random() < 0.3 else body
        mark = f"{number}. " if not is_flat and layout[0] == "{" and rng.random() < 0.05 else ""
        text += mark + layout.format(h=case(heading), t=body) + (" " if is_flat else rng.choice(("\n", "\n\n")))
        truth[name] = body
    return text, truth


def _slip(word: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(word) - 2)
    return rng.choice((word[:place] + word[place + 1 :], word[:place] + word[place + 1] + word[place] + word[place + 2 :]))


def _wrap(text: str, rng: random.Random) -> str:
    width = rng.choice((60, 72, 80))
    return re.sub(rf"(.{{1,{width}}})(?: |$)", r"\1\n", text).rstrip("\n")


def by_hand(file: Path) -> list[Case]:
    """The marked reports of a file, `=====` between them."""
    found = []
    for report in re.split(r"^=====\n", file.read_text("utf-8"), flags=re.MULTILINE):
        truth: dict[str, str] = {}
        for part in report.split("¶")[1:]:
            match = re.search(r"«(\w)»(.*)", part, re.DOTALL)
            if match and (body := _without_mark(match[2])):
                name = LETTERS[match[1]]
                truth[name] = f"{truth[name]}\n{body}" if name in truth else body
        found.append((re.sub(r"¶|«\w»", "", report), truth))
    return found


def _without_mark(text: str) -> str:
    """A section's text without the decoration of the heading that follows it, and without signatures."""
    text = re.sub(r"\n(?:Electronically|판독의|Dictated|Signed).*", "", text, flags=re.DOTALL)
    return re.sub(r"\n(?:\d\. |[\[#■<*>]+ ?)$", "", text).strip()


def score(cases: Iterable[Case]) -> dict[str, object]:
    """Word-level F1 over all sections and reports (micro), per section, and the share of reports found exactly."""
    hit, told, true = Counter[str](), Counter[str](), Counter[str]()
    exact = total = 0
    for text, truth in cases:
        found = sections(text)
        for name in {*truth, *found}:
            one, other = Counter(found.get(name, "").split()), Counter(truth.get(name, "").split())
            hit[name] += (one & other).total()
            told[name] += one.total()
            true[name] += other.total()
        exact += {name: body.split() for name, body in found.items()} == {n: b.split() for n, b in truth.items()}
        total += 1
    each = {name: round(2 * hit[name] / (told[name] + true[name]), 4) for name in sorted(true | told)}
    f1 = 2 * hit.total() / (told.total() + true.total())
    return {"reports": total, "f1": round(f1, 4), "exact": round(exact / total, 4), "f1_of": each}


def openi_cases(folder: Path, seeds: int) -> list[Case]:
    parts = [report.sections for report in read_reports(folder) if report.sections]
    return [mangle(each, random.Random(f"{seed}:{index}")) for seed in range(seeds) for index, each in enumerate(parts)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openi", type=Path, help="folder of Open-i XML")
    parser.add_argument("--hand", type=Path, default=Path("tests/hand_reports.txt"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worst", type=int, default=0, help="print this many reports that were not found exactly")
    args = parser.parse_args(arguments)
    hand = by_hand(args.hand)
    sets = {"hand": hand, "hand, first half": hand[: len(hand) // 2], "hand, held out": hand[len(hand) // 2 :]}
    if args.openi:
        sets["openi"] = openi_cases(args.openi, args.seeds)
    result: dict[str, object] = {"machine": describe(), **{name: score(cases) for name, cases in sets.items()}}
    print(json.dumps(result, indent=2, ensure_ascii=False))
    wrong = [
        (t, truth, found) for cases in (sets.get("openi", []), hand) for t, truth in cases if (found := sections(t)) != truth
    ]
    for text, truth, found in wrong[: args.worst]:
        print("-" * 80, text, f"TRUTH {truth}", f"FOUND {found}", sep="\n")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
