"""The embedded model that ships: small, real, and able to see. The full table is `benchmarks.embedded`'s."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from benchmarks.embedded import GREEDY, Examination
from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.wording import LANGUAGES, language_of
from finetune import ask_scenes
from finetune.exchange import Exchange
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
    assert {piece.get_dtype() for piece in sizes.values()} <= {"BF16", "F16"}


def test_its_card_says_where_it_comes_from() -> None:
    card = (FOLDER / "README.md").read_text("utf-8")
    for said in ("Kermany", "CC BY 4.0", "python -m finetune.pretrain", "seed", "never diagnos"):
        assert said in card


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_sees_colours(engine: LocalEngine, language: str) -> None:
    exam = Examination(engine)
    replies, number = [], 0
    while len(replies) < 12:
        rng = np.random.default_rng([77_000, number])
        number += 1
        scene = draw_scene(rng)
        exchange = ask_scenes.ask_kind(scene, "colour", rng, language)
        if exchange is not None:
            replies.append(exam.ask(scene.image, exchange, language, ask_scenes.claim_of))
    assert sum(reply.right for reply in replies) >= 9
    assert all(language_of(reply.answer) == language for reply in replies)


def test_a_follow_up_is_answered_in_context(engine: LocalEngine) -> None:
    """Whether it is right depends on the picture; that it speaks of the thing asked about before does not."""
    assistant = Assistant(engine, engine.input_side)
    scene = next(s for s in (draw_scene(np.random.default_rng(n)) for n in range(200)) if len(s.items) == 1)
    conversation = Conversation()
    answers = []
    for question in (f"Is there a {scene.items[0].colour} {scene.items[0].kind}?", "Where is it?"):
        last = None
        for step in assistant.ask(Request(question, GREEDY), Study(scene.image), conversation, "test"):
            last = step
        assert isinstance(last, Answer)
        conversation = last.conversation
        answers.append(last.text)
    assert conversation.asked == 2
    assert ask_scenes.claim_of(answers[1], "position", "en") is not None


def test_it_declines_what_it_does_not_know(engine: LocalEngine) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8))
    exam = Examination(engine)
    said = exam.answer(noise, Exchange("Is there pneumonia?", "", "oddity"), "en")
    assert ask_scenes.claim_of(said, "exists", "en") != "yes" or "cannot" in said
