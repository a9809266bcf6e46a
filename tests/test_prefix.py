"""What is computed once: the same answers as without it, nothing of one session in another's, and bounded bytes."""

import random
from collections.abc import Sequence

import engines
import pytest
import tiny
import torch
from engines import ASKED, PICTURE, Subject, counted, heard, ids, reading
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from chat.conversation import Conversation, Turn
from chat.engine.base import Message, Sampling
from chat.engine.local import LocalEngine
from chat.engine.prefix import LEAST_BUCKET, FilledLayer, split
from chat.prompt import View, encode, layout
from vision.tiling import Box

NEW = Conversation()
SHORT = Sampling(6, temperature=0)
EVIDENCE = ["Findings of a classifier, which may be wrong: pneumonia 87 %, most at the lower left."]
BOX = Box(0, 0, 80, 60)


@pytest.fixture(scope="module", params=engines.PRECISIONS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return engines.build(tmp_path_factory.mktemp("prefix"), request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return engines.build(tmp_path_factory.mktemp("plain"), "float32")


def asked(question: str, conversation: Conversation = NEW, seed: int = 1, crops: int = 0) -> tuple[Message, ...]:
    views = [View("overview", BOX, tiny.picture(seed)), *(View("tile", BOX, tiny.picture(90 + i)) for i in range(crops))]
    return layout(question, conversation.turns, views, EVIDENCE, (), "en")


def answered(engine: LocalEngine, messages: Sequence[Message], session: str, sampling: Sampling = SHORT) -> tuple[int, ...]:
    return ids(engine, messages, session, sampling)


def test_ten_turns_are_the_same_with_what_is_kept_as_without(subject: Subject) -> None:
    """P4: ids, and logits bit for bit also in bf16 and 4-bit, whatever was prepared, stopped or shown in between."""
    engine, model, rng = subject.engine, subject.loaded.model, random.Random(4)
    for dialogue in range(3):
        conversation = Conversation(limit=3)
        for turn in range(10):
            question, crops = f"What of {rng.randint(0, 10 ** rng.randint(1, 9))}?", rng.choice([0, 0, 1])
            if rng.random() < 0.5:
                engine.prepare(asked("", conversation, dialogue), "kept")
            sampling = Sampling(rng.randint(1, 6), temperature=0)  # shorter than it could be: as if stopped there
            messages = asked(question, conversation, dialogue, crops)
            with heard(model) as warm:
                kept = answered(engine, messages, "kept", sampling)
            engine.forget("fresh")
            with heard(model) as cold:
                assert answered(engine, messages, "fresh", sampling) == kept, (dialogue, turn)
            assert all(map(torch.equal, warm, cold)), (dialogue, turn)
            conversation = conversation.with_turn(Turn(question, "", kept))
        engine.forget("kept")


def test_reuse_is_within_rounding_of_one_pass_over_the_whole_prompt(plain: Subject) -> None:
    conversation = Conversation()
    for turn in range(4):
        messages = asked(f"And {turn}?", conversation)
        encoded = encode(messages, plain.loaded.tokenizer, plain.loaded.image_token_id, tiny.TOKENS_PER_IMAGE)
        pixels = plain.loaded.image_processor(images=list(encoded.images), return_tensors="pt")["pixel_values"]
        with heard(plain.loaded.model) as logits:
            said = answered(plain.engine, messages, "whole")
        with torch.inference_mode():
            expected = plain.loaded.model(input_ids=torch.tensor([encoded.ids]), pixel_values=pixels).logits[0, -1]
        assert float((logits[0].flatten() - expected).abs().max()) < 1e-4
        conversation = conversation.with_turn(Turn(f"And {turn}?", "", said))


def test_a_prepared_follow_up_reads_its_own_tokens_only_and_looks_at_nothing(subject: Subject) -> None:
    engine, conversation = subject.engine, Conversation(limit=2)
    tower = subject.loaded.model.model.vision_tower
    with counted(tower) as looks, reading(subject.loaded.model) as read:
        for turn in range(6):  # from the third on the window slides
            question = f"And {turn}?"
            engine.prepare(asked("", conversation), "mine")
            before = len(read)
            said = answered(engine, asked(question, conversation), "mine")
            added = engine.count(asked(question, conversation)) - engine.count(asked("", conversation))
            own = engine.count(asked("", conversation)) - sum(map(sum_of, engine._sessions._kept["mine"].segments))
            assert read[before] == added + own < 30
            assert read[before + 1 :] == [1] * (len(read) - before - 1)
            conversation = conversation.with_turn(Turn(question, "", said))
        assert len(looks) == 1
    engine.forget("mine")


def sum_of(segment: object) -> int:
    return len(segment.ids)  # type: ignore[attr-defined]


def test_without_idle_time_only_what_is_new_is_read_and_never_the_image(subject: Subject) -> None:
    engine, conversation = subject.engine, Conversation(limit=2)
    for turn in range(5):
        with reading(subject.loaded.model) as read, counted(subject.loaded.model.model.vision_tower) as looks:
            said = answered(engine, asked(f"And {turn}?", conversation), "busy")
        assert len(looks) == (turn == 0)
        if turn:
            assert max(read) < tiny.TOKENS_PER_IMAGE + 60 and sum(read) < engine.count(asked("", conversation))
        conversation = conversation.with_turn(Turn(f"And {turn}?", "", said))
    engine.forget("busy")


def test_the_last_questions_crops_leave_with_it(subject: Subject) -> None:
    engine = subject.engine
    said = answered(engine, asked("Where?", crops=2), "crops")
    conversation = Conversation().with_turn(Turn("Where?", "", said))
    with reading(subject.loaded.model) as read, counted(subject.loaded.model.model.vision_tower) as looks:
        answered(engine, asked("Why?", conversation), "crops")
    assert looks == [] and sum(read) < tiny.TOKENS_PER_IMAGE + 60
    engine.forget("crops")


acts = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ask", "crop", "prepare", "forget", "stop"])), max_size=12)


@settings(max_examples=15, deadline=None)
@given(acts=acts)
def test_two_sessions_never_share_a_byte(plain: Subject, acts: list[tuple[str, str]]) -> None:
    """Each answers as it would alone, though both look at the same image, and no tensor of one lies in the other's memory."""
    engine = plain.engine
    talks = {"a": Conversation(), "b": Conversation()}
    for session, act in acts:
        messages = asked(f"{session}?", talks[session], crops=act == "crop")
        if act == "prepare":
            engine.prepare(messages, session)
        elif act == "forget":
            engine.forget(session)
        elif act == "stop":
            next(engine.stream(messages, SHORT, session))
        else:
            said = answered(engine, messages, session)
            engine.forget("alone")
            assert said == answered(engine, messages, "alone")
            talks[session] = talks[session].with_turn(Turn(f"{session}?", "", said))
        held = [storages(engine, name) for name in engine._sessions._kept]
        assert sum(map(len, held)) == len(set().union(*held))
    for session in ("a", "b", "alone"):
        engine.forget(session)


def storages(engine: LocalEngine, session: str) -> set[int]:
    kept = engine._sessions._kept[session]
    states = [state for layer in kept.cache.layers for state in (layer.keys, layer.values) if state is not None]
    return {tensor.untyped_storage().data_ptr() for tensor in (*states, *kept.features.values())}


def test_nothing_grows_once_the_window_is_full(plain: Subject) -> None:
    engine, conversation, sizes = plain.engine, Conversation(limit=3), []
    for turn in range(12):
        said = answered(engine, asked("And?", conversation, crops=turn % 2), "full")
        conversation = conversation.with_turn(Turn("And?", "", said))
        engine.prepare(asked("", conversation), "full")
        sizes.append(engine._sessions._kept["full"].bytes)
    assert len(set(sizes[3:])) == 1
    engine.forget("full")


def test_who_was_here_least_recently_is_forgotten_first_and_the_newest_never(plain: Subject) -> None:
    engine = LocalEngine(plain.loaded)
    engine.prepare(ASKED, "one")
    one = engine._sessions.bytes
    small = LocalEngine(plain.loaded, kept_bytes=2 * one)
    for session in ("a", "b", "a", "c"):
        small.prepare(ASKED, session)
    assert set(small._sessions._kept) == {"a", "c"} and small._sessions.bytes == 2 * one
    none = LocalEngine(plain.loaded, kept_bytes=0)
    assert answered(none, ASKED, "a") == answered(none, ASKED, "b") == answered(engine, ASKED, "one")
    assert set(none._sessions._kept) == {"b"}
    engine.prepare(ASKED, "one/crops")
    engine.prepare(ASKED, "one more")
    engine.forget("one")
    assert set(engine._sessions._kept) == {"one more"}


def test_a_layer_that_nobody_reads_is_not_computed(plain: Subject) -> None:
    layers = plain.loaded.model.model.vision_tower.encoder.layers
    with counted(layers[-2].mlp) as read, counted(layers[-1].mlp) as unread:
        plain.engine.features([PICTURE])
    assert (len(read), len(unread)) == (1, 0)


def test_a_reference_picture_is_read_once_for_all_that_is_compared_with_it(plain: Subject) -> None:
    batch = [tiny.question("The same?", PICTURE, tiny.picture(i)) for i in range(3)]
    with reading(plain.loaded.model) as read:
        together = plain.engine.choose(batch, ["Yes", "No"])
    assert sum(read) < sum(map(plain.engine.count, batch)) - 2 * tiny.TOKENS_PER_IMAGE
    assert together.tolist() == [plain.engine.choose([one], ["Yes", "No"])[0].tolist() for one in batch]


lengths = st.lists(st.integers(1, 3), max_size=4) | st.just([LEAST_BUCKET - 1, 3, 2 * LEAST_BUCKET])


@given(steps=lengths, cropped=st.integers(0, 4))
def test_a_filled_layer_holds_what_transformers_own_would(steps: list[int], cropped: int) -> None:
    ours, theirs = FilledLayer(), DynamicLayer()
    for length in [*steps, 2]:
        states = torch.randn(1, 2, length, 4), torch.randn(1, 2, length, 4)
        assert ours.get_mask_sizes(length) == theirs.get_mask_sizes(length)
        assert all(map(torch.equal, ours.update(*states), theirs.update(*states)))
        remove = min(cropped, ours.get_seq_length() - 1)
        ours.crop(-remove)
        theirs.crop(-remove)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_a_split_prompt_is_the_prompt(sizes: list[int]) -> None:
    prompt = list(range(sum(sizes)))
    cuts = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    segments = split(prompt, cuts, [], image_id=-1, per_image=1)
    assert [token for segment in segments for token in segment.ids] == prompt and all(s.ids for s in segments)
