"""Evaluating: what a model answers to held-out records, with and without an adapter, beside two controls; and the gate.

Knows engines, records and the order of work. Does not know how an answer is graded, or what the guard draws.

    python -m finetune.evaluate records.jsonl --model models/hilum-tiny --out base.json
    python -m finetune.evaluate records.jsonl --model models/hilum-tiny --adapter runs/radiology --out radiology.json
    python -m finetune.evaluate records.jsonl ... --adapter runs/radiology --out radiology.json --install models/NAME

Closed questions (the reference begins with yes or no) give balanced accuracy, open ones token F1, per kind, with 95 %
intervals over patients. Beside them stand the same model on a blank image, which tells what it guesses from the words, and
the commonest answer of the training part. With --adapter the base is asked the same, both are measured by the guard (general
scenes, and drawn radiographs with wrong evidence), and the figures go into the adapter's receipt. --install copies the adapter
to where it is served from, unless it costs a guard metric more than 2 points.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from chat.engine.base import Engine, Sampling
from chat.engine.local import LocalEngine
from chat.loading import open_local
from chat.wording import Language, language_of
from finetune import guard
from finetune.asking import guarded, listen, log, open_engine
from finetune.batches import messages_of
from finetune.compare import MOST_PIXELS
from finetune.grades import NO, YES, Figures, Graded, figures, grade, majority, table, verdict_of
from finetune.jsonl import claim, write_text
from finetune.receipts import add_metrics, code_version, install
from finetune.record_files import read_records, share_patients
from finetune.record_formats import Record
from finetune.records import RecordError
from vision.study import StudyError, read_study

BLANK = (128, 128, 128)


@dataclass(frozen=True)
class Asked:
    """Records to ask, and the folder of their images."""

    records: list[Record]
    images: Path

    def picture(self, record: Record, is_blank: bool) -> Image.Image | None:
        if not record.image:
            return None
        try:
            image = read_study((self.images / record.image).read_bytes(), MOST_PIXELS).image
        except (OSError, StudyError) as error:
            raise RecordError(f"Record {record.id[:80]!r}: its image cannot be read ({error}). Mend or remove it.") from error
        return Image.new("RGB", image.size, BLANK) if is_blank else image


def answers(engine: Engine, asked: Asked, what: str, is_blank: bool = False) -> list[Graded]:
    """Every record's last question, its earlier turns as they stand there, answered greedily. Raises EngineError.

    A closed one is answered by the likelier of yes and no where the engine has probabilities.
    """
    found = []
    for record in tqdm(asked.records, desc=what, disable=None, leave=False):
        messages = messages_of(record, asked.picture(record, is_blank))[:-1]
        if verdict_of(record.turns[-1].answer) and isinstance(engine, LocalEngine):
            language: Language = language_of(record.turns[-1].question)
            words = (*YES[language], *NO[language])
            chances = engine.choose([messages], words)[0]
            middle = len(YES[language])
            said = "Yes" if chances[:middle].sum() > chances[middle:].sum() else "No"
        else:
            said = listen(engine, messages, Sampling(max_new_tokens=64, temperature=0))[0].strip()
        found.append(grade(record, said))
    return found


def read_asked(path: Path, images: Path | None, split: str) -> tuple[Asked, list[Record]]:
    """The records of one part of the split, sorted so that an image is looked at once, and the training part."""
    folder = images or path.parent
    records, _, _ = share_patients(read_records(path), folder)
    chosen = [record for record in records if split in ("all", record.split)]
    if not chosen:
        raise RecordError(f"{path.name} has no record in the {split} part. Name another --split, or more records.")
    chosen.sort(key=lambda record: (record.image or "", record.id))
    return Asked(chosen, folder), [record for record in records if record.split == "train"]


def measure(engines: dict[str, Engine], asked: Asked, taught: Sequence[Record], seed: int) -> dict[str, Any]:
    """Every system's figures, and the last engine's leads over the others, over itself on a blank image, and the majority."""
    systems = {name: answers(engine, asked, name) for name, engine in engines.items()}
    own = list(systems)[-1]
    if any(record.image for record in asked.records):
        systems["blank"] = answers(engines[own], asked, "blank", is_blank=True)
    common = majority(asked.records, taught)
    systems["majority"] = [grade(record, said) for record, said in zip(asked.records, common, strict=True)]
    leads = {f"{own} - {name}": figures(systems[own], found, seed) for name, found in systems.items() if name != own}
    return {"systems": {name: figures(found, None, seed) for name, found in systems.items()}, "leads": leads}


def open_engines(args: argparse.Namespace) -> dict[str, Engine]:
    """The model, or the base and the same with its adapter. Raises EngineError."""
    if args.adapter is None:
        return {"model": open_engine(args.base_url, args.model, max_images=1)}
    if args.model is None or args.base_url:
        raise RecordError("An adapter needs its base on this machine. Name the base's folder as --model.")
    adapted, base = open_local(Path(args.model), args.adapter)
    assert base is not None
    return {"base": base, "adapter": adapted}


def run(args: argparse.Namespace) -> None:
    if args.install and not args.adapter:
        raise RecordError("There is nothing to install. Name an adapter's folder as --adapter.")
    asked, taught = read_asked(args.records, args.images, args.split)
    with claim(args.out):
        engines = open_engines(args)
        try:
            found = measure(engines, asked, taught, args.seed)
            closed = sum(verdict_of(record.turns[-1].answer) is not None for record in asked.records)
            found |= {"records": len(asked.records), "closed": closed, "patients": len({r.patient for r in asked.records})}
            found |= {"split": args.split, "seed": args.seed, "code": code_version()}
            if args.guard:
                found["guard"] = {
                    name: guard.measure(engine, args.guard)
                    for name, engine in engines.items()
                    if isinstance(engine, LocalEngine)
                }
        finally:
            for engine in engines.values():
                engine.close()
        write_text(args.out, [json.dumps(found, indent=2)])
        print("\n".join(_told(found)))
    if args.adapter:
        add_metrics(args.adapter, {"evaluation": found})
    if args.install:
        install(args.adapter, args.install, found.get("guard", {}))
        log.info("%s is installed", args.install)


def _told(found: dict[str, Any]) -> list[str]:
    systems: dict[str, Figures] = found["systems"]
    lines = table(systems, found["leads"])
    lines += [
        "",
        f"{found['records']} records ({found['closed']} closed) of {found['patients']} patients; 95 % intervals over them.",
    ]
    for name, figure in found.get("guard", {}).items():
        lines.append(f"guard, {name}: " + ", ".join(f"{metric} {value:.3f}" for metric, value in figure.items()))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the figures, as JSON")
    parser.add_argument("--images", type=Path, help="where the images lie; by default beside the records")
    parser.add_argument("--split", choices=("test", "val", "train", "all"), default="test", help="which part to ask (test)")
    parser.add_argument("--base-url", help="an OpenAI-compatible address; its key is HILUM_API_KEY of the environment")
    parser.add_argument("--model", help="the base's folder, or the model's name at --base-url")
    parser.add_argument("--adapter", type=Path, help="an adapter of that base")
    parser.add_argument("--guard", type=int, default=300, help="questions for each guard metric; 0 leaves it out (300)")
    parser.add_argument("--install", type=Path, help="the folder to copy the adapter to when the gate lets it through")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    args = parser.parse_args(arguments)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
