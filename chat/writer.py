"""The writer: a second model that answers in the person's language from what the first one saw, without the picture.

Knows conversations, the writer's prompt and its token budget. Does not know images, pages or where an engine runs.

Two conversations run side by side. The writer's holds what the person read: questions and answers in their language.
The seeing model's holds what that model was asked and said itself, in English: LLaVA's Korean costs several tokens a
syllable, its own ids go on exactly where they stopped, and what a writer made of an observation never comes back to
it as something that was seen. The price is that it does not know the writer's words; the writer does.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from chat.conversation import Conversation, Turn
from chat.engine.base import DoesNotFit, Engine, Message
from chat.prompt import Prompt
from chat.wording import Language, brief, look_at

OBSERVATION_TOKENS = 160
"""The most that the first model says where another one writes the answer."""

_SETTINGS = {"HILUM_API_KEY": "HILUM_WRITER_KEY", "--remote-name": "--writer-name", "--model": "--writer"}


def as_seen(conversation: Conversation) -> Conversation:
    """The conversation as the seeing model was part of it; a turn that no writer wrote is as it is."""
    turns = (
        Turn(look_at(turn.question), turn.observations, turn.ids) if turn.observations else turn for turn in conversation.turns
    )
    return replace(conversation, turns=tuple(turns))


def compose_brief(
    question: str,
    turns: Sequence[Turn],
    observations: str,
    hints: Sequence[str],
    language: Language,
    writer: Engine,
    answer_tokens: int,
) -> Prompt:
    """What the writer is sent, without a picture: as many turns as fit, then its task. Raises DoesNotFit.

    The task stands in the last message, for not every chat template has a system role.
    """
    task = Message("user", (brief(question, observations, hints, language),))
    while True:
        past = [(Message("user", (turn.question,)), Message("assistant", (turn.answer,))) for turn in turns]
        messages = (*chain.from_iterable(past), task)
        tokens = writer.count(messages)
        if tokens + answer_tokens <= writer.limits.context_tokens:
            return Prompt(messages, tuple(turns), (), tokens)
        if not turns:
            raise DoesNotFit(tokens + answer_tokens, writer.limits.context_tokens)
        turns = turns[1:]


def without_thoughts(text: str) -> str:
    """An answer without what some models think aloud before it."""
    said = text.rpartition("</think>")[2].strip()
    return "" if said.startswith("<think>") else said


def for_writer(sentence: str) -> str:
    """A sentence about an engine, with the settings that choose the writer in place of the model's."""
    for of_model, of_writer in _SETTINGS.items():
        sentence = sentence.replace(of_model, of_writer)
    return sentence
