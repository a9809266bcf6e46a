"""The whole chain at a small size: data to records, an adapter, its evaluation, a comparison, grades and a plot.

Knows the order of the other commands. Does not know how any of them works; each is run as a person would type it.

    python -m finetune.teach --data ../shared/data [--model models/hilum-tiny] [--out runs/teach] [--install models/NAME]
    python -m finetune.teach --data ../shared/data --full --folds 5 --out runs/radiology --install models/hilum-tiny-radiology

--data holds what there is of vqa_rad/, kermany224/train/, lung_masks/ and openi_reports/, each in its published layout; drawn
scenes and phantoms are mixed in, so that the base does not unlearn them. --full is the recipe of an adapter that ships: four
copies of each question of VQA-RAD that its film decides, and more of all else. Reports are only asked about, unless
--with-reports: their licence forbids weights that are passed on. What is done is not done again, so the same command goes on
after a kill.
With --folds N, VQA-RAD is parted by image: N adapters each answer the closed questions of the part that they were not taught
from, and the adapter that is kept is taught from all of it; what the folds came to goes into its receipt and is printed last.
The judge is the base itself behind a real OpenAI-compatible server on this machine: it proves the plumbing, not the adapter.
"""

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from chat.engine.shards import read_json
from chat.engine.store import MANIFEST, write_json
from finetune.asking import guarded, log, positive
from finetune.drill import drill
from finetune.grades import folds_of
from finetune.jsonl import claim, disk_errors, write_config, write_objects
from finetune.record_files import read_records, share_patients
from finetune.record_formats import Record, as_row
from finetune.records import RecordError
from finetune.rehearsal import draw_records
from finetune.tables import write_table

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "chat" / "engine" / "llava-1.5.jinja"
LICENCES = {
    "vqa": "VQA-RAD (Lau et al. 2018), CC0 1.0", "films": "Kermany et al. 2018, CC BY 4.0",
    "masks": "masks: V7 covid-19-xray-dataset, CC BY 4.0", "scenes": "drawn by Hilum",
    "reports": "Open-i, CC BY-NC-ND 4.0: these weights may not be passed on",
}  # fmt: skip
READY_TRIES, REPORTS_JUDGED = 1200, 12
Fold = tuple[int, int]
"""The number of the fold that is held out, from 0, and of all folds; as many as all holds out none."""


def call(module: str, *words: object, done: Path) -> None:
    """Run `python -m module words` unless `done` is there. Raises RecordError when it fails; it has said why."""
    if done.exists():
        return
    command = [sys.executable, "-m", module, *map(str, words)]
    log.info("python -m %s %s", module, " ".join(map(str, words)))
    started = time.perf_counter()
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise RecordError(f"{module} did not come to its end. Mend what it says above, and run the same command again.")
    log.info("%s took %.0f s", module, time.perf_counter() - started)


def make_records(data: Path, out: Path, seed: int) -> dict[str, Path]:
    """A file of records for each source that is there. Raises RecordError where none is."""
    found: dict[str, Path] = {}
    if (source := data / "vqa_rad").is_dir():
        found["vqa"] = out / "vqa.jsonl"
        given = (source / "chest_train.json", "--images", source / "images", "--out", found["vqa"])
        call("finetune.vqa_rad", *given, done=found["vqa"])
    for name, flag, folder in (("films", "--labels", data / "kermany224" / "train"), ("masks", "--masks", data / "lung_masks")):
        if folder.is_dir():
            found[name] = out / f"{name}.jsonl"
            asked = (flag, folder, "--language", "both", "--seed", seed, "--out", found[name])
            call("finetune.instruct", "--templates", *asked, done=found[name])
    if (data / "openi_reports").is_dir():
        cut, found["reports"] = out / "reports.jsonl", out / "asked.jsonl"
        call("finetune.reports", data / "openi_reports", "--out", cut, done=cut)
        call("finetune.instruct", cut, "--templates", "--seed", seed, "--out", found["reports"], done=found["reports"])
    if not found:
        raise RecordError(
            f"There is nothing to teach in {data}. It needs vqa_rad/, kermany224/, lung_masks/ or openi_reports/."
        )
    return found


@dataclass(frozen=True)
class Size:
    """How much is taught: records of each source but VQA-RAD, copies of those, epochs, and questions of each guard metric."""

    most: int
    copies: int
    epochs: int
    guard: int
    learning_rate: float


