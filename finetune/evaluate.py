"""Evaluating: what a model answers to held-out records, with and without an adapter, beside four controls; folds; and the gate.

Knows engines, records and the order of work. Does not know how an answer is graded, or what the guard draws.

    python -m finetune.evaluate records.jsonl --model models/hilum-tiny --out base.json
    python -m finetune.evaluate records.jsonl --model models/hilum-tiny --adapter runs/radiology --out radiology.json
    python -m finetune.evaluate records.jsonl ... --adapter runs/radiology --out radiology.json --install models/NAME
    python -m finetune.evaluate records.jsonl ... --fold 0/5 --adapter runs/fold-0 --out fold-0.json
    python -m finetune.evaluate --pool fold-*.json ... --adapter runs/radiology --out radiology.json --install models/NAME

Closed questions (the reference begins with yes or no) give balanced accuracy, open ones token F1, per kind, with 95 %
intervals over patients. Beside them stand the same model on a blank image and on another patient's (for one that was taught to
decline on a blank image does worse there than its words alone would), the commonest answer of the training part, and what a
regression on the words of its questions answers. With --adapter the base is asked the same, both are measured by the guard
(general scenes, and drawn radiographs with wrong evidence), and the figures go into the adapter's receipt. --install copies the
adapter to where it is served from, unless it costs a guard metric more than 2 points. --fold asks the closed questions of one
fold of all patients, for an adapter that was taught from the others (`finetune.teach --folds`); --pool puts such answers
together, for an adapter that was taught by the same recipe from all.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

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
from finetune.grades import NO, YES, Figures, Graded, by_words, figures, folds_of, grade, majority, table, verdict_of
from finetune.jsonl import claim, write_text
from finetune.receipts import add_metrics, code_version, install
from finetune.record_files import read_records, share_patients
from finetune.record_formats import Record
from finetune.records import RecordError
from vision.study import StudyError, read_study

BLANK = (128, 128, 128)
Shown = Literal["own", "blank", "other"]


@dataclass(frozen=True)
class Asked:
    """Records to ask, and the folder of their images."""

    records: list[Record]
    images: Path

    def picture(self, record: Record, shown: Shown) -> Image.Image | None:
        """Its own image, a blank one of its size, or the next patient's by name; None where the record has none."""
        if not (name := record.image):
            return None
        if shown == "other":
            others = sorted({each.image for each in self.records if each.image and each.patient != record.patient})
            name = next((other for other in others if other > name), min(others, default=name))
        try:
            image = read_study((self.images / name).read_bytes(), MOST_PIXELS).image
        except (OSError, StudyError) as error:
            raise RecordError(f"Record {record.id[:80]!r}: its image cannot be read ({error}). Mend or remove it.") from error
        return Image.new("RGB", image.size, BLANK) if shown == "blank" else image


def answers(engine: Engine, asked: Asked, what: str, shown: Shown = "own") -> list[Graded]:
    """Every record's last question, its earlier turns as they stand there, answered greedily. Raises EngineError.

    A closed one is answered by the likelier of yes and no where the engine has probabilities.
    """
    found = []
    with tqdm(total=len(asked.records), desc=what, disable=None, leave=False) as bar:
        for (_, language), group in groupby(asked.records, key=_together):
            records = list(group)
            image = asked.picture(records[0], shown)
            prompts = [messages_of(record, image)[:-1] for record in records]
            if language and isinstance(engine, LocalEngine):
                middle, chances = len(YES[language]), engine.choose(prompts, (*YES[language], *NO[language]))
                said = ["Yes" if each[:middle].sum() > each[middle:].sum() else "No" for each in chances]
            else:
                said = [listen(engine, prompt, Sampling(max_new_tokens=64, temperature=0))[0].strip() for prompt in prompts]
            found += list(map(grade, records, said))
            bar.update(len(records))
    return found


def _together(record: Record) -> tuple[str, Language | None]:
    """Records of one image, and of one language where they are closed, are asked at once."""
    last = record.turns[-1]
    return record.image or "", language_of(last.question) if verdict_of(last.answer) else None


def read_asked(
    path: Path, images: Path | None, split: str, fold: Sequence[int] | None = None, seed: int = 0
) -> tuple[Asked, list[Record]]:
    """The records of one part of the split or one fold, sorted so that an image is looked at once, and what may be taught."""
    folder = images or path.parent
    records, _, _ = share_patients(read_records(path), folder)
    if fold:
        parts = list(zip(records, folds_of(records, fold[1], seed), strict=True))
        chosen = [record for record, number in parts if number == fold[0] and verdict_of(record.turns[-1].answer)]
        taught = [record for record, number in parts if number != fold[0]]
    else:
        chosen = [record for record in records if split in ("all", record.split)]
        taught = [record for record in records if record.split == "train"]
    if not chosen:
        part = f"closed record in fold {fold[0]}" if fold else f"record in the {split} part"
        raise RecordError(f"{path.name} has no {part}. Name another --split or --fold, or more records.")
    chosen.sort(key=lambda record: (record.image or "", str(_together(record)[1]), record.id))
    return Asked(chosen, folder), taught


