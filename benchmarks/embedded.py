"""What the embedded model can do, on films, scenes and phantoms that it was not trained on.

    python -m benchmarks.embedded [--model models/hilum-tiny] [--data FOLDER] [--count 100] [--out FILE] [--json]

Films are the last part of the one patient-grouped split; pictures come from seeds that no training uses.
Every answer is greedy and comes through the engine that the page uses.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import machine
from benchmarks.embedded_talk import measure_blank, measure_follow_ups, measure_reach, measure_references
from benchmarks.examination import GREEDY, Examination, Reply, share
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.prompt import View, layout
from chat.wording import LANGUAGES, Language, language_of
from finetune import ask_films, ask_scenes
from finetune.films import Film, find_films
from finetune.phantom import draw_phantom
from finetune.scenes import HELD_OUT, Scene, draw_scene
from vision.tiling import Box

log = logging.getLogger("benchmarks.embedded")
SEED = 90_000


def open_film(film: Film) -> Image.Image:
    return Image.open(film.path).convert("RGB")


def measure_films(exam: Examination, films: list[Film], held_out: bool) -> dict[str, float]:
    """Balanced accuracy of "is there pneumonia?" per language, and how often both languages claim the same."""
    claims: dict[Language, list[str | None]] = {}
    for language in LANGUAGES:
        replies = []
        for number, film in enumerate(films):
            rng = np.random.default_rng([SEED, 1, number])
            exchange = ask_films.ask_film_kind(film.label, "pneumonia", None, rng, language, held_out)
            replies.append(exam.ask(open_film(film), exchange, language, ask_films.claim_of))
        claims[language] = [reply.claim for reply in replies]
    sick = np.array([film.label > 0 for film in films])
    result: dict[str, float] = {}
    for language, said in claims.items():
        yes = np.array([claim == "yes" for claim in said])
        no = np.array([claim == "no" for claim in said])
        result |= {f"sensitivity_{language}": share(yes[sick]), f"specificity_{language}": share(no[~sick])}
        result[f"balanced_accuracy_{language}"] = round((yes[sick].mean() + no[~sick].mean()) / 2, 4)
    result["same_claim"] = share(a == b for a, b in zip(*claims.values(), strict=True))
    return {**result, "films": len(films)}


def measure_scenes(exam: Examination, count: int, held_out: bool, kinds: Iterable[str]) -> dict[str, float]:
    """Accuracy per kind of question; counts are of 1 to 5 things."""
    result = {}
    for kind in kinds:
        replies: list[Reply] = []
        number = 0
        while len(replies) < count:
            number += 1
            rng = np.random.default_rng([SEED, 2, number])
            language = LANGUAGES[number % 2]
            scene = draw_scene(rng)
            exchange = ask_scenes.ask_kind(scene, kind, rng, language, held_out)
            if exchange is None or (kind == "count" and exchange.claim not in {"1", "2", "3", "4", "5"}):
                continue
            replies.append(exam.ask(scene.image, exchange, language, ask_scenes.claim_of))
        result[kind] = share(reply.right for reply in replies)
    return result


def measure_phantoms(exam: Examination, count: int, held_out: bool) -> dict[str, float]:
    """Accuracy of "is there an opacity?" on all, of side and zone where there is one."""
    result = {}
    for kind in ("opacity", "side", "zone"):
        replies = []
        for number in range(count):
            rng = np.random.default_rng([SEED, 3, number])
            language = LANGUAGES[number % 2]
            phantom = draw_phantom(rng, None if kind == "opacity" else True)
            exchange = ask_films.ask_phantom_kind(phantom, kind, rng, language, held_out)
            replies.append(exam.ask(phantom.image, exchange, language, ask_films.claim_of))
        result[kind] = share(reply.right for reply in replies)
    return result


def _alone(scene: Scene) -> bool:
    """Whether the scene's only held-out item shares neither its colour nor its shape with another."""
    rare = [item for item in scene.items if (item.colour, item.kind) in HELD_OUT]
    others = [item for item in scene.items if item not in rare]
    return len(rare) == 1 and not any(item.colour == rare[0].colour or item.kind == rare[0].kind for item in others)