SMALL, FULL = Size(300, 1, 2, 200, 5e-4), Size(1200, 4, 3, 600, 3e-4)


def size_of(args: argparse.Namespace) -> Size:
    """As small as a trial, or full, but for what the person chose."""
    whole = FULL if args.full else SMALL
    return replace(whole, **{name: value for name in asdict(whole) if (value := getattr(args, name)) is not None})


def _told(name: str) -> str:
    return f"({asdict(SMALL)[name]}; {asdict(FULL)[name]} with --full)"


def mix(
    sources: dict[str, Path], out: Path, most: int, copies: int, seed: int, with_reports: bool, fold: Fold | None = None
) -> tuple[Path, str]:
    """VQA-RAD, drilled, and at most so many records of each other source, as one file; and its licences.

    With a `fold` all of the file may be taught: VQA-RAD without that fold, and of the others what the split lets be taught.
    """
    records, scenes = list[Record](), out / "scenes"
    if not (scenes / "records.jsonl").exists():
        draw_records(scenes, most, seed)
    drawn = [replace(record, image=f"scenes/{record.image}") for record in read_records(scenes / "records.jsonl")]
    chosen = [name for name in sources if name != "reports" or with_reports]
    for name in chosen:
        found = read_records(sources[name])
        if name != "vqa":
            found = [record for record in found if fold is None or record.split == "train"]
            records += random.Random(f"{seed}:{name}").sample(found, min(most, len(found)))
            continue
        if fold:
            found, _, _ = share_patients(found, sources[name].parent)
            found = [r for r, held_out in zip(found, folds_of(found, fold[1], seed), strict=True) if held_out != fold[0]]
        records += drill(found, sources[name].parent, out / "copies", copies, seed, all_taught=fold is not None)
    path = out / (f"records-{fold[0]}.jsonl" if fold else "records.jsonl")
    write_objects(path, [as_row(record, "records") for record in (*records, *drawn)])
    return path, "; ".join(LICENCES[name] for name in (*chosen, "scenes"))


def write_prompts(asked: Path, out: Path, count: int) -> Path:
    """A table to compare with: questions about reports that no training reads, and the reports."""
    held_out = [record for record in read_records(asked) if record.split == "test" and record.context][:count]
    rows = [
        {"report": r.context, "question": r.turns[-1].question, "prompt": f"{r.context}\n\n{r.turns[-1].question}"}
        for r in held_out
    ]
    write_table(out / "prompts.csv", ("report", "question", "prompt"), rows)
    return out / "prompts.csv"


