"""Dialogues about scenes say the truth, in sentences, and their claims can be read back."""

import re
from collections import Counter
from itertools import chain, product

import numpy as np
import pytest

from chat.wording import search_prompt
from finetune import scene_en, scene_ko
from finetune.ask_scenes import FOLLOW_UPS, KINDS, ask_about_scene, ask_kind, claim_of
from finetune.exchange import Exchange
from finetune.phrasebook import book
from finetune.scene_view import View
from finetune.scene_words import CELLS, EnglishNoun, KoreanNoun, Ref, Written
from finetune.scenes import HELD_OUT, Scene, draw_scene

LANGUAGES = ("ko", "en")
HANGUL = re.compile("[가-힣]")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(np.random.default_rng(seed), held_out=seed % 5 == 0) for seed in range(300)]


@pytest.fixture(scope="module")
def single(scenes) -> dict[str, list[Exchange]]:
    """An exchange of every kind that each scene can carry, by language."""
    rng = np.random.default_rng(1)
    found = {language: [ask_kind(s, k, rng, language) for s, k in product(scenes, KINDS)] for language in LANGUAGES}
    return {language: [exchange for exchange in some if exchange] for language, some in found.items()}


@pytest.fixture(scope="module")
def dialogues(scenes) -> dict[str, list[list[Exchange]]]:
    rng = np.random.default_rng(2)
    return {language: [ask_about_scene(s, rng, language, 5) for s in scenes for _ in range(4)] for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_claim_is_read_back(single, dialogues, language):
    for exchange in single[language] + list(chain(*dialogues[language])):
        assert claim_of(exchange.answer, exchange.kind, language) == exchange.claim, exchange


@pytest.mark.parametrize("language", LANGUAGES)
def test_yes_and_no_are_balanced(single, dialogues, language):
    votes = Counter((e.kind, e.claim) for e in single[language] + list(chain(*dialogues[language])) if e.claim in ("yes", "no"))
    for kind in ("exists", "search", "relation", "check", "domain", "follow_exists"):
        assert 0.4 <= votes[kind, "yes"] / (votes[kind, "yes"] + votes[kind, "no"]) <= 0.6, kind


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_whole_and_in_their_language(single, dialogues, language):
    for exchange in single[language] + list(chain(*dialogues[language])):
        assert not re.search(r"[{}|]|  |None", exchange.question + exchange.answer), exchange
        assert bool(HANGUL.search(exchange.answer)) == (language == "ko"), exchange
        assert bool(HANGUL.search(exchange.question)) == (language == "ko"), exchange
        assert exchange.answer.endswith(".") and (
            language == "ko" or exchange.answer[0] in '"' or not exchange.answer[0].islower()
        )


@pytest.mark.parametrize(("language", "table"), [("en", scene_en), ("ko", scene_ko)])
def test_held_out_phrasings_are_never_seen_ones(language, table):
    def bare(text: str) -> str:
        return re.sub(r"[^\w{}:]", "", text).lower()

    questions = book("scene", language).questions
    seen = {bare(text) for phrasings in questions.values() for text in phrasings.seen}
    for key, phrasings in questions.items():
        assert phrasings.held_out and not {bare(text) for text in phrasings.held_out} & seen, key
        if key in KINDS:
            assert len(phrasings.seen) >= 12 and len(phrasings.held_out) >= 3, key
    assert all(len(set(answers.seen)) >= 3 for answers in table.ANSWERS.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_dialogues_hold_no_question_of_training(scenes, dialogues, language):
    rng, asked = np.random.default_rng(3), {e.question.lower().rstrip("?.") for e in list(chain(*dialogues[language]))}
    for scene in scenes:
        for exchange in ask_about_scene(scene, rng, language, 5, held_out=True):
            assert exchange.kind == "search" or exchange.question.lower().rstrip("?.") not in asked, exchange


@pytest.mark.parametrize("language", LANGUAGES)
def test_training_scenes_are_never_asked_for_a_held_out_pair(scenes, language):
    rng = np.random.default_rng(4)
    pairs = [Ref(kind=kind, colour=colour).noun(language) for colour, kind in HELD_OUT]
    for scene in scenes:
        if not any((item.colour, item.kind) in HELD_OUT for item in scene.items):
            for exchange in ask_about_scene(scene, rng, language, 8):
                assert not any(re.search(rf"(^|\s){pair}", exchange.question + " " + exchange.answer) for pair in pairs), (
                    exchange
                )


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_turns_in_five_follow_up(dialogues, language):
    later = [exchange.kind for turns in dialogues[language] for exchange in turns[1:]]
    assert 0.33 <= sum(kind in FOLLOW_UPS for kind in later) / len(later) <= 0.47
    assert set(FOLLOW_UPS) <= set(later)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_search_is_the_fixed_prompt(single, language):
    asked = {exchange.question for exchange in single[language] if exchange.kind == "search"}
    pattern = search_prompt(language, "THING").replace("?", r"\?").replace("THING", ".+")
    assert asked and all(re.fullmatch(pattern, question) for question in asked)


def test_a_description_fits_one_item(scenes):
    rng = np.random.default_rng(5)
    for scene in scenes:
        view = View(scene)
        for without in ("kind", "colour", "size", "cell"):
            found = view.single(rng, without)
            if found:
                index, ref = found
                assert getattr(ref, without) is None and view.fitting(ref) == [index]


def test_a_place_keeps_its_distance_from_the_borders_of_the_grid(scenes):
    for scene in scenes:
        view = View(scene)
        for (x, y), cell in zip(view.centres, view.cells, strict=True):
            margin = min(abs(at - border) for at in (x, y) for border in (1 / 3, 2 / 3))
            assert (cell is None) == (margin < 0.05)
            assert cell is None or cell == CELLS[3 * int(3 * y) + int(3 * x)]


def test_a_count_is_the_truth(scenes):
    rng = np.random.default_rng(6)
    for scene in scenes:
        view = View(scene)
        for _ in range(5):
            group = view.group(rng)
            number = sum(group.kind in (None, i.kind) and group.colour in (None, i.colour) for i in scene.items)
            assert len(view.fitting(group)) == number and (number <= 6 or len(scene.items) == 7)


@pytest.mark.parametrize(
    ("answer", "kind", "claim"),
    [
        ("It's in the top-left corner.", "position", "upper left"),
        ("별의 위치는 한가운데입니다.", "position", "centre"),
        ("오른쪽에 있어요.", "position", "middle right"),
        ("There are two red ones.", "count", "2"),
        ("빨간 원은 하나도 없어요.", "count", "0"),
        ("세 개 있습니다.", "count", "3"),
        ("네, 있어요.", "exists", "yes"),
        ("아니요.", "search", "no"),
        ("검은색이에요.", "colour", "black"),
        ("It says EXIT.", "read", "EXIT"),
        ("Hello there.", "colour", None),
    ],
)
def test_a_claim_is_read_from_a_models_own_words(answer, kind, claim):
    assert claim_of(answer, kind, "en") == claim


def test_particles_and_articles_follow_their_word():
    assert (
        f"{KoreanNoun('빨간 별'):이} {KoreanNoun('하트'):이} {KoreanNoun('원'):은} {KoreanNoun('마름모'):을}"
        == "빨간 별이 하트가 원은 마름모를"
    )
    assert (
        f"{Written('STOP'):라고} {Written('TAXI'):라고} {Written('73'):이에요} {Written('4'):이에요}"
        == '"STOP"이라고 "TAXI"라고 "73"이에요 "4"예요'
    )
    assert (
        f"{EnglishNoun('orange ring'):a}, {EnglishNoun('red cross'):many}, {EnglishNoun('star', 'at the upper left'):the}"
        == ("an orange ring, red crosses, the star at the upper left")
    )


def test_an_unknown_kind_is_refused(scenes):
    with pytest.raises(ValueError, match="There is no kind"):
        ask_kind(scenes[0], "weather", np.random.default_rng(0), "en")
