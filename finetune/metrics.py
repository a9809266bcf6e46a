"""Metrics: what a classifier's probabilities are worth on films with known labels.

Knows probabilities, labels and patients. Does not know models or files.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.floating]
Truths = NDArray[np.bool_]


def auc(scores: Floats, positive: Truths) -> float | None:
    """Area under the ROC curve; None when only one class is there."""
    return float(roc_auc_score(positive, scores)) if 0 < positive.sum() < len(positive) else None


def expected_calibration_error(scores: Floats, positive: Truths, bins: int = 15) -> float:
    """Mean gap between confidence in the likelier label and how often it is right, in `bins` equal bins (Guo et al. 2017)."""
    confidence, right = np.maximum(scores, 1 - scores), (scores >= 0.5) == positive
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(float((confidence[place == b] - right[place == b]).sum())) for b in range(bins)]
    return sum(gaps) / len(scores)


def counts(scores: Floats, positive: Truths, threshold: float) -> dict[str, int]:
    """True and false positives and negatives at `threshold`."""
    called = scores >= threshold
    return {
        "tp": int((called & positive).sum()),
        "fp": int((called & ~positive).sum()),
        "tn": int((~called & ~positive).sum()),
        "fn": int((~called & positive).sum()),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def grade(scores: Floats, positive: Truths, threshold: float) -> dict[str, float | None]:
    """Accuracy, AUC, F1, sensitivity, specificity and ECE; None for what one class alone cannot say."""
    c = counts(scores, positive, threshold)
    return {
        "accuracy": _share(c["tp"] + c["tn"], len(scores)),
        "auc": auc(scores, positive),
        "f1": _share(2 * c["tp"], 2 * c["tp"] + c["fp"] + c["fn"]),
        "sensitivity": _share(c["tp"], c["tp"] + c["fn"]),
        "specificity": _share(c["tn"], c["tn"] + c["fp"]),
        "ece": expected_calibration_error(scores, positive),
    }


def bootstrap(
    measure: Callable[[NDArray[np.intp]], dict[str, float | None]], groups: Sequence[str], rounds: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of what `measure` says of resampled indices; whole `groups` (patients) are drawn."""
    rng = np.random.default_rng(seed)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    drawn: dict[str, list[float]] = {}
    for _ in range(rounds):
        indices = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        for name, value in measure(indices).items():
            if value is not None:
                drawn.setdefault(name, []).append(value)
    return {name: (float(np.percentile(v, 2.5)), float(np.percentile(v, 97.5))) for name, v in drawn.items()}


def shortcut_auc(features: Floats, positive: Truths, groups: Sequence[str]) -> float | None:
    """AUC of a logistic regression on (n, d) features that show no anatomy, cross-validated over patients.

    What a model can reach by a shortcut; None when there are too few patients of a class to say.
    """
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    folds = min(5, *(len(np.unique(codes[positive == side])) for side in (True, False)))
    if folds < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    said: Any = cross_val_predict(model, features, positive, groups=codes, cv=split, method="predict_proba")
    return auc(said[:, 1], positive)
