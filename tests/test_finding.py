"""Finding: a search can be watched, stopped and bounded; it believes what was calibrated, and never guesses."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from engines import Subject, build, counted
from PIL import Image
from test_cli import assert_refused, run

from benchmarks.search_scenes import Case, draw_case, draw_described
from chat.acceptance import SEARCH, Acceptance, read_acceptance, write_acceptance
from chat.assistant import Assistant, RequestError
from chat.choosing import find_named
from chat.finding import BATCH, Search, Wanted, find, read_budget
from chat.ui.words import explain
from vision.study import Study
from vision.tiling import Box

EAGER = Acceptance(bias=20.0)
SHY = Acceptance(bias=-60.0)
DOUBTING = Acceptance(threshold=0.999, text_threshold=1.0)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return build(tmp_path_factory.mktemp("finding"), "float32")


@pytest.fixture(scope="module")
def case() -> Case:
    return draw_case(np.random.default_rng([9, 4]), (640, 480), True)


def searched(subject: Subject, image: Image.Image, wanted: Wanted, acceptance: Acceptance) -> Iterator[Search]:
    return find(Assistant(subject.engine, tiny.SIDE), Study(image), wanted, acceptance, "test")


def test_the_best_place_never_gets_less_likely_and_the_budget_is_kept(subject: Subject, case: Case) -> None:
    steps = list(searched(subject, case.image, Wanted(case.reference, passes=9), EAGER))
    chances = [step.best.score for step in steps if step.best]
    assert chances == sorted(chances) and steps[-1].end == "found"
    assert max(step.passes for step in steps) <= 9 and steps[-1].ranked == 1
    assert all(hit.box.clipped(case.image.size) == hit.box for hit in steps[-1].hits)


def test_a_hit_is_where_the_target_stands(subject: Subject, case: Case) -> None:
    last = list(searched(subject, case.image, Wanted(case.reference), EAGER))[-1]
    assert case.target is not None
    assert any(abs(h.box.left + h.box.right - case.target.left - case.target.right) < case.target.size[0] for h in last.hits)


def test_what_nothing_speaks_for_is_not_found_and_not_even_asked(subject: Subject, case: Case) -> None:
    with counted(subject.loaded.model) as passes:
        last = list(searched(subject, case.image, Wanted(case.reference), SHY))[-1]
    assert (last.end, last.hits, last.passes, last.ranked) == ("not_found", (), 0, 1.0) and passes == []
    assert last.result()["found"] is False and last.tiles > 1 and last.pixels == tiny.SIDE


def test_closing_the_iterator_stops_the_engine(subject: Subject, case: Case) -> None:
    steps = searched(subject, case.image, Wanted(text="a thing", passes=1000), DOUBTING)
    with counted(subject.loaded.model) as passes:
        asked = next(step for step in steps if step.asked)
        steps.close()  # type: ignore[attr-defined]
        done = len(passes)
        assert list(steps) == [] and len(passes) == done and asked.passes > 0 < done


def test_a_description_is_looked_for_from_coarse_to_fine_until_the_budget_is_spent(subject: Subject, case: Case) -> None:
    last = list(searched(subject, case.image, Wanted(text="무언가가", passes=12), DOUBTING))[-1]
    sides = [max(box.size) for box in last.looked_at]
    assert (last.end, last.passes, last.hits) == ("budget", 12, ()) and sides[0] == max(sides) > min(sides)


def test_a_plain_shape_is_one_of_the_patches_of_its_colour_where_there_are_any(subject: Subject) -> None:
    image, text, _ = draw_described(np.random.default_rng([9, 2]), (640, 480), present=True)
    likely = [patch for patch in find_named(image, text) if patch.score**2 >= 0.75]
    plain, any_shape = Acceptance(text_threshold=0.75, fit=2.0), Acceptance(text_threshold=0.75)
    last = {each: list(searched(subject, image, Wanted(text=text, passes=60), each))[-1] for each in (plain, any_shape)}
    assert likely and len(likely) <= last[plain].passes <= 2 * len(likely) + BATCH and last[plain].end != "budget"
    assert last[any_shape].passes == 60, "what was not taught such shapes is asked about all there is"
    grey = list(searched(subject, image.convert("L").convert("RGB"), Wanted(text=text, passes=9), plain))[-1]
    assert find_named(image.convert("L").convert("RGB"), text) == [] and grey.passes == 9


def test_a_blank_image_ends_after_a_look_or_two(subject: Subject) -> None:
    for wanted in (Wanted(text="a red star"), Wanted(tiny.picture(3))):
        last = list(searched(subject, Image.new("RGB", (400, 300), "grey"), wanted, DOUBTING))[-1]
        assert last.end in ("not_found", "budget") and last.hits == () and last.asked <= last.tiles


def test_seconds_end_a_search_whatever_is_left_of_the_looks(subject: Subject, case: Case) -> None:
    class Slow:
        """The same engine, in whose looks the whole budget of seconds goes by."""

        limits, forget = subject.engine.limits, subject.engine.forget

        def choose(self, *given: object) -> object:
            clock.elapsed += 50
            return subject.engine.choose(*given)  # type: ignore[arg-type]

    clock = SimpleNamespace(elapsed=0.0, monotonic=lambda: clock.elapsed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chat.finding.time", clock)
        wanted = Wanted(text="a thing", passes=1000, seconds=120.0)
        steps = list(find(Assistant(Slow(), tiny.SIDE), Study(case.image), wanted, DOUBTING, "test"))  # type: ignore[arg-type]
    assert steps[-1].end == "budget" and steps[-1].seconds == 150 > steps[1].seconds
    assert steps[-1].passes == 1 + 1 + 1, "one look takes 50 of 120 seconds, so no batch holds more than one"


def test_an_engine_without_probabilities_is_asked_in_words_and_says_so(subject: Subject, case: Case) -> None:
    class Talker:
        """Only an engine's face of the same engine."""

        name, limits = subject.engine.name, subject.engine.limits
        stream, forget = subject.engine.stream, subject.engine.forget

    assistant = Assistant(Talker(), tiny.SIDE)  # type: ignore[arg-type]
    last = list(find(assistant, Study(case.image), Wanted(case.reference, passes=3), EAGER, "test"))[-1]
    assert last.in_words and 0 < last.passes <= 3 and last.result()["in_words"] is True


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Wanted(), "nothing_wanted"),
        (Wanted(text="  "), "nothing_wanted"),
        (Wanted(text="a star", passes=0), "no_budget"),
        (Wanted(text="a star", seconds=0.0), "no_budget"),
        (Wanted(Image.new("RGB", (4, 4))), "reference_too_small"),
        (Wanted(tiny.picture(1, (2000, 1500))), "reference_too_large"),
        (Wanted(Image.new("RGB", (40, 40), "red")), "reference_blank"),
    ],
)
def test_what_cannot_be_searched_for_is_one_sentence_in_either_language(subject: Subject, wanted: Wanted, reason: str) -> None:
    with pytest.raises(RequestError) as refused:
        next(searched(subject, tiny.picture(2), wanted, EAGER))
    assert refused.value.reason == reason
    assert all(explain(refused.value, language) for language in ("ko", "en"))  # type: ignore[arg-type]


