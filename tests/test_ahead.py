"""What is computed ahead: as much as the next question needs, for whoever still wants it, and not a layer more."""

import dataclasses
import time

import engines
import gradio as gr
import pytest
import tiny
from engines import ASKED, Subject, counted, in_thread, reading
from test_engine import wait_until_queued
from test_prefix import SHORT, answered, asked

from chat.ahead import prepare
from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.local import LocalEngine
from chat.prompt import SYSTEM
from chat.ui import page, panels
from chat.ui.desk import Desk
from chat.ui.handlers import Handlers
from chat.ui.panels import About
from vision.study import Study


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return engines.build(tmp_path_factory.mktemp("plain"), "float32")


@pytest.mark.parametrize("max_images", [1, 3])
def test_what_is_computed_ahead_is_what_the_question_needs(plain: Subject, max_images: int) -> None:
    """Through the assistant: evidence, crops (one pass each where the model reads one image) and a window that slides."""
    engine = LocalEngine(dataclasses.replace(plain.loaded, max_images=max_images))
    assistant, conversation = Assistant(engine, engine.input_side), Conversation(limit=2)
    study = Study(tiny.picture(5, (300, 100)))
    tiles = [view.image for view in assistant.views(study, Request(""))[1:]]
    assert tiles
    tower = plain.loaded.model.model.vision_tower
    with counted(tower) as looks:
        for turn in range(4):
            request = Request(f"What is it {turn}?", SHORT, "en")
            prepare(assistant, request, study, conversation, "ahead", None)
            already = len(engine._sessions._kept["ahead"].segments)
            (*_, answer) = assistant.ask(request, study, conversation, "ahead")
            assert isinstance(answer, Answer)
            conversation = answer.conversation
            assert len(engine._sessions._kept["ahead"].segments) == already == min(turn, 2) + 1  # image and turns
    assert len(looks) == 1 + len(tiles)
    engine.forget("ahead")
    assert engine._sessions.bytes == 0


def test_the_page_computes_ahead_after_an_image_an_answer_and_clearing(plain: Subject) -> None:
    about = About("tiny", "cpu", "float32", True, tiny.CONTEXT_TOKENS)
    blocks = page.build(Assistant(plain.engine, plain.engine.input_side), about, SHORT, "en", 4_000_000)
    names = {number: getattr(event.fn, "__name__", "") for number, event in blocks.fns.items()}

    def cause(number: int | None) -> str:
        """What `number` follows, however an answer's end is drawn between."""
        after = blocks.fns[number].trigger_after
        return cause(after) if names[after] == "draw" else names[after]

    before = [cause(number) for number in blocks.fns if names[number] == "prepare"]
    asked = ["ask", "compare", "edit", "regenerate"]
    assert sorted(before) == sorted([*asked, "clear", "draw_both", "draw_both", "pin", "vote"])  # draw_both: a new image


def test_a_desk_is_prepared_for_its_next_question_and_forgotten_when_the_browser_goes(plain: Subject) -> None:
    engine = LocalEngine(plain.loaded)
    about = About("tiny", "cpu", "float32", True, tiny.CONTEXT_TOKENS)
    handlers, desk = Handlers(Assistant(engine, engine.input_side), about, "en", 4_000_000), Desk(5, "en")
    browser = gr.Request(session_hash="browser")
    controls = (0.0, 1.0, 6, "1", True, SYSTEM)
    handlers.meet(desk, browser)
    desk.is_open = True
    desk.place(Study(tiny.picture(6, (56, 56))))
    handlers.prepare(desk, *controls)
    assert len(engine._sessions._kept[desk.session].segments) == 1
    desk.accept("Is it?")
    list(handlers.answer(desk, *controls))
    handlers.prepare(desk, *controls)
    with reading(plain.loaded.model) as read, counted(plain.loaded.model.model.vision_tower) as looks:
        desk.accept("And now?")
        list(handlers.answer(desk, *controls))
    assert looks == [] and read[0] < 40 and set(read[1:]) <= {1}
    handlers.leave(browser)
    assert engine._sessions.bytes == 0


