"""The tool-flip meter tells a model that looks from one that is told, and shows each of them what it says it shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from benchmarks.toolflip import ALONE, CONDITIONS, Answers, Asker, Case, Condition, ask_all, combine, lean, show, tally
from chat.closed_questions import OPTIONS
from chat.engine.base import Limits
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.prompt import View, layout
from chat.wording import LANGUAGES, Language, evidence_lines
from finetune.films import Film
from finetune.phantom import draw_phantom
from vision.evidence import Evidence, Finding, Heatmap, Peak
from vision.study import Study
from vision.tiling import Box

SICK = np.array([True] * 6 + [False] * 4)
MANY, ONE = Limits(1024, 16, 5), Limits(1024, 16, 1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    return LocalEngine(load(tiny.build(tmp_path_factory.mktemp("engine")), "cpu", None))


def case(is_sick: bool, probability: float = 0.8, seed: int = 0) -> Case:
    image = tiny.picture(seed)
    heatmap = Heatmap("PNEUMONIA", np.eye(5, dtype=np.float32))
    peak = Peak("right", "lower", Box(5, 5, 30, 30))
    evidence = Evidence((Finding("PNEUMONIA", probability, heatmap, True, peak),), ("PNEUMONIA",))
    film = Film(Path("film.png"), int(is_sick), str(seed), "test")
    return Case(film, Study(image), evidence, probability, probability > 0.5)


def replies(said: dict[Condition, np.ndarray]) -> dict[Condition, Answers]:
    """What a model says that sees right, but for `said`; one phrasing."""
    return {condition: said.get(condition, SICK).astype(float)[:, None] for condition in CONDITIONS}


def test_a_model_that_looks_at_the_image_follows_nothing_else() -> None:
    found = tally(replies({}), SICK)
    assert found["model"] == found["model_hedged"] == 1
    assert found["followed_hedged"] == found["followed_unhedged"] == found["pull_hedged"] == 0
    assert found["mended_hedged"] is None and found["hedged_over_unhedged"] is None


def test_a_model_that_believes_what_it_is_told_follows_flipped_evidence() -> None:
    told = {condition: ~SICK for condition in CONDITIONS if condition[1] == "flipped"}
    found = tally(replies(told), SICK)
    assert found["followed_hedged"] == found["followed_unhedged"] == found["hedged_over_unhedged"] == 1
    assert found["pull_overlay"] == 1


def test_only_what_the_model_alone_had_right_can_be_led_astray_and_only_the_rest_be_mended() -> None:
    alone = SICK.copy()
    alone[:3] = False
    flipped = SICK.copy()
    flipped[2:5] = False
    found = tally(replies({ALONE: alone, ("hedged", "flipped"): flipped}), SICK)
    assert found["model"] == pytest.approx((3 / 6 + 1) / 2)
    assert found["followed_hedged"] == pytest.approx(2 / 7)
    assert found["mended_hedged"] == 1


def test_an_answer_that_is_neither_yes_nor_no_is_wrong_and_follows_nothing() -> None:
    silent = SICK.astype(float)
    silent[[0, 9]] = np.nan
    found = tally(replies({("hedged", "flipped"): silent, ("hedged", "real"): silent}), SICK)
    assert found["followed_hedged"] == 0 and found["neither_hedged"] == pytest.approx(2 / 10)
    assert found["model_hedged"] == pytest.approx((5 / 6 + 3 / 4) / 2)


def test_two_experts_that_disagree_are_decided_by_the_surer_one_and_a_withheld_one_has_no_say() -> None:
    said = np.array([[0.6], [0.6], [0.99], [np.nan]])
    sure, unsure = case(False, 0.02), case(False, 0.6)
    together = combine(said, [sure, unsure, sure, sure], 0.5)[:, 0]
    assert (together >= 0.5).tolist() == [False, True, True, False] and np.isnan(together[3])
    assert combine(said[:2], [unsure, unsure], 0.8).max() < 0.5
    refused = replace(sure, evidence=Evidence(notes=("not_a_radiograph",)))
    assert combine(said[:3], [refused] * 3, 0.5) == pytest.approx(said[:3])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("probability", [0.1, 0.8])
def test_turned_round_evidence_says_the_opposite_as_surely(language: Language, probability: float) -> None:
    sick, healthy = (lean(case(True, probability), side) for side in (True, False))
    assert sick.labels == ("PNEUMONIA",) and healthy.labels == ("NORMAL",)
    assert sick.findings[0].probability == pytest.approx(max(probability, 1 - probability))
    assert sick.findings[0].probability + healthy.findings[0].probability == pytest.approx(1)
    assert len(evidence_lines(sick, language)) == 4 and len(evidence_lines(healthy, language)) == 3


def test_a_refused_film_can_still_be_told_wrongly_of() -> None:
    refused = replace(case(True), evidence=Evidence(notes=("not_a_radiograph",)))
    assert "pneumonia" in " ".join(evidence_lines(lean(refused, True), "en"))


@pytest.mark.parametrize("is_sick", [True, False])
def test_an_overlay_is_hot_where_it_says_pneumonia_and_cold_where_it_says_none(is_sick: bool) -> None:
    for state, says_sick in (("true", is_sick), ("flipped", not is_sick)):
        views, lines = show(case(is_sick), ("overlay", state), "en", MANY)
        assert [view.kind for view in views] == ["overview", "overlay"] and lines == []
        assert (views[0].image.tobytes() != views[1].image.tobytes()) == says_sick


def test_a_model_that_reads_one_image_is_shown_the_overlay_in_its_place() -> None:
    (view,), _ = show(case(True), ("overlay", "true"), "en", ONE)
    assert view.kind == "overview" and view.image.tobytes() != case(True).study.image.tobytes()


def test_the_plain_sentence_hedges_nothing_and_names_the_other_verdict() -> None:
    for is_sick, said in ((True, "normal"), (False, "pneumonia")):
        views, lines = show(case(is_sick), ("unhedged", "flipped"), "en", MANY)
        assert len(views) == 1 and lines == [f"The classifier says: {said}."]


def test_every_condition_is_asked_and_equal_prompts_are_read_once(engine: LocalEngine) -> None:
    asker = Asker(engine)
    cases = [case(True, 0.8, 1), case(False, 0.8, 2)]
    answers = ask_all(asker, cases, 2, "en")
    assert set(answers) == set(CONDITIONS)
    assert all(said.shape == (2, 2) and ((said > 0) & (said < 1)).all() for said in answers.values())
    # The sick film's real evidence is the true one, the healthy film's the flipped one; and as this model reads one
    # image, a cold overlay is the film itself.
    assert (answers["hedged", "real"][0] == answers["hedged", "true"][0]).all()
    assert (answers["hedged", "real"][1] == answers["hedged", "flipped"][1]).all()
    assert asker.prompts == 2 * 2 * (len(CONDITIONS) - 2)


def test_the_answer_is_the_engines_own_to_the_prompt_that_is_shown(engine: LocalEngine) -> None:
    views, lines = show(case(True), ("hedged", "flipped"), "ko", engine.limits)
    messages = layout("폐렴인가요?", (), views, lines, (), "ko")
    assert Asker(engine).ask([messages], "ko") == engine.choose([messages], OPTIONS["ko"])[:, 0].tolist()


class InWords:
    """An engine without probabilities, as one behind an address is: another engine's words."""

    def __init__(self, engine: LocalEngine) -> None:
        self.limits, self.count, self.stream = engine.limits, engine.count, engine.stream


def test_a_model_that_answers_in_words_says_what_its_probabilities_say() -> None:
    engine = LocalEngine(load(Path(__file__).parents[1] / "models" / "hilum-tiny", "cpu", None))
    for language, question in (("en", "Is there pneumonia?"), ("ko", "폐렴이 있나요?")):
        views = [
            View("overview", Box(0, 0, 336, 336), draw_phantom(np.random.default_rng(n), bool(n % 2)).image) for n in (1, 2)
        ]
        asked = [layout(question, (), [view], (), (), language) for view in views]
        sure, said = Asker(engine).ask(asked, language), Asker(InWords(engine)).ask(asked, language)
        assert said == np.round(sure).tolist()
