"""Emphasis: which tokens of an answer make a claim, and how much more they count than the rest.

Knows words and a vocabulary. Does not know models or pictures. How an answer is worded is drawn at random and cannot be
learnt; what it claims can be seen. Counted alike, the wording would drown the claim.
"""

import torch
from transformers import PreTrainedTokenizerBase

from finetune.scene_words import COLOURS_KO, KINDS_KO, NUMBERS, SIZES_KO

CLAIM = 8.0
"""How many times a token of a claim counts."""
MARK = 3.0
"""How many times a comma or a colon counts: in a list they say whether there is one more."""

_WHOLE = frozenset(
    {
        *("yes", "no", "none", "upper", "lower", "middle", "centre", "left", "right"),
        *("normal", "pneumonia", "bacterial", "viral", "clear", "hazy"),
        *("예", "아니오", "있습니다", "있어요", "없습니다", "없어요", "위", "위에", "아래", "아래에", "큰"),
        *("원", "원은", "원이", "원을", "한", "두", "세", "네"),
        *COLOURS_KO,
        *KINDS_KO,
        *(f"{kind}s" for kind in KINDS_KO),
        *SIZES_KO,
        *NUMBERS["en"],
    }
)
_BEGINNINGS = (
    *("왼쪽", "오른쪽", "가운데", "한가운데", "다섯", "여섯", "일곱", "작은", "중간"),
    *("정상", "폐렴", "세균", "바이러스", "상부", "하부"),
    *(word for word in (*COLOURS_KO.values(), *KINDS_KO.values()) if len(word) > 1),
)
"""Beginnings of Korean words whose endings vary."""


def weigh(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """(vocabulary,) weights of the tokens in the loss: CLAIM for what is part of a claim, MARK for a list's, 1 for the rest."""
    weight = torch.ones(len(tokenizer))
    for piece, token in tokenizer.get_vocab().items():
        word = piece.removeprefix("\u2581").lower()
        if word in _WHOLE or word.startswith(_BEGINNINGS) or (word.isdigit() and len(word) == 1):
            weight[token] = CLAIM
        elif word in (",", ":"):
            weight[token] = MARK
    return weight