@contextmanager
def served(model: Path, out: Path) -> Iterator[str]:
    """The address of a `transformers serve` of `model`, until the end of the block. Raises RecordError if it does not start."""
    folder = out / "served"
    with disk_errors(folder):
        shutil.copytree(model, folder, dirs_exist_ok=True)
        shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
        patch = read_json(model / "config.json")["vision_config"].get("patch_size", 14)
        own = {"processor_class": "LlavaProcessor", "image_token": "<image>", "patch_size": patch}
        own |= {"num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"}
        write_json(folder / "processor_config.json", own)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--log-level", "error", "--chat-template-kwargs", '{"embedded": true}']
    own_environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (
        (out / "server.log").open("wb") as told,
        subprocess.Popen(command, stdout=told, stderr=told, env=own_environment) as process,
    ):
        try:
            for _ in range(READY_TRIES):
                if _is_open(port) or process.poll() is not None:
                    break
                time.sleep(0.1)
            if process.poll() is not None or not _is_open(port):
                raise RecordError(
                    f"transformers serve did not start; see server.log in {out.name}. Install transformers[serving]."
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def keep_or_compare(out: Path, flags: dict[str, object]) -> None:
    """Write down what a run is made with, so that one that goes on mixes no two recipes. Raises RecordError for another."""
    file = out / "teach.config.json"
    if file.exists() and read_json(file) != flags:
        raise RecordError(f"{out.name} holds a run with other flags. Run its own command, or choose another --out.")
    write_config(out / "teach", flags)


def train(args: argparse.Namespace, sources: dict[str, Path], adapter: Path, fold: Fold | None) -> None:
    """An adapter by the one recipe, unless it is there; of several folds all read the features that the first has kept."""
    if (adapter / MANIFEST).exists():
        return
    size, out, model = size_of(args), args.out.resolve(), args.model.resolve()
    records, licence = mix(sources, out, size.most, size.copies, args.seed, args.with_reports, fold)
    rates = ("--learning_rate", size.learning_rate, "--mm_projector_lr", size.learning_rate / 10, "--seed", args.seed)
    shape = ("--lora_r", 32, "--lora_alpha", 64, "--gradient_checkpointing", "False", "--eval_strategy", "epoch")
    named = ("--model_name_or_path", model, "--data_path", records, "--output_dir", adapter, "--licence", licence)
    whole = ("--hold_out", "False", "--feature_folder", out / "features") if fold else ()
    call("finetune.lora", *named, *rates, *shape, *whole, "--num_train_epochs", size.epochs, done=adapter / MANIFEST)


def run(args: argparse.Namespace) -> None:
    out, model, count = args.out.resolve(), args.model.resolve(), args.folds
    with claim(out / "teach"):
        sources = make_records(args.data.resolve(), out, args.seed)
        chosen = {name: getattr(args, name) for name in ("folds", "seed", "with_reports")}
        keep_or_compare(out, {"model": model.name, **asdict(size_of(args)), **chosen})
        if count and "vqa" not in sources:
            raise RecordError(f"--folds parts VQA-RAD, and {args.data} holds no vqa_rad/. Put it there, or leave --folds out.")
        asked, parts = sources.get("vqa", out / "records.jsonl"), [out / f"fold-{number}.json" for number in range(count)]
        for number, part in enumerate(parts):
            train(args, sources, part.with_suffix(""), (number, count))
            own = ("--fold", f"{number}/{count}", "--model", model, "--adapter", part.with_suffix(""), "--seed", args.seed)
            call("finetune.evaluate", asked, *own, "--guard", 0, "--out", part, done=part)
        adapter, merged, figures = out / "adapter", out / "merged", out / "evaluation.json"
        train(args, sources, adapter, (count, count) if count else None)
        shutil.rmtree(out / "features", ignore_errors=True)
        install = ("--install", args.install.resolve()) if args.install else ()
        held = ("--model", model, "--adapter", adapter, "--out", figures, "--guard", size_of(args).guard, "--seed", args.seed)
        what = ("--pool", *parts) if count else (asked,)
        call("finetune.evaluate", *what, *held, *install, done=args.install / MANIFEST if args.install else figures)
        call("finetune.lora", "merge", adapter, "--base", model, "--out", merged, done=merged)
        if "reports" in sources:
            compare_and_judge(args, sources["reports"], merged)
        if count:
            print(figures.read_text("utf-8"))


def compare_and_judge(args: argparse.Namespace, reports: Path, merged: Path) -> None:
    """What base and adapter answer about held-out reports, graded by a served model."""
    out, model = args.out.resolve(), args.model.resolve()
    answers, grades = out / "answers.csv", out / "grades.csv"
    prompts = write_prompts(reports, out, REPORTS_JUDGED)
    pair = ("--model", f"base={model}", "--model", f"adapter={merged}", "--max-tokens", 48)
    call("finetune.compare", prompts, "--out", answers, *pair, done=answers)
    if not grades.exists():
        with served(model, out) as address:
            call("finetune.judge", answers, "--out", grades, "--base-url", address, "--model", out / "served", done=grades)
    log.info("done: %s, its table and its plot lie in %s", grades.name, out)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.teach", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with the sources")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "hilum-tiny", help="the base (models/hilum-tiny)")
    parser.add_argument("--out", type=Path, default=Path("runs/teach"))
    parser.add_argument("--install", type=Path, help="where the adapter is served from, when the gate lets it through")
    parser.add_argument("--with-reports", action="store_true", help="teach from the reports too")
    parser.add_argument("--full", action="store_true", help="as much as an adapter takes that ships, instead of a trial")
    parser.add_argument("--folds", type=positive, default=0, help="measure on so many parts of VQA-RAD in turn")
    parser.add_argument("--most", type=positive, help=f"records of each source but VQA-RAD {_told('most')}")
    parser.add_argument("--copies", type=positive, help=f"of each question of VQA-RAD that its film decides {_told('copies')}")
    parser.add_argument("--epochs", type=positive, help=f"times that all is read {_told('epochs')}")
    parser.add_argument("--learning-rate", type=float, help=f"of the LoRA matrices {_told('learning_rate')}")
    parser.add_argument("--guard", type=int, help=f"questions for each guard metric {_told('guard')}")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
