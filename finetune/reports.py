"""Reports: raw radiology reports to their seven sections, one JSON line each.

Knows the command line and the order of work. Does not know headings, file formats or how a model is asked.

    python -m finetune.reports FOLDER --out reports.jsonl          # MIMIC-CXR notes, Open-i XML, or plain text files
    python -m finetune.reports notes.csv --out reports.jsonl       # columns id,note (and patient)
    python -m finetune.reports FOLDER --out reports.jsonl --translate --base-url http://127.0.0.1:8000 --model NAME

With --translate a language model puts the sections into Korean, and a line's `original` holds them as they were; each of its
answers is kept in OUT.paid.jsonl as it comes. Without it no model is asked and nothing leaves the machine.

A line is {"id", "patient", "sections": {"FINDINGS": ...}}, each section verbatim. What stands in no section (a letterhead,
a signature) is left out: names stand there.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from finetune.asking import add_engine_flags, guarded, log, open_engine, pace_of
from finetune.jsonl import Ledger, claim, write_config, write_objects
from finetune.records import RecordError
from finetune.report_sections import sections
from finetune.report_sources import Report, read_reports
from finetune.translate import translate


def cut(source: Path) -> Iterator[dict[str, Any]]:
    """One object per report of `source`. Raises RecordError, also where no report holds anything."""
    total = empty = unknown = 0
    for report in tqdm(read_reports(source), desc="reports", disable=None, leave=False):
        found = _sections_of(report)
        total += 1
        empty += not report.text.strip()
        unknown += bool(report.text.strip()) and not found
        yield {"id": report.id, "patient": report.patient, "sections": found}
    log.info("%d reports; %d are empty, %d more hold no heading that is known", total, empty, unknown)
    if total == empty:
        raise RecordError(f"{source.name} holds no report: every text is empty. Name a file or folder with text in it.")


def _sections_of(report: Report) -> dict[str, str]:
    return sections(report.text) if report.sections is None else report.sections


def run(args: argparse.Namespace) -> None:
    if not args.input.exists():
        raise RecordError(f"There is no {args.input}. Name a file or folder of reports.")
    with claim(args.out):
        if args.translate:
            _translate(args)
        else:
            write_objects(args.out, cut(args.input))
        asked = vars(args) if args.translate else {}  # an address that was not opened may hold a password
        write_config(args.out, {"command": "reports", **asked, "input": args.input.name})


def _translate(args: argparse.Namespace) -> None:
    engine = open_engine(args.base_url, args.model)
    ledger = Ledger(args.out.with_name(f"{args.out.name}.paid.jsonl"))
    try:
        write_objects(args.out, translate(cut(args.input), engine, ledger, pace_of(args)))
    finally:
        ledger.close()
        engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.reports", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="a folder, an XML file, a CSV or a text file")
    parser.add_argument("--out", type=Path, required=True, help="the JSON lines to write")
    parser.add_argument("--translate", action="store_true", help="into Korean, by a language model")
    add_engine_flags(parser)
    args = parser.parse_args(arguments)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
