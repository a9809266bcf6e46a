"""VQA-RAD: questions that clinicians asked about radiographs, as records, one patient for each image.

Knows the published JSON (Lau et al. 2018, "A dataset of clinically generated visual questions and answers about radiology
images", CC0). Does not know models. The images are few, so a split by question would teach what it asks.

    python -m finetune.vqa_rad chest_train.json --images FOLDER --out records.jsonl
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.asking import guarded, log
from finetune.grades import verdict_of
from finetune.jsonl import claim, write_config
from finetune.record_files import write_as
from finetune.record_formats import Exchange, Record
from finetune.records import RecordError


def read_vqa_rad(path: Path, images: Path, out: Path) -> list[Record]:
    """Its questions as records that lie in `out`. Raises RecordError with the entry and field that is wrong."""
    try:
        rows: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path.name} cannot be read as JSON. Name VQA-RAD's own file.") from error
    if not isinstance(rows, list) or not rows:
        raise RecordError(f"{path.name} holds no list of questions. Name VQA-RAD's own file.")
    return [_record(row, f"{path.name}, entry {number}", images, out) for number, row in enumerate(rows, 1)]


def _record(row: Any, where: str, images: Path, out: Path) -> Record:
    said = {}
    for field in ("qid", "image_name", "question", "answer", "question_type"):
        value = row.get(field) if isinstance(row, dict) else None
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise RecordError(f"{where}, field {field}: it is missing. Mend or remove the entry.")
        said[field] = " ".join(str(value).split())
    name, kind = Path(said["image_name"]).name, said["question_type"].split(",")[0].strip().lower()
    place = Path(os.path.relpath((images / name).resolve(), out.resolve().parent)).as_posix()
    answer = said["answer"]
    if (verdict := verdict_of(answer)) and answer.strip(" .").lower() == verdict:
        answer = f"{verdict.capitalize()}."
    question = said["question"][:1].upper() + said["question"][1:].rstrip("?. ") + "?"
    kind = {"atrib": "attrib", "pres": "presence", "pos": "position", "abn": "abnormality"}.get(kind, kind)
    return Record(f"vqa-rad-{said['qid']}", name, (Exchange(question, answer),), place, "", kind, "en", "vqa_rad")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.vqa_rad", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the records to write")
    args = parser.parse_args(arguments)

    def work() -> None:
        with claim(args.out):
            records = read_vqa_rad(args.json, args.images, args.out)
            write_config(args.out, {"command": "vqa_rad", "json": args.json.name})
            write_as(args.out, records, "records")
            log.info("%d records about %d images", len(records), len({record.image for record in records}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