def ask(engines: dict[str, Engine], asked: Asked, taught: Sequence[Record]) -> dict[str, list[Graded]]:
    """What every system answers: the engines, the last of them on wrong images, the majority, and the words alone."""
    systems = {name: answers(engine, asked, name) for name, engine in engines.items()}
    controls: tuple[Shown, ...] = ("blank", "other") if any(record.image for record in asked.records) else ()
    for shown in controls:
        systems[shown] = answers([*engines.values()][-1], asked, shown, shown)
    for name, control in (("majority", majority), ("words", by_words)):
        systems[name] = list(map(grade, asked.records, control(asked.records, taught)))
    return systems


def weigh(systems: dict[str, list[Graded]], seed: int) -> dict[str, Any]:
    """Every system's figures, and the leads of the adapter, or else of the model, over the others."""
    own = "adapter" if "adapter" in systems else "model"
    leads = {f"{own} - {name}": figures(systems[own], found, seed) for name, found in systems.items() if name != own}
    asked = systems[own]
    return {
        "systems": {name: figures(found, None, seed) for name, found in systems.items()}, "leads": leads,
        "records": len(asked), "closed": sum(each.truth is not None for each in asked),
        "patients": len({each.patient for each in asked}), "seed": seed, "code": code_version(),
    }  # fmt: skip


def pool(paths: Sequence[Path]) -> dict[str, list[Graded]]:
    """The answers of all folds of one run, each by the adapter that was not taught from them. Raises RecordError."""
    systems, folds = dict[str, list[Graded]](), list[tuple[list[int], int]]()
    for path in paths:
        try:
            found = json.loads(path.read_text("utf-8"))
            folds.append((list(map(int, found["fold"])), int(found["seed"])))
            for name, rows in found["answers"].items():
                systems.setdefault(name, []).extend(Graded(*row) for row in rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{path.name} holds no answers of a fold. Write it with --fold.") from error
    whole = [([number, len(folds)], folds[0][1]) for number in range(len(folds))]
    if sorted(folds) != whole or len(set(map(len, systems.values()))) != 1:
        raise RecordError(f"These {len(folds)} files are not the folds of one run. Name each fold of it once.")
    return systems


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
    if len(args.records) > 1 and not args.pool:
        raise RecordError("One file of records is asked at a time. Name one, or put folds together with --pool.")
    systems = pool(args.records) if args.pool else {}
    asked, taught = (None, ()) if args.pool else read_asked(args.records[0], args.images, args.split, args.fold, args.seed)
    with claim(args.out):
        engines = open_engines(args) if asked or args.guard else {}
        try:
            systems = ask(engines, asked, taught) if asked else systems
            found = weigh(systems, args.seed)
            found |= {"folds": len(args.records)} if args.pool else {"fold": args.fold} if args.fold else {"split": args.split}
            if args.guard:
                found["guard"] = {
                    name: guard.measure(engine, args.guard)
                    for name, engine in engines.items()
                    if isinstance(engine, LocalEngine)
                }
        finally:
            for engine in engines.values():
                engine.close()
        own = {name: list(map(astuple, graded)) for name, graded in systems.items()}
        write_text(args.out, [json.dumps(found | {"answers": own} if args.fold else found, indent=None if args.fold else 2)])
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


def _fold(text: str) -> list[int]:
    number, _, count = text.partition("/")
    if not 0 <= int(number) < int(count):
        raise argparse.ArgumentTypeError("must be like 0/5")
    return [int(number), int(count)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path, nargs="+", help="a file of records; with --pool what --fold wrote, all of it")
    parser.add_argument("--out", type=Path, required=True, help="the figures, as JSON")
    parser.add_argument("--images", type=Path, help="where the images lie; by default beside the records")
    parser.add_argument("--split", choices=("test", "val", "train", "all"), default="test", help="which part to ask (test)")
    parser.add_argument("--fold", type=_fold, help="ask the closed questions of fold I of N instead, as I/N from 0")
    parser.add_argument("--pool", action="store_true", help="put the answers of all folds together")
    parser.add_argument("--base-url", help="an OpenAI-compatible address; its key is HILUM_API_KEY of the environment")
    parser.add_argument("--model", help="the base's folder, or the model's name at --base-url")
    parser.add_argument("--adapter", type=Path, help="an adapter of that base")
    parser.add_argument("--guard", type=int, default=300, help="questions for each guard metric; 0 leaves it out (300)")
    parser.add_argument("--install", type=Path, help="the folder to copy the adapter to when the gate lets it through")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals and the folds")
    args = parser.parse_args(arguments)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
