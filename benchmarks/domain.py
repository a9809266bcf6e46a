"""What the domain check refuses, keeps and flags, and the scores that it was chosen among.

    python -m benchmarks.domain [--model models/resnet34-cxr] [--shared ../shared/data] [--films 300] [--json]

Films and adults of the halves that nothing was fitted to, outliers of unseen seeds, and sets that the fit knows nothing of:
insulators, noise, photographs, pydicom's own files and other libraries' bad inputs. The scores are compared at one kept
share of the validation films: Mahalanobis distance (Lee et al. 2018, on 256 principal components of all stages), k nearest
neighbours (Sun et al. 2022), energy (Liu et al. 2020), and the head with outlier exposure that ships.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from benchmarks import machine
from finetune import textures
from finetune.classifier import SHIPPED
from finetune.domain import LOST, Material, gather, load, looks, pictures, tally
from finetune.phantom import draw_phantom
from finetune.records import patient_of, split_of
from finetune.scenes import draw_crowd, draw_scene
from vision.domain import Domain, Verdict, describe
from vision.resnet import Classifier, load_classifier
from vision.study import Study, StudyError, read_trusted

SEED = 77_000
Rows = dict[str, NDArray[np.float32]]


def readable(files: list[Path]) -> Iterator[Image.Image]:
    """The distinct pictures in what can be read of some files."""
    seen: set[bytes] = set()
    for path in sorted(file for file in files if file.is_file()):
        try:
            image = read_trusted(path.read_bytes()).image
        except StudyError:
            continue
        if image.tobytes() not in seen:
            seen.add(image.tobytes())
            yield image


def outside(shared: Path, test: Material) -> Iterator[tuple[str, Image.Image]]:
    """Sets that no fit has seen, by name."""
    for path in sorted((shared / "lung_masks/images").iterdir()):
        if split_of(patient_of(path.name)) == "test":
            yield "film, aspect kept", load(path)
    for path in test.films[:40]:
        yield "film, 2000 pixels", load(path).resize((2000, 2000), Image.Resampling.BICUBIC)
    for path in test.adults:
        film = load(path)
        rim = round(0.12 * min(film.size))
        yield "adult, rim cut off", film.crop((rim, rim, film.width - rim, film.height - rim))
    for path in sorted((shared / "insulators").rglob("*.jpg")):
        yield "insulators", load(path)
    for image in load_sample_images().images:
        yield "photographs", Image.fromarray(image)
    if spec := find_spec("pydicom"):
        for image in readable(list(Path(str(spec.origin)).parent.rglob("data/test_files/**/*"))):
            yield "pydicom's files", image
    for image in readable(list((shared / "bad_inputs").rglob("*"))):
        yield "bad inputs", image
    for number in range(100):
        rng = np.random.default_rng([SEED, number])
        level, spread = rng.uniform(40, 210), rng.uniform(10, 90)
        yield "noise", Image.fromarray(rng.normal(level, spread, (224, 224)).clip(0, 255).astype(np.uint8)).convert("RGB")
        yield "noise", textures.plasma(rng, (300, 300)).convert("L").convert("RGB")
        yield "phantoms", draw_phantom(rng).image
        yield "scenes", draw_scene(rng).image if number % 2 else draw_crowd(rng).image


def watch(classifier: Classifier, domain: Domain, named: Iterator[tuple[str, Image.Image]]) -> tuple[dict[str, Any], Rows]:
    """A tally per name, and what the scores need: `name`, `described`, `embedding`, `logits`."""
    verdicts: dict[str, list[Verdict]] = {}
    kept: dict[str, list[Any]] = {"name": [], "described": [], "embedding": [], "logits": []}
    for name, image, look in looks(classifier, named):
        verdicts.setdefault(name, []).append(domain.judge(Study(image), look))
        for key, value in zip(kept, ([name], describe([image], look), look.embedding, look.logits), strict=True):
            kept[key].append(value)
    return {name: tally(found) for name, found in verdicts.items()}, {k: np.concatenate(v) for k, v in kept.items()}


def scores(train: Rows, domain: Domain) -> dict[str, Callable[[Rows], NDArray[Any]]]:
    """The four scores, the higher the more like a film."""
    space = PCA(256, whiten=True, random_state=0).fit(train["described"])
    near = NearestNeighbors(n_neighbors=50).fit(normalize(train["embedding"]))
    return {
        "mahalanobis": lambda rows: -np.linalg.norm(space.transform(rows["described"]), axis=1),
        "nearest_neighbours": lambda rows: -near.kneighbors(normalize(rows["embedding"]))[0][:, -1],
        "energy": lambda rows: np.logaddexp.reduce(rows["logits"], 1),
        "head": lambda rows: domain.scores(rows["described"])[0],
    }


def compare(train: Rows, val: Rows, tested: Rows, domain: Domain) -> dict[str, dict[str, float]]:
    """The refused share of each set by each score, where `LOST` of the validation films fall under the threshold."""
    table = {}
    for title, score in scores(train, domain).items():
        refused = score(tested) < np.quantile(score(val), LOST)
        sets = np.unique(tested["name"])
        table[title] = {str(name): round(float(refused[tested["name"] == name].mean()), 3) for name in sets}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--films", type=int, default=300, help="films of each part at most")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/domain.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    classifier, domain = load_classifier(args.model), Domain.load(args.model)
    if domain is None:
        parser.error("there is no domain check beside this classifier; run python -m finetune.domain fit first")
    parts = gather(args.shared / "kermany224/train", args.shared / "vqa_rad/images", args.films)

    def films(part: str) -> Iterator[tuple[str, Image.Image]]:
        return (pair for pair in pictures(parts[part]) if pair[0] in {"film", "treated"})

    def tested() -> Iterator[tuple[str, Image.Image]]:
        yield from pictures(parts["test"])
        yield from outside(args.shared, parts["test"])
        for image in readable(list((args.shared / "dicom").iterdir())):
            yield "DICOM adults", image

    found, rows = watch(classifier, domain, tested())
    table = compare(watch(classifier, domain, films("train"))[1], watch(classifier, domain, films("val"))[1], rows, domain)
    result = {"machine": machine.describe(), "sets": found, "refused_by_score": table}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
