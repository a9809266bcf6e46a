"""Reference: what a classifier's maps are read against, and the limits of their checks, as files beside its weights.

Knows its own two files and the weights they were made with. Does not know how maps are drawn or judged.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vision.evidence import CheckpointError
from vision.resnet import Look, digest

Floats = NDArray[np.float32]
FACTS, MAPS = "saliency.json", "saliency.safetensors"
GRADIENT = np.float16
"""What gradients are kept in: they are nearly all of the file."""


@dataclass(frozen=True)
class Limits:
    """What the numbers of a map may be. `python -m finetune.reference` sets them so that each check loses 2 to 4 % of the
    called films of the validation part; the defaults, for a classifier without its file, are about what it gave for the first.

    Shares are of the mass of the last stage's peak, the region of at least half of the maximum around it. `border`: on padding
    or within 3 % of the film's edge. `marker`: within half a cell of something burned in. `outside_lungs`: off the lungs that
    grey values suggest by half a cell and by 3 % of the film; `outside_mask`: off a segmenter's, in its place where there is
    one. `shift`: least correlation of the last stage's map with that of the film moved by 2 %.
    """

    border: float = 0.1
    marker: float = 0.2
    outside_lungs: float = 0.35
    shift: float = 0.9
    outside_mask: float = 0.65


@dataclass(frozen=True)
class Baseline:
    """What the classifier says of training films without a label; float32, of the films as they are and of their mirror images.

    `coarse` (2, h, w): the mean map of the last stage. A cell then says how much more it speaks for the label than the same
    place of such films does (difference from a reference, as in DeepLIFT, Shrikumar et al. 2017): without it the ever-same
    background decides where the map is highest. `gradient` (2, channels, H, W): the mean positive gradient of the label's
    logit by the features of the stage before; `fine` and `spread` (2, H, W): the mean and the standard deviation, over 0, of
    the maps that these are read as with it.
    """

    coarse: Floats
    gradient: Floats
    fine: Floats
    spread: Floats

    def fits(self, look: Look) -> bool:
        """Whether a pass has features of these shapes."""
        shapes = [None if maps is None else maps.shape[1:] for maps in (look.features, look.finer)]
        return self.gradient.shape[1:] == shapes[1] and shapes[0] is not None and self.coarse.shape[1:] == shapes[0][1:]


@dataclass(frozen=True)
class Reference:
    """Per label a baseline, and the limits that fit this classifier."""

    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    limits: Limits = Limits()

    @classmethod
    def load(cls, folder: Path, weights: str | None = None) -> "Reference":
        """The reference beside a classifier's weights, whose `digest` may be given; an empty one where there is none.

        Raises CheckpointError when it is damaged, or was made with other weights than those beside it.
        """
        if not (folder / FACTS).exists() and not (folder / MAPS).exists():
            return cls()
        again = f"Run python -m finetune.reference --model {folder.name} again."
        try:
            facts, maps = json.loads((folder / FACTS).read_text("utf-8")), load_file(folder / MAPS)
            limits = Limits(**{name: float(value) for name, value in facts["limits"].items()})
            fitted_to = facts["classifier"]
            baselines = {
                label: Baseline(*(maps[f"{part}/{label}"].astype(np.float32) for part in Baseline.__annotations__))
                for label in {name.partition("/")[2] for name in maps}
            }
            if not all(map(_is_sound, baselines.values())):
                raise ValueError("other shapes, or not numbers")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise CheckpointError(f"The saliency reference in {folder.name} cannot be read. {again}") from error
        if fitted_to != (weights or digest(folder)):
            raise CheckpointError(f"The saliency reference in {folder.name} was made with another classifier. {again}")
        return cls(baselines, limits)

    def save(self, folder: Path) -> None:
        """Write it beside the weights that it was made with."""
        maps = {
            f"{part}/{name}": np.ascontiguousarray(values, GRADIENT if part == "gradient" else np.float32)
            for name, baseline in self.baselines.items()
            for part, values in vars(baseline).items()
        }
        save_file(maps, folder / MAPS)
        facts = {"classifier": digest(folder), "limits": asdict(self.limits)}
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def _is_sound(baseline: Baseline) -> bool:
    shapes = [values.shape for values in vars(baseline).values()]
    is_paired = [len(shape) for shape in shapes] == [3, 4, 3, 3] and all(shape[0] == 2 for shape in shapes)
    is_one_grid = is_paired and shapes[1][2:] == shapes[2][1:] == shapes[3][1:]
    return is_one_grid and baseline.spread.min() > 0 and all(np.isfinite(values).all() for values in vars(baseline).values())
