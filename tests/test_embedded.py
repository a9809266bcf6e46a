"""The embedded model that ships: small, real, and able to see. The full table is `benchmarks.embedded`'s."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from benchmarks.examination import GREEDY, Examination
from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.wording import LANGUAGES, Language, language_of
from finetune import ask_films, ask_other, ask_scenes
from finetune.oddities import draw_oddity
from finetune.phantom import draw_phantom
from finetune.scenes import draw_scene
from vision.study import Study

FOLDER = Path(__file__).parents[1] / "models" / "hilum-tiny"


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    engine = LocalEngine(load(FOLDER, "cpu", None))
    engine.warm_up()
    return engine


def test_it_is_a_16_bit_checkpoint_of_at_most_20_million_parameters() -> None:
    with safe_open(FOLDER / "model.safetensors", framework="pt") as weights:
        sizes = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
    assert sum(int(np.prod(piece.get_shape())) for piece in sizes.values()) <= 20_000_000
    assert {piece.get_dtype() for piece in sizes.values()} <= {"BF16", "F16", "I64"}


def test_its_card_says_where_it_comes_from() -> None:
    card = (FOLDER / "README.md").read_text("utf-8")
    for said in ("Kermany", "CC BY 4.0", "python -m finetune.pretrain", "seed", "never diagnos"):
        assert said in card


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_sees_opacities(engine: LocalEngine, language: Language) -> None:
    exam = Examination(engine)
    for number in range(12):
        rng = np.random.default_rng([77_000, number])
        phantom = draw_phantom(rng, bool(number % 2))
        exchange = ask_films.ask_phantom_kind(phantom, "opacity", rng, language)
        exam.ask(phantom.image, exchange, language, ask_films.claim_of)
    assert sum(reply.right for reply in exam.replies) >= 9
    assert all(language_of(reply.answer) == language for reply in exam.replies)


def test_a_follow_up_is_answered_in_context(engine: LocalEngine) -> None:
    """Whether it is right depends on the picture; that it speaks of the thing asked about before does not."""
    assistant = Assistant(engine, engine.input_side)
    study = Study(draw_phantom(np.random.default_rng(5), True).image)
    conversation = Conversation()
    answers = []
    for question in ("Is there an opacity?", "Where is it?"):
        last = None
        for step in assistant.ask(Request(question, GREEDY, crops=False), study, conversation, "test"):
            last = step
        assert isinstance(last, Answer)
        conversation = last.conversation
        answers.append(last.text)
    assert conversation.asked == 2
    assert ask_films.claim_of(answers[1], "side", "en") in {"right", "left"}


def test_it_declines_pictures_that_it_does_not_know(engine: LocalEngine) -> None:
    exam = Examination(engine)
    for number in range(10):
        rng = np.random.default_rng([78_000, number])
        exchange = ask_other.ask_about_oddity(rng, "en", 1)[0]
        exam.ask(draw_oddity(rng), exchange, "en", ask_other.claim_of)
    assert sum(reply.right for reply in exam.replies) >= 7


def test_it_reads_colours_and_sizes_better_than_chance(engine: LocalEngine) -> None:
    """One of ten colours, one of three sizes; what it reaches stands in the README."""
    exam = Examination(engine)
    for number in range(60):
        rng = np.random.default_rng([79_000, number])
        scene = draw_scene(rng)
        exchange = ask_scenes.ask_kind(scene, ("colour", "size")[number % 2], rng, "en")
        if exchange is not None:
            exam.ask(scene.image, exchange, "en", ask_scenes.claim_of)
    assert len(exam.replies) >= 40
    assert sum(reply.right for reply in exam.replies) >= 0.45 * len(exam.replies)
