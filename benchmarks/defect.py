"""Find defect: the missing disc in photographs of power-line insulators, without training and with normal images.

    python -m benchmarks.defect --data ../shared/data/insulators [--half held_out|seen|all] [--json]

The method was made while looking at the half of the images whose names' hashes are even (`seen`); `held_out` is the other half.
`hit@1`: the centre of the best box lies in the defect's; `iou@1`: how much both share. With normal images: those of the other
half are given. The defects are composited, the normal images are not: `shortcut` is the best AUROC, with its sign chosen
on the other half, of what a file's bytes, its quantisation, its block seams and its pale halos say. What a method has above it
is what it knows of insulators.
"""

import argparse
import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from benchmarks import machine
from vision.anomaly import Inspection, Memory, inspect, remember
from vision.search import Hit
from vision.tiling import Box


def is_held_out(path: Path) -> bool:
    return int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % 2 == 1


def defects(path: Path) -> list[Box]:
    """The boxes beside a photograph, in VOC's format."""
    file = path.with_suffix(".defect.xml")
    if not file.exists():
        return []
    edges = ("xmin", "ymin", "xmax", "ymax")
    boxes = ET.parse(file).iter("bndbox")
    return [Box(*(int(float(box.findtext(edge) or 0)) for edge in edges)) for box in boxes]


def iou(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    common = max(0, width) * max(0, height)
    return common / (one.size[0] * one.size[1] + other.size[0] * other.size[1] - common)


def is_inside(hit: Hit, box: Box) -> bool:
    x, y = (hit.box.left + hit.box.right) / 2, (hit.box.top + hit.box.bottom) / 2
    return box.left <= x < box.right and box.top <= y < box.bottom


def measure(paths: Sequence[Path], memory: Memory | None) -> dict[str, float]:
    opened = ((Image.open(path).convert("RGB"), defects(path)) for path in tqdm(paths, disable=None))
    results: list[tuple[Inspection, list[Box]]] = [(inspect(image, memory), boxes) for image, boxes in opened]
    broken = [(found.hits, boxes) for found, boxes in results if boxes]
    first = [bool(hits) and any(is_inside(hits[0], box) for box in boxes) for hits, boxes in broken]
    third = [any(is_inside(hit, box) for hit in hits[:3] for box in boxes) for hits, boxes in broken]
    shared = [max(iou(hits[0].box, box) for box in boxes) if hits else 0.0 for hits, boxes in broken]
    auroc = roc_auc_score([bool(boxes) for _, boxes in results], [found.score for found, _ in results])
    return {
        "images": len(results), "hit@1": float(np.mean(first)), "hit@3": float(np.mean(third)),
        "iou@1": float(np.mean(shared)), "iou@1>=0.3": float(np.mean(np.array(shared) >= 0.3)), "auroc": float(auroc),
        "rows_found": float(np.mean([found.rows > 0 for found, _ in results])),
    }  # fmt: skip


def telltales(path: Path) -> list[float]:
    """What a file gives away without a look at its insulators: size, quantisation, block seams, pale halos."""
    with Image.open(path) as file:
        tables = [sum(table) for table in getattr(file, "quantization", {}).values()]
        grey = np.asarray(file.convert("L"), np.float32)
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    seams = steps[7::8].mean() / max(1e-6, steps.mean())
    bend = np.abs(grey[2:, 2:] - 2 * grey[1:-1, 1:-1] + grey[:-2, :-2])
    return [float(path.stat().st_size), float(sum(tables)), float(seams), float(np.percentile(bend, 99))]


def shortcut(seen: Sequence[Path], judged: Sequence[Path]) -> float:
    def areas(paths: Sequence[Path]) -> list[float]:
        truths, values = [bool(defects(path)) for path in paths], np.array([telltales(path) for path in paths])
        return [float(roc_auc_score(truths, column)) for column in values.T]

    before, now = areas(seen), areas(judged)
    best = int(np.argmax([abs(area - 0.5) for area in before]))
    return now[best] if before[best] >= 0.5 else 1 - now[best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--half", choices=("held_out", "seen", "all"), default="held_out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    paths = sorted(given.data.glob("*/*.jpg"))
    judged = [path for path in paths if given.half == "all" or is_held_out(path) == (given.half == "held_out")]
    others = [path for path in paths if path not in judged]
    normal = [Image.open(path).convert("RGB") for path in others if not defects(path)]
    result = {"machine": machine.describe(), "half": given.half, "without_training": measure(judged, None)}
    if normal:
        result |= {"normal_images": len(normal), "with_normal": measure(judged, remember(normal))}
        result |= {"shortcut_auroc": shortcut(others, judged)}
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
