"""Answers about films and phantoms say what is true, in the language asked."""

import re
from collections import Counter

import numpy as np
import pytest

from chat.wording import LANGUAGES, SECTIONS, section_prompt
from finetune.ask_films import (
    FILM_KINDS,
    PHANTOM_KINDS,
    ask_about_film,
    ask_about_phantom,
    ask_film_kind,
    ask_phantom_kind,
    claim_of,
    draw_evidence,
)
from finetune.hints import pointed_to
from finetune.phantom import draw_phantom
from finetune.phrasebook import book

HANGUL = re.compile("[가-힣]")
LATIN = re.compile("[A-Za-z]+")
LATIN_IN_KOREAN = {"X", "CT", "MRI", "R", "L", "Hilum"}


def assert_pure(answer: str, language: str) -> None:
    if language == "en":
        assert not HANGUL.search(answer), answer
    else:
        assert HANGUL.search(answer), answer
        assert set(LATIN.findall(answer)) <= LATIN_IN_KOREAN, answer


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(np.random.default_rng(seed)) for seed in range(24)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", FILM_KINDS)
def test_an_answer_about_a_film_claims_the_truth(kind, language):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        label = seed % 3
        evidence = draw_evidence(label, rng)[0] if seed % 4 else None
        told = ask_film_kind(label, kind, evidence, rng, language, held_out=seed % 5 == 0)
        assert claim_of(told.answer, kind, language) == told.claim, told
        assert "{" not in told.question + told.answer
        assert "[" not in told.question + told.answer
        assert told.answer[-1] in ".?"
        assert_pure(told.answer, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", PHANTOM_KINDS)
def test_an_answer_about_a_phantom_claims_the_truth(kind, language, phantoms):
    for seed in range(240):
        rng = np.random.default_rng(seed)
        told = ask_phantom_kind(phantoms[seed % 24], kind, rng, language, held_out=seed % 5 == 0)
        assert claim_of(told.answer, kind, language) == told.claim, told
        assert "{" not in told.question + told.answer
        assert_pure(told.answer, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_claim_about_a_film_follows_the_label_and_never_the_evidence(language):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        label = seed % 3
        evidence, _ = draw_evidence(label, rng)
        truth = "pneumonia" if label else "normal"
        told = {kind: ask_film_kind(label, kind, evidence, rng, language) for kind in ("pneumonia", "normal", "evidence")}
        assert told["pneumonia"].claim == ("yes" if label else "no")
        assert told["normal"].claim == ("no" if label else "yes")
        assert told["evidence"].claim == truth


CONTRADICTIONS = {"en": r"\bbut\b|however", "ko": r"다릅니다|하지만|맞지 않|동의하지 않|우선"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_evidence_is_contradicted_exactly_when_it_is_wrong(language):
    seen = Counter()
    for seed in range(600):
        rng = np.random.default_rng(seed)
        label = seed % 3
        evidence, right = draw_evidence(label, rng)
        if pointed_to(evidence) is None:
            assert not right
            continue
        answer = ask_film_kind(label, "evidence", evidence, rng, language).answer
        assert bool(re.search(CONTRADICTIONS[language], answer, re.IGNORECASE)) is not right, answer
        assert f"{round(100 * evidence.findings[0].probability)}%" in answer
        seen[right] += 1
    assert min(seen.values()) > 60


def test_evidence_is_mostly_right():
    drawn = [draw_evidence(seed % 3, np.random.default_rng(seed)) for seed in range(3000)]
    right = sum(right for _, right in drawn) / 3000
    wrong = sum(pointed_to(evidence) is not None and not right for evidence, right in drawn) / 3000
    assert 0.68 < right < 0.78
    assert 0.12 < wrong < 0.2


def test_a_given_probability_is_told_as_it_is_or_turned_round():
    for seed in range(300):
        evidence, _ = draw_evidence(1, np.random.default_rng(seed), 0.83)
        for finding in evidence.findings:
            assert round(finding.probability, 6) in {0.83, 0.17}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_asked_for_in_the_words_of_the_report_and_has_two_or_three_sentences(section, language):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        told = ask_film_kind(seed % 3, f"section_{section}", draw_evidence(seed % 3, rng)[0], rng, language, held_out=True)
        assert told.question == section_prompt(section, language)
        assert 2 <= len(re.findall(r"[.?](?:\s|$)", told.answer)) <= 3


def plain(text: str) -> str:
    return re.sub(r"[\s?.!,]", "", text).lower()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["film", "phantom", "other", "oddity"])
def test_phrasings_are_many_and_held_out_ones_are_never_seen(name, language):
    pages = book(name, language)
    for kind, ways in pages.questions.items():
        assert len(ways.seen) >= 15, (kind, len(ways.seen))
        assert len(ways.held_out) >= 3, kind
        assert not {plain(text) for text in ways.seen} & {plain(text) for text in ways.held_out}
    for key, ways in pages.answers.items():
        assert len(ways.seen) >= 5, key


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_of_five_later_turns_are_follow_ups(language, phantoms):
    kinds: list[str] = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        evidence = draw_evidence(seed % 3, rng)[0]
        film = ask_about_film(seed % 3, evidence, rng, language, 5)
        for told in (film, ask_about_phantom(phantoms[seed % 24], None, rng, language, 5)):
            assert not told[0].kind.startswith("follow_")
            kinds += [exchange.kind for exchange in told[1:]]
    assert set(kinds) == set(FILM_KINDS + PHANTOM_KINDS)
    assert 0.33 < sum(kind.startswith("follow_") for kind in kinds) / len(kinds) < 0.47


def test_the_same_seed_tells_the_same_dialogue():
    one, other = (ask_about_film(2, None, np.random.default_rng(7), "en", 6) for _ in range(2))
    assert one == other
