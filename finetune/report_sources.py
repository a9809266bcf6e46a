"""Sources of reports: a MIMIC-CXR notes folder, Open-i XML, a CSV of `id,note`, plain text; one report at a time.

Knows files and encodings. Does not know what a heading is, but for the labels that Open-i's XML already holds.
"""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from finetune.records import RecordError

_ENCODINGS = ("utf-8-sig", "cp949")
_KINDS = (".txt", ".xml", ".csv", ".text", ".report")


@dataclass(frozen=True)
class Report:
    """A report as it came: its text, or its sections where the file already tells them apart. `patient` groups a split."""

    id: str
    text: str
    patient: str
    sections: dict[str, str] | None = None


def read_reports(source: Path) -> Iterator[Report]:
    """The reports of a file, or of all files below a folder, by their names. Raises RecordError, naming file and place.

    An id is the file's name without its ending, with the folders in front where two files share it.
    """
    if source.is_file():
        yield from _read(source, source.stem)
        return
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in _KINDS and path.is_file())
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise RecordError(
            f"There is no report in {source.name or source}. Name a folder of .txt or .xml files, or a CSV of id,note."
        )
    stems: dict[str, int] = {}
    for path in files:
        stems[path.stem] = stems.get(path.stem, 0) + 1
    for path in files:
        name = path.stem if stems[path.stem] == 1 else path.relative_to(source).with_suffix("").as_posix()
        yield from _read(path, name)


def _read(path: Path, name: str) -> Iterator[Report]:
    match path.suffix.lower():
        case ".xml":
            yield _from_xml(path, name)
        case ".csv":
            yield from _from_csv(path)
        case _:
            parent = path.parent.name
            is_mimic = path.stem[:1] == "s" and parent[:1] == "p" and path.stem[1:].isdigit() and parent[1:].isdigit()
            yield Report(name, decode(path), parent if is_mimic else name)


def decode(path: Path) -> str:
    """A file as text: UTF-8, UTF-16 with its mark, or Korean Windows. Raises RecordError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read ({error.strerror}). Check its name and its rights.") from error
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else _ENCODINGS:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise RecordError(f"{path.name} is not text in UTF-8, UTF-16 or CP949. Save it as UTF-8, or leave it out.")


def _from_xml(path: Path, name: str) -> Report:
    text = decode(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise RecordError(f"{path.name} defines entities, which Hilum does not expand. Leave it out, or save it without them.")
    try:
        root = ET.fromstring(text.encode().replace(b'encoding="utf-16"', b"", 1))
    except ET.ParseError as error:
        line, column = error.position
        raise RecordError(f"{path.name}, line {line}, column {column}: this is not XML. Fetch the file again.") from error
    parts = {part.get("Label", "").upper(): "".join(part.itertext()).strip() for part in root.iter("AbstractText")}
    if not parts:
        raise RecordError(f"{path.name} holds no AbstractText, so it is no report of Open-i. Leave it out.")
    number = root.find(".//uId")
    name = (number.get("id") if number is not None else None) or name
    found = {label: said for label, said in parts.items() if said}
    return Report(name, "\n\n".join(f"{label}: {said}" for label, said in found.items()), name, found)


def _from_csv(path: Path) -> Iterator[Report]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.DictReader(io.StringIO(decode(path), newline=""), strict=True)
    try:
        names = {name.strip().lower(): name for name in rows.fieldnames or () if name}
        if "id" not in names or "note" not in names:
            told = ", ".join(names) or "none"
            raise RecordError(f"{path.name}, line 1: a table of reports needs the columns id and note; it has {told}.")
        seen: set[str] = set()
        for row in rows:
            name, note = (row[names["id"]] or "").strip(), row[names["note"]]
            if not name or note is None or name in seen:
                field, wrong = (
                    ("id", "is empty") if not name else ("note", "is missing") if note is None else ("id", "is there twice")
                )
                raise RecordError(f"{path.name}, line {rows.line_num}: {field} {wrong}. Mend the line.")
            seen.add(name)
            yield Report(name, note, row.get(names.get("patient", "")) or name)
    except csv.Error as error:
        raise RecordError(f"{path.name}, line {rows.line_num + 1}: this is not CSV ({error}). Mend the line.") from error
