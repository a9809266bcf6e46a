"""Pairs: films with masks of known classes, each patient on one side of the one split.

Knows files, the two layouts of masks, and how a mask of both lungs is told apart. Does not know models or augmentation.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from finetune.records import RecordError, Split, patient_of, split_of
from finetune.samples import digest_of
from vision.evidence import LUNGS

log = logging.getLogger(__name__)
IGNORE = 127
CLASSES = "classes.txt"
Index = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """A film and its mask, uint8 (height, width) in the film's pixels: 0 background, 1 to k the classes, 127 ignored."""

    path: Path
    mask: Index
    patient: str
    split: Split
    digest: str

    def film(self) -> Image.Image:
        with Image.open(self.path) as image:
            return image.convert("L")


def find_pairs(root: Path, known: Sequence[str] | None = None) -> tuple[list[Pair], tuple[str, ...]]:
    """The pairs of `root/images` and `root/masks`, sorted, and their classes; films of equal pixels are kept once.

    A mask is one index image `masks/STEM.png`, its values 1 to k named line by line in `root/classes.txt` (else by `known`,
    the classes of a model, else "class 1" and so on), or one black and white image per class, `masks/CLASS/STEM.png`. 127 is
    ignored, and so is what two classes claim. Masks of 0 and 255 alone are of both lungs, unless there is one
    class. A film without a mask or whose lungs cannot be told apart is left out and counted. Raises RecordError for masks
    of another size or with values that no class has.
    """
    if not (root / "images").is_dir() or not (root / "masks").is_dir():
        raise RecordError(f"There are no pairs in {root.name}/. It needs folders images/ and masks/ with equal names.")
    folders = sorted(folder.name for folder in (root / "masks").iterdir() if folder.is_dir())
    named = (root / CLASSES).read_text("utf-8").splitlines() if (root / CLASSES).is_file() else []
    listed = tuple(folders or [name.strip() for name in named if name.strip()])
    if known and named and not folders and listed != tuple(known):
        raise RecordError(f"{CLASSES} names {', '.join(listed)}, but the model's classes are {', '.join(known)}. Give its own.")
    classes = tuple(known or listed)
    read: dict[str, Pair] = {}
    masks: dict[str, Index] = {}
    skipped = {"without a mask": 0, "with lungs that cannot be told apart": 0, "with pixels seen before": 0}
    for path in sorted(file for file in (root / "images").iterdir() if file.is_file() and not file.name.startswith(".")):
        files = [(name, root / "masks" / name / f"{path.stem}.png") for name in folders or [""]]
        if not any(file.is_file() for _, file in files):
            skipped["without a mask"] += 1
            continue
        image = _open(path)
        digest = digest_of(image)
        if digest in read:
            skipped["with pixels seen before"] += 1
            continue
        found = {name: _values(file, image.size) for name, file in files if file.is_file()}
        masks[digest] = _stacked(found, classes, path.name) if folders else found[""]
        patient = patient_of(path.name)
        read[digest] = Pair(path, masks[digest], patient, split_of(patient), digest)
    if not folders and _are_black_and_white(masks.values()) and (len(classes) == 1 or classes in ((), LUNGS)):
        split = _single if len(classes) == 1 else split_lungs
        classes = classes or LUNGS
        parted = {digest: split(mask) for digest, mask in masks.items()}
        skipped["with lungs that cannot be told apart"] = sum(mask is None for mask in parted.values())
        masks = {digest: mask for digest, mask in parted.items() if mask is not None}
    classes = classes or tuple(f"class {v}" for v in range(1, 1 + max((_top(m) for m in masks.values()), default=0)))
    pairs = [Pair(p.path, masks[d], p.patient, p.split, d) for d, p in read.items() if d in masks]
    for pair in pairs:
        _refuse_unknown(pair, classes)
    log.info("%d pairs; left out: %s", len(pairs), ", ".join(f"{count} {why}" for why, count in skipped.items()))
    if not pairs:
        raise RecordError(f"No film in {root.name}/images has a mask to use. Name masks as their films: masks/STEM.png.")
    return pairs, classes


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecordError(f"{path.name} cannot be read as an image. Save it again, or take it out of the folder.") from error
    if image.mode[0] in "IF":
        raise RecordError(f"{path.name} has more than 8 bits a pixel. Save it with 8, windowed as it is to be seen.")
    return image


