"""Record files: what a model is taught with, as one JSON line each, in and out of three formats that others use.

Knows files, formats and the one split. Does not know models or prompts.

    python -m finetune.record_files check records.jsonl [--images FOLDER]
    python -m finetune.record_files convert records.jsonl --to llava --out llava.json
    python -m finetune.record_files convert old.json --to records --out records.jsonl

A record is one line of UTF-8 JSON:

    {"id": "s1-finding-0", "patient": "p10", "image": "s1.png", "context": "", "turns": [{"question": "...", "answer": "..."}],
     "kind": "finding", "language": "en", "source": "reports"}

`id` and `turns` (one or more) must be there. `patient` groups the split and is `id` where it is missing. `image` is a path
beside the file, or in --images; null is without one. `context` is a text, a report say, that the first question is about.
The other formats are LLaVA's conversation JSON (`llava`), LLaMA-Factory's ShareGPT (`sharegpt`, also with `messages`) and the
`{instruction, input, output}` of the earlier system (`alpaca`); each is read as a JSON list or as JSON lines, and told by its
fields. What a format has no place for (patient, kind) is written under the record's own names, which its readers pass over.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from finetune.asking import guarded
from finetune.jsonl import claim, read_objects, write_objects, write_text
from finetune.record_formats import FORMS, Record, as_row, read_row
from finetune.records import RecordError
from finetune.samples import digest_of


def read_records(path: Path) -> list[Record]:
    """The records of a file in any of the formats. Raises RecordError with file, line (or place in the list) and field."""
    found, seen = [], set[str]()
    for where, row in _rows(path):
        record = read_row(row, where)
        if record.id in seen:
            raise RecordError(f"{where}, field id: {record.id[:80]!r} is there twice. Give each record its own.")
        seen.add(record.id)
        found.append(record)
    if not found:
        raise RecordError(f"{path.name} holds no record. Name a file with at least one.")
    return found


def write_as(path: Path, records: Sequence[Record], to: str) -> None:
    """Write records in one of FORMS, all or none; the three foreign ones as a JSON list."""
    rows = [as_row(record, to) for record in records]
    if to == "records":
        write_objects(path, rows)
    else:
        write_text(path, [json.dumps(rows, ensure_ascii=True, indent=1)])


def share_patients(records: Sequence[Record], images: Path) -> tuple[list[Record], int, int]:
    """The records with one patient for equal pixels, without those that ask the same of the same image; and how many of each.

    So a film that two names share falls on one side of the split. Raises RecordError for an image that cannot be read.
    """
    digests: dict[str, str] = {}
    for record in tqdm(records, desc="images", disable=None, leave=False):
        if record.image and record.image not in digests:
            digests[record.image] = _digest(images / record.image, record)
    leader: dict[str, str] = {}

    def head(patient: str) -> str:
        while (above := leader.get(patient, patient)) != patient:
            patient = above
        return patient

    owner: dict[str, str] = {}
    for record in records:
        if record.image:
            one, other = head(owner.setdefault(digests[record.image], record.patient)), head(record.patient)
            if one != other:
                leader[other] = one
    kept, asked, moved = [], set[tuple[object, ...]](), 0
    for record in records:
        same = (digests.get(record.image or "", record.context), record.turns)
        if same not in asked:
            asked.add(same)
            moved += head(record.patient) != record.patient
            kept.append(replace(record, patient=head(record.patient)))
    return kept, len(records) - len(kept), moved


def _digest(path: Path, record: Record) -> str:
    try:
        with Image.open(path) as image:
            return digest_of(image)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        wrong = "is missing" if isinstance(error, FileNotFoundError) else "is no image that can be read"
        raise RecordError(
            f"Record {record.id[:80]!r}, field image: {record.image!r} {wrong}. Put it there, or give its folder as --images."
        ) from error


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place in words: lines of a JSON lines file, or members of a JSON list."""
    try:
        with path.open("rb") as file:
            is_list = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
            file.seek(0)
            rows = json.loads(file.read()) if is_list else []
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read ({error.strerror}). Check its name and its rights.") from error
    except json.JSONDecodeError as error:
        raise RecordError(f"{path.name}, line {error.lineno}: this is not JSON ({error.msg}). Mend the line.") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path.name} is not JSON in UTF-8. Save it again.") from error
    if not is_list:
        yield from ((f"{path.name}, line {number}", row) for number, row in read_objects(path))
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise RecordError(f"{path.name}, record {number}: this is no JSON object. Mend or remove it.")
        yield f"{path.name}, record {number}", row


def check(path: Path, images: Path | None) -> dict[str, object]:
    """What a valid file holds: records, turns, images, and how the one split divides them. Raises RecordError."""
    records = read_records(path)
    kept, equal, moved = share_patients(records, images or path.parent)
    return {
        "records": len(records), "turns": sum(len(record.turns) for record in records),
        "with_image": sum(record.image is not None for record in records), "patients": len({r.patient for r in kept}),
        "asked_twice": equal, "joined_to_another_patient_by_equal_pixels": moved,
        "split": dict(Counter(record.split for record in kept)), "kinds": dict(Counter(record.kind for record in kept)),
        "languages": dict(Counter(record.language for record in kept)),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.record_files", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, told in (("check", "validate a file and count it"), ("convert", "write it in another format")):
        command = commands.add_parser(name, help=told)
        command.add_argument("input", type=Path)
        if name == "check":
            command.add_argument("--images", type=Path, help="where the images lie; by default beside the file")
        else:
            command.add_argument("--to", choices=FORMS, required=True)
            command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    return guarded(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    if args.command == "check":
        print(json.dumps(check(args.input, args.images), indent=2, ensure_ascii=False))
    else:
        with claim(args.out):
            write_as(args.out, read_records(args.input), args.to)


if __name__ == "__main__":
    sys.exit(main())
