"""Conversations: five turns, no more, and none that changes under anyone's hands."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.conversation import DEFAULT_TURNS, MOST_TURNS, Conversation, Turn

turns = st.lists(st.builds(Turn, st.text(), st.text(), st.lists(st.integers(0, 9)).map(tuple)), max_size=30)
limits = st.integers(1, MOST_TURNS)


def after(said: list[Turn], limit: int = DEFAULT_TURNS) -> Conversation:
    conversation = Conversation(limit=limit)
    for turn in said:
        conversation = conversation.with_turn(turn)
    return conversation


@given(said=turns, limit=limits)
def test_exactly_the_last_turns_are_remembered(said: list[Turn], limit: int) -> None:
    conversation = after(said, limit)
    assert conversation.turns == tuple(said[-limit:])
    assert conversation.asked == len(said)


def test_five_turns_are_remembered_and_the_sixth_pushes_out_the_first() -> None:
    said = [Turn(str(i), str(i)) for i in range(1, 7)]
    assert [turn.question for turn in after(said[:5]).turns] == ["1", "2", "3", "4", "5"]
    assert [turn.question for turn in after(said).turns] == ["2", "3", "4", "5", "6"]


@given(said=turns, limit=limits, turn=st.builds(Turn, st.text(), st.text()))
def test_taking_back_a_turn_is_the_conversation_before_it_as_far_as_it_is_remembered(
    said: list[Turn], limit: int, turn: Turn
) -> None:
    before = after(said, limit)
    undone = before.with_turn(turn).without_last()
    assert undone.asked == before.asked
    assert undone.turns == (before.turns if len(before.turns) < limit else before.turns[1:])


@given(said=turns, limit=limits)
def test_regenerating_keeps_the_number_and_the_company_of_a_turn(said: list[Turn], limit: int) -> None:
    if not said:
        return
    conversation = after(said, limit)
    again = conversation.without_last().with_turn(said[-1])
    assert again == conversation


@given(said=turns, limit=limits)
def test_a_conversation_never_changes(said: list[Turn], limit: int) -> None:
    conversation = after(said, limit)
    copy = dataclasses.replace(conversation)
    conversation.with_turn(Turn("?", "!"))
    conversation.cleared()
    if conversation.turns:
        conversation.without_last()
    assert conversation == copy
    with pytest.raises(dataclasses.FrozenInstanceError):
        conversation.turns = ()  # type: ignore[misc]


def test_an_empty_conversation_has_nothing_to_take_back() -> None:
    with pytest.raises(ValueError, match="no turn"):
        Conversation().without_last()


@given(said=turns, limit=limits)
def test_a_cleared_conversation_keeps_its_window_only(said: list[Turn], limit: int) -> None:
    assert after(said, limit).cleared() == Conversation(limit=limit)


@pytest.mark.parametrize("limit", [-1, 0, MOST_TURNS + 1])
def test_a_window_outside_one_to_twenty_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="1 to 20"):
        Conversation(limit=limit)
