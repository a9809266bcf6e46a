"""Reports: raw radiology reports to their seven sections, one JSON line each.

Knows the command line and the order of work. Does not know headings or file formats, nor any model; nothing leaves the machine.

    python -m finetune.reports FOLDER --out reports.jsonl          # MIMIC-CXR notes, Open-i XML, or plain text files
    python -m finetune.reports notes.csv --out reports.jsonl       # columns id,note (and patient)

A line is {"id", "patient", "sections": {"FINDINGS": ...}}, each section verbatim. What stands in no section (a letterhead,
a signature) is left out: names stand there.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from finetune.jsonl import claim, write_config, write_objects
from finetune.records import RecordError
from finetune.report_sections import sections
from finetune.report_sources import Report, read_reports

log = logging.getLogger(__name__)


def cut(source: Path) -> Iterator[dict[str, object]]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.reports", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="a folder, an XML file, a CSV or a text file")
    parser.add_argument("--out", type=Path, required=True, help="the JSON lines to write")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if not args.input.exists():
            raise RecordError(f"There is no {args.input}. Name a file or folder of reports.")
        with claim(args.out):
            write_objects(args.out, cut(args.input))
            write_config(args.out, {"command": "reports", "input": args.input.name})
    except RecordError as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
