"""The command line: questions about one image in one conversation, and what vision says about many.

Knows files, the assistant and standard output. Does not know pages or how a model is loaded.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.base import Sampling
from vision.study import Study, StudyError, read_study

if TYPE_CHECKING:
    from vision.examiner import Examiner

SESSION = "terminal"


def read_image(path: Path, max_pixels: int) -> Study:
    """The study in a file. Raises StudyError, or OSError when the file cannot be read."""
    return read_study(path.read_bytes(), max_pixels)


def ask(assistant: Assistant, study: Study, questions: Sequence[str], sampling: Sampling, turns: int, as_json: bool) -> None:
    """Print each answer as it comes: one JSON line per question, or the bare text. Raises RequestError and EngineError.

    What a writer was told is in the JSON only; why it did not answer is said on stderr.
    """
    conversation, evidence = Conversation(limit=turns), assistant.examine(study)
    for question in questions:
        last: Answer | None = None
        printed = 0
        for step in assistant.ask(Request(question, sampling), study, conversation, SESSION, evidence):
            if not isinstance(step, Answer):
                continue
            last = step
            if not as_json and last.is_written:
                print(last.text[printed:], end="", flush=True)
                printed = len(last.text)
        if last is None:
            continue
        result = last.result(assistant.engine.name)
        print(json.dumps(result, ensure_ascii=False) if as_json else last.text[printed:], flush=True)
        if last.trouble:
            print(f"hilum: this is what the first model saw; the writer failed. {result['writer_error']}", file=sys.stderr)
        conversation = last.conversation


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and every file below the folders that are, sorted; hidden ones are left out."""
    found: list[Path] = []
    for path in paths:
        inside = (file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith("."))
        found += inside if path.is_dir() else [path]
    return found


def examine(examiner: "Examiner", paths: Sequence[Path], max_pixels: int, as_json: bool, table: Path | None) -> int:
    """Examine each image: a JSON line or a line of text each, and a CSV `table`; how many could not be read.

    A file that cannot be read becomes a row with an `error`, and the rest go on.
    """
    rows, failed = [], 0
    files = find_images(paths)
    for file in tqdm(files, unit="image", disable=None if len(files) > 1 else True):
        try:
            row = examiner.examine(read_image(file, max_pixels)).result(str(file))
        except (StudyError, OSError) as error:
            said = str(error) if isinstance(error, StudyError) else f"This file cannot be read: {error.strerror or error}."
            row, failed = {"image": str(file), "error": said}, failed + 1
        rows.append(row)
        tqdm.write(json.dumps(row, ensure_ascii=False) if as_json else " ".join(_told(row)))
    if table:
        with table.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(_flat(row) for row in rows)
    return failed


EDGES = ("left", "top", "right", "bottom")
COLUMNS = (
    "image", "in_domain", "reason", "labels", "probabilities", "trusted", "side", "zone", *EDGES, "masks", "mask_reason",
    "error",
)  # fmt: skip


def _flat(row: dict[str, object]) -> dict[str, object]:
    """A row for a table: a label set and probabilities as text, the peak in columns of its own, masks as JSON."""
    peak = row.get("peak")
    place = peak if isinstance(peak, dict) else {}
    edges = dict(zip(EDGES, place.get("box", ()), strict=False))
    labels, probabilities = row.get("labels"), row.get("probabilities")
    return {
        **row, **place, **edges,
        "masks": json.dumps(row["masks"]) if row.get("masks") else "",
        "labels": " ".join(labels) if isinstance(labels, list) else "",
        "probabilities": " ".join(f"{k}={v}" for k, v in probabilities.items()) if isinstance(probabilities, dict) else "",
    }  # fmt: skip


def _told(row: dict[str, object]) -> Iterator[str]:
    """A row for a person."""
    yield f"{row['image']}:"
    if "error" in row:
        yield str(row["error"])
        return
    flat = _flat(row)
    yield str(flat["labels"] or ("undecided" if row["in_domain"] else "not examined"))
    yield from (f"({flat[name]})" for name in ("probabilities", "reason") if flat[name])
    if row["trusted"]:
        yield f"peak: {flat['side']} {flat['zone']}"
