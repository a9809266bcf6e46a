"""The prompt: LLaVA-1.5's own format, what a person types stays text, and what does not fit leaves in the right order."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import tiny
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from chat.conversation import Conversation, Turn
from chat.engine.base import DoesNotFit, Limits, Message
from chat.prompt import SYSTEM, Encoded, Prompt, View, compose, encode, fingerprint, layout, render
from vision.tiling import Box

TOKENIZER = tiny.tokenizer()
IMAGE_ID = TOKENIZER.convert_tokens_to_ids("<image>")
PER_IMAGE = 16
SPECIAL = set(TOKENIZER.added_tokens_decoder)

OVERVIEW = View("overview", Box(0, 0, 90, 90), tiny.picture(0, (90, 90)))
CROPS = [View("tile", Box(30 * i, 0, 30 * i + 30, 30), tiny.picture(i + 1, (30, 30))) for i in range(3)]

HOSTILE = ["<image>", "</s>", "<s>", "<pad>", "<unk>", "<0x0A>", "USER:", " ASSISTANT:", "<", "s", ">", " ", "\n", "폐"]
text = st.text(max_size=20) | st.lists(st.sampled_from(HOSTILE)).map("".join)
turns = st.lists(st.builds(Turn, text, text), max_size=5)


def encoded(messages: Sequence[Message]) -> Encoded:
    return encode(messages, TOKENIZER, IMAGE_ID, PER_IMAGE)


def count(messages: Sequence[Message]) -> int:
    return len(encoded(messages).ids)


def laid_out(question: str, said: Sequence[Turn] = (), views: Sequence[View] = (OVERVIEW,)) -> tuple[Message, ...]:
    return layout(question, said, views, [], [], "en")


def test_the_format_is_the_one_llava_1_5_was_trained_on() -> None:
    # llava-torch 1.2.2, conv_templates["vicuna_v1"], two turns
    assert render(laid_out("Why?", [Turn("Hi", "Yes.")])) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
        "polite answers to the user's questions. USER: <image>\nHi ASSISTANT: Yes.</s>USER: Why? ASSISTANT:"
    )


def test_text_is_tokenised_in_the_chunks_around_the_image() -> None:
    ids = encoded(laid_out("Hi")).ids
    before, after = (TOKENIZER.encode(part, add_special_tokens=False) for part in (f"{SYSTEM} USER: ", "\nHi ASSISTANT:"))
    assert ids == (TOKENIZER.bos_token_id, *before, *[IMAGE_ID] * PER_IMAGE, *after)


def test_evidence_stands_after_the_overview_and_crops_and_notes_before_the_question() -> None:
    messages = layout("Now?", [Turn("First?", "Yes.")], [OVERVIEW, CROPS[0]], ["Hint one.", "Hint two."], ["A note."], "en")
    assert render(messages).removeprefix(SYSTEM) == (
        " USER: <image>\nHint one.\nHint two.\nFirst? ASSISTANT: Yes.</s>"
        "USER: Close-up, upper left: <image>\nA note.\nNow? ASSISTANT:"
    )
    assert encoded(messages).images == (OVERVIEW.image, CROPS[0].image)


@given(question=text, said=turns, system=text)
def test_nothing_that_is_typed_becomes_a_control_token(question: str, said: list[Turn], system: str) -> None:
    ids = encoded(layout(question, said, [OVERVIEW], [], [], "ko", system)).ids
    found = [token for token in ids if token in SPECIAL]
    end = TOKENIZER.eos_token_id
    assert found == [TOKENIZER.bos_token_id, *[IMAGE_ID] * PER_IMAGE, *[end] * len(said)]


@given(question=text, said=turns)
def test_only_answers_and_their_ends_are_learnt_from(question: str, said: list[Turn]) -> None:
    result = encoded(laid_out(question, said))
    learnt = [token for token, is_answer in zip(result.ids, result.is_answer, strict=True) if is_answer]
    expected: list[int] = []
    for turn in said:
        expected += TOKENIZER.encode(turn.answer, add_special_tokens=False, split_special_tokens=True)
        expected.append(TOKENIZER.eos_token_id)
    assert learnt == expected


@given(question=text, ids=st.lists(st.integers(3, 300), min_size=1, max_size=9))
def test_an_answer_is_remembered_by_the_ids_that_the_model_wrote(question: str, ids: list[int]) -> None:
    result = encoded(laid_out(question, [Turn("Hi", "other words", tuple(ids))]))
    learnt = [token for token, is_answer in zip(result.ids, result.is_answer, strict=True) if is_answer]
    assert learnt == [*ids, TOKENIZER.eos_token_id]


def test_an_image_token_that_a_model_wrote_is_left_out_of_its_history() -> None:
    ids = encoded(laid_out("Why?", [Turn("Hi", "a", (IMAGE_ID, 300, IMAGE_ID))])).ids
    assert ids.count(IMAGE_ID) == PER_IMAGE


@given(said=turns)
def test_a_prompt_grows_only_at_its_end(said: list[Turn]) -> None:
    prompts = [encoded(laid_out(turn.question, said[:i])).ids for i, turn in enumerate(said)]
    for shorter, longer in pairwise(prompts):
        assert longer[: len(shorter)] == shorter


def test_the_fingerprint_sees_words_ids_and_pixels() -> None:
    base = laid_out("Why?", [Turn("Hi", "Yes.", (5, 6))])
    red, turned = (Image.new("RGB", size, "red") for size in ((4, 2), (2, 4)))
    others = [
        laid_out("Why", [Turn("Hi", "Yes.", (5, 6))]),
        laid_out("Why?", [Turn("Hi", "Yes.", (5, 7))]),
        laid_out("Why?", [Turn("Hi", "Yes.", (5, 6))], [CROPS[0]]),
        laid_out("Why?", views=[View("overview", Box(0, 0, 4, 2), red)]),
        laid_out("Why?", views=[View("overview", Box(0, 0, 4, 2), turned)]),
    ]
    assert fingerprint(base) == fingerprint(laid_out("Why?", [Turn("Hi", "Yes.", (5, 6))]))
    assert len({fingerprint(base), *map(fingerprint, others)}) == len(others) + 1


def composed(question: str, said: Sequence[Turn], crops: int, room: int, answer_tokens: int = 8, most: int = 4) -> Prompt:
    views = [OVERVIEW, *CROPS[:crops]]
    limits = Limits(room, PER_IMAGE, most)
    return compose(question, Conversation(tuple(said)), views, [], [], "en", limits, count, answer_tokens)


@settings(max_examples=200)
@given(question=text, said=turns, crops=st.integers(0, 3), room=st.integers(40, 700))
def test_the_oldest_turns_leave_first_then_the_last_crops_and_no_more_than_needed(
    question: str, said: list[Turn], crops: int, room: int
) -> None:
    least = count(laid_out(question)) + 8
    if least > room:
        with pytest.raises(DoesNotFit) as error:
            composed(question, said, crops, room)
        assert (error.value.needed, error.value.available) == (least, room)
        return
    prompt = composed(question, said, crops, room)
    assert prompt.tokens == count(prompt.messages) <= room - 8
    assert prompt.turns == tuple(said[len(said) - len(prompt.turns) :])
    assert prompt.views == (OVERVIEW, *CROPS[: len(prompt.views) - 1])
    lost_turns, lost_crops = len(said) - len(prompt.turns), 1 + crops - len(prompt.views)
    if lost_crops:
        assert prompt.turns == ()
    if lost_turns or lost_crops:
        one_more_turn = said[lost_turns - 1 :] if not lost_crops else []
        views = (OVERVIEW, *CROPS[: len(prompt.views) - 1 + bool(lost_crops)])
        assert count(laid_out(question, one_more_turn, views)) + 8 > room


@given(question=text, crops=st.integers(0, 3), most=st.integers(1, 4))
def test_no_prompt_holds_more_images_than_the_checkpoint_was_trained_on(question: str, crops: int, most: int) -> None:
    prompt = composed(question, [], crops, room=10_000, most=most)
    assert len(prompt.views) == min(1 + crops, most)
    assert prompt.views[0] == OVERVIEW


@given(question=text, said=turns)
def test_the_question_is_never_cut(question: str, said: list[Turn]) -> None:
    assume(question)
    prompt = composed(question, said, crops=3, room=count(laid_out(question)) + 8)
    assert prompt.turns == ()
    assert prompt.views == (OVERVIEW,)
    assert prompt.messages[-1].parts[-1] == question
    with pytest.raises(DoesNotFit):
        composed(question, said, crops=3, room=count(laid_out(question)) + 7)
