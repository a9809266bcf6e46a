"""The domain check: is this an upright frontal chest film at all, and of the population that was trained on?

Knows one linear head on what the classifier's stages saw, and two facts of the pixels. Does not know language, nor how the
head was fitted (`finetune/domain.py`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vision.evidence import CheckpointError
from vision.resnet import Look, digest
from vision.study import Study

WEIGHTS, FACTS = "domain.safetensors", "domain.json"
CLASSES = ("child", "adult", "inverted", "turned", "other_view", "not_a_film")
"""What the head tells apart: the population trained on, other frontal films, and what is refused."""
FILMS = 2  # so many of CLASSES are films of the right kind

Reason = Literal["blank", "colour", "inverted", "turned", "other_view", "not_a_film", "adult"]

_FILM_MODALITIES = frozenset({"CR", "DX", "RG", "RF", "XA", "SC", "OT"})
_OTHER_VIEWS = frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO"})
_BLANK = 3.0  # grey levels of standard deviation; the palest of 1,300 treated films has six times as many
_COLOURFUL = 8.0  # RGB levels that no tint explains; treated films stay below 3, a phone's photograph of a screen included
_THUMBNAIL, _PATCHWORK = 16, 64


@dataclass(frozen=True)
class Verdict:
    """Whether an image is an upright frontal chest film, and one of the population trained on; `reason` is None when both hold.

    `score` is the log odds of a film against everything else; -inf where the pixels or the header alone decided.
    """

    in_domain: bool
    in_population: bool
    reason: Reason | None
    score: float


@dataclass(frozen=True)
class Domain:
    """One multinomial logistic head over `CLASSES`, fitted with outlier exposure (Hendrycks et al. 2019), and two thresholds.

    `weight` (6, d) and `bias` (6,) act on `describe`. A film scores at least `film` in log odds against the rest; one of the
    population at least `population` in log odds against other films.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    film: float
    population: float

    @classmethod
    def load(cls, folder: Path, weights: str | None = None) -> "Domain | None":
        """The check that lies beside a classifier's weights, whose `digest` may be given; None where there is none.

        Raises CheckpointError when it is damaged, or was fitted to other weights than those beside it.
        """
        if not (folder / WEIGHTS).exists() and not (folder / FACTS).exists():
            return None
        again = f"Run python -m finetune.domain fit --model {folder.name} again."
        try:
            arrays, facts = load_file(folder / WEIGHTS), json.loads((folder / FACTS).read_text("utf-8"))
            head = cls(arrays["weight"], arrays["bias"], float(facts["film"]), float(facts["population"]))
            fitted_to = facts["classifier"]
            if head.weight.shape[:1] != head.bias.shape or head.bias.shape != (len(CLASSES),):
                raise ValueError("another number of classes")
            # A threshold that is no number would let everything pass.
            if not all(np.isfinite(part).all() for part in (head.weight, head.bias, head.film, head.population)):
                raise ValueError("not a number")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"The domain check in {folder.name} cannot be read. {again}") from error
        if fitted_to != (weights or digest(folder)):
            raise CheckpointError(f"The domain check in {folder.name} was fitted to another classifier. {again}")
        return head

    def judge(self, study: Study, look: Look) -> Verdict:
        """The verdict on a study whose image is the first of `look`; the header's facts and the pixels' come first."""
        reason = _obvious(study)
        if reason:
            return Verdict(False, False, reason, -np.inf)
        film, population, kinds = self.scores(describe([study.image], look))
        if film[0] < self.film:
            return Verdict(False, False, cast(Reason, CLASSES[FILMS + int(kinds[0])]), float(film[0]))
        is_known = bool(population[0] >= self.population)
        return Verdict(True, is_known, None if is_known else "adult", float(film[0]))

    def scores(self, described: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
        """(n, d) -> (n,) log odds of a film, (n,) of the population among films, (n,) the likeliest refused class."""
        logits = described @ self.weight.T + self.bias
        films, others = logits[:, :FILMS], logits[:, FILMS:]
        odds = np.logaddexp.reduce(films, 1) - np.logaddexp.reduce(others, 1)
        return odds, films[:, 0] - films[:, 1], others.argmax(1)


def describe(images: list[Image.Image], look: Look) -> NDArray[np.float32]:
    """(n, d): what every stage of the classifier saw of the images, and a 16 x 16 grey thumbnail for which way up they are.

    Raises CheckpointError for a classifier whose stages are not seen.
    """
    if look.stages is None:
        raise CheckpointError("The domain check needs a ResNet: use the classifier that it came with, or remove the check.")
    size = (_THUMBNAIL, _THUMBNAIL)
    grey = [np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32).ravel() / 255 for image in images]
    return np.concatenate([look.stages, np.stack(grey)], 1)


def _obvious(study: Study) -> Reason | None:
    """What the header or plain pixels already say."""
    if (study.modality or "CR") not in _FILM_MODALITIES or (study.view or "").upper() in _OTHER_VIEWS:
        return "other_view"
    small = study.image.convert("RGB").resize((_PATCHWORK, _PATCHWORK), Image.Resampling.BOX)
    rgb = np.asarray(small, np.float64).reshape(-1, 3)
    if rgb.mean(1).std() < _BLANK and rgb.std(0).max() < _BLANK:
        return "blank"
    return "colour" if _colourfulness(rgb) > _COLOURFUL else None


def _colourfulness(rgb: NDArray[np.float64]) -> float:
    """Root mean square, in RGB levels, of the colour of (n, 3) pixels that a quadratic curve in grey leaves.

    A tint, a cast and a colour scale's gentle run are such curves: a tinted film is still a film.
    """
    grey = rgb.mean(1)
    powers = np.stack([np.ones_like(grey), grey, grey**2], 1)
    colour = rgb - grey[:, None]
    left = colour - powers @ np.linalg.lstsq(powers, colour, rcond=None)[0]
    return float(np.sqrt((left**2).mean()))
