"""Comparing: the same prompts to any number of models, their answers side by side in one table.

Knows tables and names. Does not know how a model answers, or which answer is good.

    python -m finetune.compare prompts.csv --out answers.csv --model base=models/hilum-tiny --model big=http://127.0.0.1:8000#NAME

prompts.csv has a column `prompt`, and `image` where a prompt is about one (a path beside the CSV). What comes out is the same
table with a column NAME_answer for each model. One local model is in memory at a time. An address may end in #NAME, the
model's name there; its key is HILUM_API_KEY of the environment. Answers are kept in OUT.paid.jsonl as they come, so the same
command goes on after a kill.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from chat.engine.base import Message, Part, Sampling
from chat.prompt import SYSTEM
from chat.settings import is_address
from finetune.asking import Pace, add_pace_flags, ask_all, guarded, job, log, open_engine, pace_of, positive
from finetune.jsonl import Ledger, claim, write_config
from finetune.records import RecordError
from finetune.tables import Row, read_table, write_table
from vision.study import StudyError, read_study

MOST_PIXELS = 64_000_000


def name_models(given: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Each name with its folder or address. Raises RecordError for what is no NAME=PLACE, or would overwrite a column."""
    named: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not equals or not place or not re.fullmatch(r"[\w.-]+", name):
            raise RecordError(f"--model {text[:80]} is not NAME=FOLDER or NAME=ADDRESS. Write it like base=models/hilum-tiny.")
        if name in named or f"{name}_answer" in columns:
            raise RecordError(f"There are already answers of {name}. Give each model its own name.")
        named[name] = place
    return named


def messages_of(row: Row, folder: Path, line: int) -> tuple[Message, ...]:
    """The prompt of a row, about its image where it has one. Raises RecordError."""
    parts: list[Part] = []
    if name := row.get("image", "").strip():
        try:
            parts = [read_study((folder / name).read_bytes(), MOST_PIXELS).image, "\n"]
        except (OSError, StudyError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise RecordError(
                f"Row {line}, column image: {name} cannot be read ({why}). Mend the path, or empty the cell."
            ) from error
    return (Message("system", (SYSTEM,)), Message("user", (*parts, row["prompt"])))


def answers_of(
    place: str, rows: Sequence[Row], folder: Path, ledger: Ledger, pace: Pace, sampling: Sampling, what: str
) -> list[str]:
    """One model's answer to each row, empty where the prompt did not fit. Raises EngineError and RecordError."""
    address, _, served = place.partition("#") if is_address(place) else ("", "", place)
    with_images = any(row.get("image", "").strip() for row in rows)
    engine = open_engine(address or None, served or None, max_images=1 if with_images else 0)
    try:
        jobs = [job(engine, messages_of(row, folder, line), sampling) for line, row in enumerate(rows, 1)]
        ask_all(jobs, engine, ledger, pace, what)
        return [ledger.paid.get(each.key, {}).get("text", "").strip() for each in jobs]
    finally:
        engine.close()


def run(args: argparse.Namespace) -> None:
    columns, rows = read_table(args.prompts, ("prompt",))
    models = name_models(args.model, columns)
    with claim(args.out):
        ledger = Ledger(args.out.with_name(f"{args.out.name}.paid.jsonl"))
        try:
            sampling = Sampling(args.max_tokens, args.temperature, seed=args.seed)
            for name, place in models.items():
                said = answers_of(place, rows, args.prompts.parent, ledger, pace_of(args), sampling, f"answers of {name}")
                for row, answer in zip(rows, said, strict=True):
                    row[f"{name}_answer"] = answer
                log.info("%s: %d answers, %d empty", name, len(said), said.count(""))
        finally:
            ledger.close()
        write_config(args.out, {"command": "compare", **vars(args)})  # now the addresses are known to hold no password
        write_table(args.out, [*columns, *(f"{name}_answer" for name in models)], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompts", type=Path, help="a CSV with a column prompt, and image where there is one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--model", action="append", required=True, metavar="NAME=PLACE", help="a folder or an address; give it again"
    )
    parser.add_argument("--max-tokens", type=positive, default=512, help="the longest answer")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    add_pace_flags(parser)
    args = parser.parse_args(arguments)
    if not 0 <= args.temperature <= 2:
        parser.error("--temperature must lie between 0 and 2")
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
