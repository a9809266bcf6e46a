"""Closed questions with known answers: how far a checkpoint's P(yes) can be trusted, and from where on.

Knows what to ask about figures, and the statistics of the answers. Does not know files, devices or the command line.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chat.engine.base import Scorer
from chat.prompt import layout_search
from chat.verified import Calibration
from chat.wording import Language, search_prompt
from vision.figures import Size, Truth, draw_figure, falsify

OPTIONS: dict[Language, tuple[str, str]] = {"en": ("Yes", "No"), "ko": ("예", "아니오")}

FEWEST_PICTURES = 8
"""Fewer than these give no threshold: a coin orders 8 pairs perfectly once in 12,870 times, but 4 once in 70."""

RESAMPLES = 1000
SEED = 70_000

_COLOURS_KO = {"red": "빨간", "green": "초록색", "blue": "파란", "yellow": "노란"}
_SHAPES_KO = {"circle": "원", "square": "사각형", "triangle": "삼각형", "star": "별"}
_SIDES: dict[Language, dict[str | None, str]] = {
    "en": {None: "", "left": " on the left side", "right": " on the right side"},
    "ko": {None: "", "left": "왼쪽의 ", "right": "오른쪽의 "},
}
_ALSO: dict[Language, tuple[str, ...]] = {
    "en": (
        "Can you see {thing} in this picture? Answer Yes or No.",
        "Does this picture show {thing}? Answer with Yes or No only.",
    ),
    "ko": (
        "이 그림에서 {thing} 보입니까? 예 또는 아니오로 답하세요.",
        "이 그림에 {thing} 있나요? 예 또는 아니오로만 답해 주세요.",
    ),
}
"""Phrasings beside the one that the search itself uses, so that a threshold is not one sentence's."""


def ask(scorer: Scorer, number: int, size: Size, language: Language) -> tuple[float, float]:
    """P(yes) of a question that is true of figure `number`, and of one that is not. Raises EngineError."""
    rng = np.random.default_rng([SEED, number])
    image, truth = draw_figure(rng, size)
    asked = [_phrase(said, number, language) for said in (truth, falsify(truth, rng))]
    yes = scorer.choose([layout_search(None, image, question) for question in asked], OPTIONS[language])[:, 0]
    return float(yes[0]), float(yes[1])


def _phrase(said: Truth, number: int, language: Language) -> str:
    if language == "ko":
        thing = f"{_SIDES['ko'][said.side]}{_COLOURS_KO[said.colour]} {_SHAPES_KO[said.shape]}이"
    else:
        thing = f"a {said.colour} {said.shape}{_SIDES['en'][said.side]}"
    style = number // 2 % (1 + len(_ALSO[language]))  # sizes alternate, so each meets every phrasing
    return _ALSO[language][style - 1].format(thing=thing) if style else search_prompt(language, thing)


def calibrate(pairs: Sequence[tuple[float, float]]) -> Calibration:
    """The figures of some pairs of P(yes), where yes is true and where it is not.

    Whole pictures are drawn anew for the intervals (Efron 1979), as the two questions about one belong together.
    """
    scores = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    rng = np.random.default_rng(SEED)
    drawn = [scores[rng.integers(len(scores), size=len(scores))] for _ in range(RESAMPLES)]
    low, high = _interval([_auc(sample) for sample in drawn])
    threshold = _threshold(scores) if len(scores) >= FEWEST_PICTURES and low > 0.5 else None
    return Calibration(
        questions=scores.size,
        auc=_auc(scores),
        auc_interval=(low, high),
        accuracy_at_half=_accuracy(scores, 0.5),
        yes_bias=float(scores[:, 1].mean()),
        threshold=threshold,
        threshold_interval=None if threshold is None else _interval([_threshold(sample) for sample in drawn]),
        balanced_accuracy=None if threshold is None else _accuracy(scores, threshold),
    )


def _auc(scores: NDArray[np.float64]) -> float:
    """How often a true yes scores above a false one, ties counted half (Mann and Whitney 1947)."""
    true, false = scores[:, :1], scores[:, 1]
    return float((true > false).mean() + (true == false).mean() / 2)


def _accuracy(scores: NDArray[np.float64], threshold: float) -> float:
    return float((scores[:, 0] >= threshold).mean() + (scores[:, 1] < threshold).mean()) / 2


def _threshold(scores: NDArray[np.float64]) -> float:
    """The middle one of the cuts with the best balanced accuracy; cuts lie halfway between neighbouring scores."""
    levels = np.unique(scores)
    cuts = (levels[1:] + levels[:-1]) / 2 if len(levels) > 1 else levels
    accuracies = (scores[:, :1] >= cuts).mean(axis=0) + (scores[:, 1:] < cuts).mean(axis=0)
    best = np.flatnonzero(accuracies == accuracies.max())
    return float(cuts[best[len(best) // 2]])


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
