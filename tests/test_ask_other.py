"""Talk beside the point, and pictures that nobody can tell."""

import re
from collections import Counter

import numpy as np
import pytest

from chat.wording import LANGUAGES
from finetune.ask_other import TOPICS, ask_about_oddity, ask_other, claim_of
from finetune.oddities import FAMILIES, draw_oddity
from finetune.phrasebook import expand

HANGUL = re.compile("[가-힣]")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_topic_is_drawn_about_equally_often_and_answered_in_its_language(language):
    told = [ask_other(np.random.default_rng(seed), language, held_out=seed % 4 == 0) for seed in range(800)]
    kinds = Counter(exchange.kind for exchange in told)
    assert set(kinds) == {f"other_{topic}" for topic in TOPICS}
    assert min(kinds.values()) > 60
    for exchange in told:
        assert exchange.claim is None
        assert bool(HANGUL.search(exchange.answer)) == (language == "ko")
        assert not set("{}[]|") & set(exchange.answer)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_claimed_about_an_oddity(language):
    for seed in range(300):
        told = ask_about_oddity(np.random.default_rng(seed), language, 3, held_out=seed % 4 == 0)
        assert len(told) == 3
        for exchange in told:
            assert exchange.claim == claim_of(exchange.answer, exchange.kind, language) == "cannot"
            assert bool(HANGUL.search(exchange.answer)) == (language == "ko")


def test_an_answer_that_describes_claims_no_cannot():
    assert claim_of("There is a red star.", "oddity", "en") is None
    assert claim_of("빨간 별이 보입니다.", "oddity", "ko") is None


def test_an_oddity_depends_on_nothing_but_its_seed():
    for seed in range(40):
        one, other = (draw_oddity(np.random.default_rng(seed)) for _ in range(2))
        assert one.tobytes() == other.tobytes()
        assert one.mode == "RGB"
        assert all(300 <= side <= 600 for side in one.size)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_family_fills_any_size(family):
    for seed, size in enumerate([(300, 600), (600, 300), (451, 337)]):
        picture = family(np.random.default_rng(seed), size)
        assert (picture.size, picture.mode) == (size, "RGB")


def test_a_line_stands_for_each_of_its_choices():
    assert expand("Is it [red|] [here|there ]?") == ["Is it red here?", "Is it red there?", "Is it here?", "Is it there?"]