def _values(file: Path, size: tuple[int, int]) -> Index:
    """The values of a mask of `size` (width, height)."""
    image = _open(file)
    if image.size != size:
        (w, h), (width, height) = image.size, size
        raise RecordError(f"The mask {file.name} is {w} x {h} pixels, its film {width} x {height}. Make them equal.")
    if image.mode not in ("L", "P", "1"):
        raise RecordError(f"The mask {file.name} is in colour. Save it in grey, one value per class.")
    return np.array(image if image.mode != "1" else image.convert("L"))


def _stacked(found: dict[str, Index], classes: Sequence[str], name: str) -> Index:
    """One index mask of one black and white mask per class."""
    index = np.zeros_like(next(iter(found.values())))
    for label, values in found.items():
        if label not in classes:
            raise RecordError(f"The folder masks/{label} is none of the model's classes: {', '.join(classes)}. Take it away.")
        if not _are_black_and_white([values]) and not set(np.unique(values).tolist()) <= {0, 1, IGNORE}:
            raise RecordError(
                f"The mask of {label} for {name} has other values than 0, 255 and {IGNORE}. Make it black and white."
            )
        claimed = (values > 0) & (values != IGNORE)
        index = np.where(claimed & (index > 0) | (values == IGNORE), np.uint8(IGNORE), index)
        index = np.where(claimed & (index == 0), np.uint8(classes.index(label) + 1), index)
    return index


def _are_black_and_white(masks: Iterable[Index]) -> bool:
    return all(set(np.unique(mask).tolist()) <= {0, IGNORE, 255} for mask in masks)


def _single(mask: Index) -> Index | None:
    return np.where(mask == 255, np.uint8(1), mask)


def _top(mask: Index) -> int:
    return int(mask[mask != IGNORE].max(initial=0))


def _refuse_unknown(pair: Pair, classes: Sequence[str]) -> None:
    if (top := _top(pair.mask)) > len(classes):
        raise RecordError(
            f"The mask of {pair.path.name} has the value {top}, but the classes are 1 to {len(classes)}: {', '.join(classes)}. "
            f"Name more in {CLASSES}, or paint what is not known with {IGNORE}."
        )


def split_lungs(mask: Index) -> Index | None:
    """A mask of both lungs (255) -> 1 on the patient's right, 2 on the left; None when they cannot be told apart.

    The two largest components, the left one in the image being the right lung, crumbs ignored. Lungs that touch are cut at
    the thinnest column of the middle third, if it is thin.
    """
    lungs = mask == 255
    pieces, count = ndimage.label(lungs)
    areas = np.bincount(pieces.ravel(), minlength=3)[1:] / max(1, lungs.sum())
    order = np.argsort(areas)[::-1]
    if count and areas[order[0]] > 0.9:
        tall = lungs.sum(0)
        columns = tall.nonzero()[0]
        third = (columns[-1] + 1 - columns[0]) // 3
        middle = tall[columns[0] + third : columns[-1] + 1 - third]
        if not third or middle.min() > 0.2 * tall.max():
            return None
        cut = columns[0] + third + int(np.median((middle == middle.min()).nonzero()[0]))
        right, left = lungs.copy(), lungs.copy()
        right[:, cut:], left[:, :cut] = False, False
    elif count >= 2 and areas[order[1]] >= 0.1:
        first, second = (pieces == order[0] + 1), (pieces == order[1] + 1)
        middles = [float(np.mean(piece.nonzero()[1])) for piece in (first, second)]
        right, left = (first, second) if middles[0] < middles[1] else (second, first)
    else:
        return None
    index = np.where(lungs, np.uint8(IGNORE), np.where(mask == IGNORE, mask, np.uint8(0)))
    return np.where(right, np.uint8(1), np.where(left, np.uint8(2), index))
