"""Tables: CSV files of prompts, answers and scores, read with file, line and column in every complaint, written whole.

Knows CSV. Does not know what a column means.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from finetune.jsonl import write_text
from finetune.records import RecordError
from finetune.report_sources import decode

Row = dict[str, str]


def read_table(path: Path, needed: Sequence[str]) -> tuple[list[str], list[Row]]:
    """The columns and rows of a CSV that has all of `needed`, filled in on every line. Raises RecordError."""
    csv.field_size_limit(sys.maxsize)
    lines = csv.reader(io.StringIO(decode(path), newline=""), strict=True)
    columns, rows = list[str](), list[Row]()
    try:
        columns = [name.strip() for name in next(lines, [])]
        if missing := [name for name in needed if name not in columns]:
            told = ", ".join(columns)[:200] or "none"
            raise RecordError(
                f"{path.name}, line 1: it needs the columns {', '.join(needed)}; {missing[0]} is not among {told}."
            )
        if len(set(columns)) < len(columns):
            raise RecordError(f"{path.name}, line 1: two columns share a name. Rename one.")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise RecordError(
                    f"{path.name}, line {lines.line_num}: it has {len(cells)} columns, not {len(columns)}. Mend the line."
                )
            row = dict(zip(columns, cells, strict=True))
            if empty := [name for name in needed if not row[name].strip()]:
                raise RecordError(
                    f"{path.name}, line {lines.line_num}, column {empty[0]}: it is empty. Fill it in, or remove the line."
                )
            rows.append(row)
    except csv.Error as error:
        raise RecordError(f"{path.name}, line {lines.line_num}: this is not CSV ({error}). Mend the line.") from error
    if not rows:
        raise RecordError(f"{path.name} has no lines below its first. Name a table with some.")
    return columns, rows


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write all rows or none, in UTF-8, without the NULs that a model may say and no reader takes.

    Raises RecordError for a full disk.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")  # of RFC 4180: then a cell with either is quoted
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, [text.getvalue().replace("\0", "").encode("utf-8", "replace").decode().rstrip("\r\n")])