def test_a_page_is_drawn_less_often_than_once_in_40_milliseconds_and_ends_with_all_of_the_answer(plain: Subject) -> None:
    """However fast or slow the machine is: as many drawings as fit into the time that passed, and three for the ends."""
    engine = LocalEngine(dataclasses.replace(plain.loaded, end_ids=frozenset()))
    about = About("tiny", "cpu", "float32", True, tiny.CONTEXT_TOKENS)
    handlers, desk = Handlers(Assistant(engine, engine.input_side), about, "en", 4_000_000), Desk(5, "en")
    desk.place(Study(tiny.picture(6, (56, 56))))
    started = time.perf_counter()
    event = gr.EventData(None, {"text": "Is it?", "pinned": ""})
    talks = [drawing[1] for drawing in handlers.ask(event, desk, 0.0, 1.0, 100, "1", True, SYSTEM)] + [handlers.draw(desk)[0]]
    assert len(talks) <= (time.perf_counter() - started) / 0.04 + 3
    answer = desk.exchanges[-1].answer
    assert answer and answer.tokens == 100 and {**talks[-1], "drawn": 0} == {**panels.talk(desk, about), "drawn": 0}


@pytest.mark.parametrize("owner", ["mine", "another"])
def test_preparing_gives_way_to_whoever_asks(plain: Subject, owner: str) -> None:
    """To its own question behind the segment that both need, to another's before the next layer."""
    engine, layers = plain.engine, plain.loaded.model.model.language_model.layers
    stream = engine.stream(asked("Where?", seed=7), SHORT, owner)
    waits = []

    def arrive(*_: object) -> None:
        if not waits:
            waits.append(in_thread(list, stream))
            wait_until_queued(engine, 2)

    hook = layers[0].register_forward_pre_hook(arrive)
    with counted(layers[0]) as first, counted(layers[-1]) as last:
        hook_off = layers[-1].register_forward_pre_hook(lambda *_: hook.remove())
        engine.prepare(asked("", seed=7), "mine")
        hook.remove()
        hook_off.remove()
        waits[0].join(20)
    held = [segment for kept in engine._sessions._kept.values() for segment in kept.segments]
    assert not waits[0].is_alive() and held
    segments = 3  # image, evidence, question
    given_up = owner == "another"
    assert len(first) == segments + SHORT.max_new_tokens - 1 + given_up and len(last) == len(first) - given_up
    for session in ("mine", "another"):
        engine.forget(session)


def test_preparing_stops_when_its_session_is_forgotten(plain: Subject) -> None:
    engine, layers = plain.engine, plain.loaded.model.model.language_model.layers
    hook = layers[0].register_forward_pre_hook(lambda *_: engine.forget("gone"))
    with counted(layers[1]) as later:
        engine.prepare(ASKED, "gone")
    hook.remove()
    assert later == [] and "gone" not in engine._sessions._kept


@pytest.mark.parametrize("place", ["vision_tower.encoder.layers.0", "language_model.layers.0"])
def test_closing_stops_in_the_middle_of_a_pass(plain: Subject, place: str) -> None:
    """P18: closed while a layer works, no other layer begins."""
    engine, model = plain.engine, plain.loaded.model.model
    stream = engine.stream(asked("Where?", seed=8), SHORT, "left")
    closers = []

    def close(*_: object) -> None:
        closers.append(in_thread(stream.close))  # type: ignore[attr-defined]
        while not stream._ticket.is_closed:  # type: ignore[attr-defined]
            pass

    hook = model.get_submodule(place).register_forward_pre_hook(close)
    try:
        with counted(model.vision_tower.encoder.layers[1]) as seen, counted(model.language_model.layers[1]) as read:
            assert list(stream) == []
    finally:
        hook.remove()
    closers[0].join(20)
    assert len(closers) == 1 and read == [] and (seen == [] or "language" in place)
    assert answered(engine, asked("Where?", seed=8), "left") == answered(engine, asked("Where?", seed=8), "other")