def test_a_budget_is_looks_or_seconds() -> None:
    assert read_budget(None)[0] > 1 and read_budget("7") == (7, None) and read_budget("1.5s")[1] == 1.5
    assert read_budget(" 7 1.5s ") == (7, 1.5) and read_budget("") == read_budget(None)
    for wrong in ("many", "-3", "2.5", "1e9", "nan", "s", "7 8", "1.5s 7", "7 1.5"):
        with pytest.raises(RequestError):
            read_budget(wrong)


def test_what_was_fitted_on_one_checkpoint_is_not_believed_of_another(subject: Subject, tmp_path: Path) -> None:
    folder, other = tiny.build(tmp_path / "one"), tiny.build(tmp_path / "other", seed=1)
    write_acceptance(EAGER, folder)
    assert dataclasses.replace(read_acceptance(folder), identity="") == EAGER
    (other / SEARCH).write_bytes((folder / SEARCH).read_bytes())
    assert read_acceptance(other) == Acceptance()
    (folder / SEARCH).write_text('{"bias": "high"')
    assert read_acceptance(folder) == Acceptance()


@pytest.mark.slow
def test_the_command_line_prints_what_was_found_and_how_much_was_looked_at(tmp_path: Path, case: Case) -> None:
    tiny.build(tmp_path / "model")
    case.image.save(tmp_path / "scene.png")
    case.reference.save(tmp_path / "reference.png")
    common = (tmp_path / "scene.png", "--reference", tmp_path / "reference.png", "--model", tmp_path / "model")
    done = run("find", *common, "--budget", 6, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert {"found", "hits", "passes", "ranked", "asked"} <= result.keys() and result["ranked"] == 1
    assert all(hit.keys() == {"box", "probability"} and Box(*hit["box"]) for hit in result["hits"])
    assert_refused(run("find", tmp_path / "scene.png"), "reference")
    assert_refused(run("find", *common, "--budget", 0), "budget")
