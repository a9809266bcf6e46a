"""The report: four sections, the notice, 8 to 12 sentences, the right language, not cut, in how many of `count` per language.

    python -m benchmarks.report [--count 200] [--model models/hilum-tiny] [--data FOLDER] [--model-count 20] [--json]

By rule: as when the engine is silent, on phantoms and scenes with drawn evidence of every kind. By the model: phantoms, or with
--data the films of the last part of the patient-grouped split, with evidence drawn from the label. `whole` are reports as a
person gets them; `by_model` those in which the model alone wrote every sentence, none of it cut.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks import machine
from chat.assistant import Assistant
from chat.engine.address import read_address
from chat.engine.base import Limits, Sampling
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.engine.remote import RemoteEngine
from chat.report.check import split_sentences
from chat.report.export import export
from chat.report.words import NOTICE
from chat.report.write import Report, write_report
from chat.wording import LANGUAGES, SECTIONS, Language, language_of
from finetune.films import find_films
from finetune.hints import draw_evidence
from finetune.phantom import draw_phantom
from finetune.scenes import draw_scene
from vision.evidence import Evidence
from vision.study import Study

SEED = 92_000
SILENT = "http://127.0.0.1:9"  # discard: nothing listens there
GREEDY = Sampling(max_new_tokens=160, temperature=0)
Case = tuple[Study, Evidence | None]


def faults(report: Report, language: Language) -> list[str]:
    """What keeps a report from being whole, seen in its text and in its Markdown rather than in its own marks."""
    texts = [section.text for section in report.sections]
    sentences = [split_sentences(text) for text in texts]
    found = [] if tuple(section.name for section in report.sections) == SECTIONS else ["sections"]
    found += [] if NOTICE[language] in export(report, "md").decode() else ["notice"]
    found += [] if 8 <= sum(len(whole) + bool(rest) for whole, rest in sentences) <= 12 else ["sentences"]
    found += [] if all(language_of(text) == language for text in texts) else ["language"]
    found += ["truncated"] if any(rest for _, rest in sentences) or not report.is_finished else []
    return found


def draw_case(number: int) -> Case:
    """A phantom or a scene, and evidence of any kind about it; every eighth has none."""
    rng = np.random.default_rng([SEED, number])
    image = (draw_scene(rng) if number % 4 == 3 else draw_phantom(rng)).image
    return Study(image.convert("RGB")), None if number % 8 == 5 else draw_evidence(int(rng.integers(3)), rng)[0]


def film_cases(data: Path | None, count: int) -> list[Case]:
    """Phantoms, or films from all over the split's last part; none is refused as no radiograph, so all are asked about."""
    films = [film for film in find_films(data) if film.split == "test"] if data else []
    if not films:
        return [(study, None) for study, _ in (draw_case(8 * number) for number in range(count))]
    rng = np.random.default_rng(SEED)
    films = [films[number * len(films) // count] for number in range(count)]
    drawn = [draw_evidence(film.label, rng)[0] for film in films]
    pictures = [Study(Image.open(film.path).convert("RGB")) for film in films]
    return [(study, told if told.is_in_domain else None) for study, told in zip(pictures, drawn, strict=True)]


def measure(assistant: Assistant, cases: Sequence[Case]) -> dict[str, dict[str, object]]:
    """Per language: how many are whole, how many the model wrote alone, and every fault, replacement and mark."""
    result: dict[str, dict[str, object]] = {}
    for language in LANGUAGES:
        whole, alone = 0, 0
        counts: Counter[str] = Counter()
        for study, evidence in tqdm(cases, desc=language, disable=None):
            *_, report = write_report(assistant, study, evidence, language, GREEDY)
            found = faults(report, language)
            marks = [section.mark for section in report.sections if section.mark]
            whole += not found
            alone += not found and report.written_by == "model" and not marks
            counts.update([*found, *marks, *(m for section in report.sections for s in section.sentences for m in s.marks)])
        result[language] = {"reports": len(cases), "whole": whole, "by_model": alone, "counts": dict(counts)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="reports by rule per language")
    parser.add_argument("--model", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--data", type=Path, help="folder with NORMAL/ and PNEUMONIA/")
    parser.add_argument("--model-count", type=int, default=20, help="reports by the model per language")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/report.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    silent = Assistant(RemoteEngine(read_address(SILENT), "silent", limits=Limits(4096, 16, 1)), 336)
    result: dict[str, object] = {"machine": machine.describe()}
    result["by_rule"] = measure(silent, [draw_case(number) for number in range(args.count)])
    if args.model_count:
        engine = LocalEngine(load(args.model, "auto", None))
        engine.warm_up()
        result["by_model"] = measure(Assistant(engine, engine.input_side), film_cases(args.data, args.model_count))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result, ensure_ascii=False) if args.json else json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
