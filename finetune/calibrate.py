"""Calibration: temperature, prior, threshold and conformal quantiles, from films that were not trained on.

Knows logits and labels. Does not know models or images.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit, logit

from vision.resnet import Calibration

SENSITIVITY = 0.94
"""What the threshold has to keep of the positives it was chosen on.

Elsewhere normal films score higher than where one trained: published classifiers of this task lose specificity there and
keep their sensitivity. So the threshold is the highest that keeps this share, not the one that is best where it was chosen.
"""


def calibrate(
    logits: NDArray[np.float32], labels: NDArray[np.intp], names: tuple[str, ...], positive: str | None, coverage: float = 0.95
) -> Calibration:
    """The calibration of (n, k) logits of films whose (n,) labels index `names`.

    Temperature and one bias per class by maximum likelihood (bias-corrected temperature scaling, Alexandari et al. 2020);
    class-conditional conformal quantiles with the finite-sample correction.
    """
    temperature, bias = _scaling(logits, labels)
    scaled = Calibration(temperature, bias)
    probabilities = scaled.probabilities(logits)
    quantiles = {}
    for index, name in enumerate(names):
        misses = np.sort(1 - probabilities[labels == index, index])
        rank = int(np.ceil((len(misses) + 1) * coverage)) - 1
        quantiles[name] = float(misses[rank]) if rank < len(misses) else 1.0
    sick = names.index(positive) if positive in names else None
    threshold = 0.5 if sick is None else _threshold(probabilities[:, sick], labels == sick)
    return Calibration(temperature, bias, positive if sick is not None else None, threshold, quantiles, coverage)


def _scaling(logits: NDArray[np.float32], labels: NDArray[np.intp]) -> tuple[float, tuple[float, ...]]:
    x, y = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    log_scale, bias = torch.zeros((), dtype=torch.float64), torch.zeros(x.shape[1], dtype=torch.float64)
    parameters = [log_scale.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        # The small pull keeps separable films from asking for endless confidence.
        value = F.cross_entropy(x * log_scale.exp() + bias, y) + 1e-3 * (log_scale**2 + (bias**2).sum())
        value.backward()
        return value

    optimizer.step(loss)
    centred = bias.detach() - bias.detach().mean()
    return float((-log_scale.detach()).exp()), tuple(float(b) for b in centred)


def _threshold(probabilities: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """The middle of the gap, in logits, below the highest threshold that keeps `SENSITIVITY` of the positives."""
    ranked = np.sort(probabilities[positive])[::-1]
    kept = ranked[min(len(ranked), int(np.ceil(SENSITIVITY * len(ranked)))) - 1]
    below = probabilities[probabilities < kept]
    floor = below.max() if below.size else kept
    return float(expit((logit(np.clip(kept, 1e-6, 1 - 1e-6)) + logit(np.clip(floor, 1e-6, 1 - 1e-6))) / 2))