def measure_held_out_pairs(exam: Examination, count: int) -> float:
    """Colour of the held-out shape and shape of the held-out colour, in scenes where the question is clear."""
    replies: list[Reply] = []
    number = 0
    while len(replies) < count:
        number += 1
        rng = np.random.default_rng([SEED, 4, number])
        scene = draw_scene(rng, held_out=True)
        if not _alone(scene):
            continue
        rare = tuple(item for item in scene.items if (item.colour, item.kind) in HELD_OUT)
        only = Scene(scene.image, rare, scene.lettering, scene.background, scene.index)
        kind, language = ("colour", "shape")[number % 2], LANGUAGES[number // 2 % 2]
        exchange = ask_scenes.ask_kind(only, kind, rng, language)
        if exchange is not None:
            replies.append(exam.ask(scene.image, exchange, language, ask_scenes.claim_of))
    return share(reply.right for reply in replies)


def measure_speed(exam: Examination, count: int = 10) -> dict[str, float]:
    """Median seconds to the first token of a first question, and tokens per second after it."""
    first, rates = [], []
    for number in range(count):
        image = draw_scene(np.random.default_rng([SEED, 7, number])).image
        messages = layout("What is in this picture?", (), [View("overview", Box(0, 0, *image.size), image)], (), (), "en")
        exam.engine.forget("speed")
        started, tokens, begun = time.perf_counter(), 0, 0.0
        for delta in exam.engine.stream(messages, GREEDY, "speed"):
            begun = begun or time.perf_counter()
            tokens += len(delta.ids)
        first.append(begun - started)
        if tokens > 4:
            rates.append((tokens - 1) / (time.perf_counter() - begun))
    return {"first_token_seconds": round(float(np.median(first)), 3), "tokens_per_second": round(float(np.median(rates)), 1)}


def measure(exam: Examination, data: Path | None, count: int) -> dict[str, object]:
    """Every figure of the embedded model's table."""
    kinds = ("colour", "shape", "position", "count", "size", "exists", "read", "search")
    result: dict[str, object] = {"machine": machine.describe(), "speed": measure_speed(exam)}
    if data is not None:
        films = [film for film in find_films(data) if film.split == "test"]
        result["pneumonia"] = measure_films(exam, films, held_out=False)
        result["pneumonia_held_out_phrasings"] = measure_films(exam, films[:: max(1, len(films) // count)], held_out=True)
    result["scenes"] = measure_scenes(exam, count, False, kinds)
    result["scenes_held_out_phrasings"] = measure_scenes(exam, count, True, kinds[:4])
    result["phantoms"] = measure_phantoms(exam, count, held_out=False)
    result["phantoms_held_out_phrasings"] = measure_phantoms(exam, count, held_out=True)
    result["held_out_pairs"] = measure_held_out_pairs(exam, count)
    result["follow_ups"] = measure_follow_ups(exam, count)
    result["references"] = measure_references(exam, count)
    result["references_to_figures_in_other_colours"] = measure_references(exam, count, figures=1.0)
    result["reach"] = measure_reach(exam, count)
    result["blank"] = measure_blank(exam, count)
    result["answered_in_the_language_asked"] = share(
        language_of(r.answer, "en") == r.language for r in exam.replies if r.answer
    )
    rng = np.random.default_rng(SEED)
    drawn = [exam.replies[i] for i in rng.permutation(len(exam.replies))]
    result["samples"] = {
        language: [{"kind": r.exchange.kind, "question": r.exchange.question, "answer": r.answer, "truth": r.exchange.claim}
                   for r in [r for r in drawn if r.language == language][:100]]
        for language in LANGUAGES
    }  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--data", type=Path, help="folder with NORMAL/ and PNEUMONIA/; without it the films are left out")
    parser.add_argument("--count", type=int, default=100, help="questions per kind")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/embedded.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object, without the samples, last")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    engine = LocalEngine(load(args.model, "auto", None))
    engine.warm_up()
    result = measure(Examination(engine), args.data, args.count)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    told = {key: value for key, value in result.items() if key != "samples"}
    print(json.dumps(told, ensure_ascii=False) if args.json else json.dumps(told, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
