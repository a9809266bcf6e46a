"""Batches: records as the ids that a model reads when it is served, in an order that a seed decides.

Knows the one prompt builder, lengths and seeds. Does not know optimizers or devices. A loss sees an answer's tokens and the
end token behind each, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from chat.conversation import Turn
from chat.engine.base import Message
from chat.prompt import SYSTEM, View, encode, layout
from chat.wording import language_of, with_report
from finetune.chat import PINNED
from finetune.record_formats import Record
from finetune.records import RecordError
from vision.tiling import Box

IGNORED = -100
"""The target that no loss sees."""

POOL = 8
"""Steps whose examples are sorted by length together, so that little of a batch is padding."""


@dataclass(frozen=True)
class Example:
    """Ids to read, which of them are an answer, and the hash of the image whose features they hold."""

    ids: tuple[int, ...]
    is_answer: tuple[bool, ...]
    image: str | None = None

    @property
    def answers(self) -> int:
        return sum(self.is_answer)


@dataclass(frozen=True)
class Share:
    """One micro-batch of one process: the examples by number. One that does not count keeps the processes in step."""

    examples: tuple[int, ...]
    counts: bool = True


class Reader(Protocol):
    """How a base reads messages; `image_id` None is a text model with a template of its own."""

    @property
    def tokenizer(self) -> Any: ...
    @property
    def image_id(self) -> int | None: ...
    @property
    def tokens_per_image(self) -> int: ...


def messages_of(record: Record, image: Image.Image | None, turns: int | None = None) -> tuple[Message, ...]:
    """The messages with which the record's first `turns` (all) questions are asked when served, and the last one's answer.

    A report that a record is about stands where `finetune.chat` pins it: in the system message.
    """
    *earlier, last = record.turns[:turns]
    report, system = record.context.strip(), SYSTEM
    if report:
        system = with_report(PINNED[language_of(last.question, language_of(report))], report)
    past = [Turn(turn.question, turn.answer) for turn in earlier]
    answer = Message("assistant", (last.answer,))
    if image is not None:
        view = View("overview", Box(0, 0, *image.size), image)
        return (*layout(last.question, past, [view], (), (), language_of(last.question), system), answer)
    said = chain.from_iterable((Message("user", (t.question,)), Message("assistant", (t.answer,))) for t in past)
    return (Message("system", (system,)), *said, Message("user", (last.question,)), answer)


def examples_of(record: Record, reader: Reader, image: str | None) -> list[Example]:
    """One example for a LLaVA; for a text model one for each turn, as its template may word an earlier turn differently.

    Raises RecordError for an image that a text model cannot see, or a template that takes no conversation.
    """
    if reader.image_id is not None:
        stand_in = Image.new("RGB", (1, 1)) if record.image else None  # ids do not depend on its pixels
        found = encode(messages_of(record, stand_in), reader.tokenizer, reader.image_id, reader.tokens_per_image)
        return [Example(found.ids, found.is_answer, image)]
    if record.image:
        raise RecordError(f"Record {record.id[:80]!r} has an image, and this base reads text alone. Name a LLaVA as the base.")
    return [_templated(messages_of(record, None, turns), reader.tokenizer) for turns in range(1, len(record.turns) + 1)]


def _templated(messages: Sequence[Message], tokenizer: Any) -> Example:
    """As `chat.engine.text` reads the question; then the answer and the end token."""
    said = [{"role": message.role, "content": "".join(map(str, message.parts))} for message in messages[:-1]]
    try:
        prompt = tokenizer.apply_chat_template(
            said, add_generation_prompt=True, sanitize_control_tokens=True, enable_thinking=False
        )["input_ids"]
    except Exception as error:  # a template is the checkpoint's own code and raises what it likes
        raise RecordError(
            "This base has no chat template that takes a conversation. Name an instruction-tuned model."
        ) from error
    answer = tokenizer.encode("".join(map(str, messages[-1].parts)), add_special_tokens=False, split_special_tokens=True)
    answer = [*answer, tokenizer.eos_token_id]
    return Example((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))


def plan(lengths: Sequence[int], batch: int, accumulate: int, processes: int, seed: int) -> list[list[list[Share]]]:
    """An epoch: for each step, for each process, its micro-batches. Every example is in it once.

    The steps hold the same examples however many processes share them, as long as batch x accumulate x processes is the same.
    Neighbours in length stand together within `POOL` steps (as LLaVA's group_by_length does); every process has a last
    micro-batch, as the processes wait for each other there.
    """
    rng, whole = np.random.default_rng(seed), batch * accumulate * processes
    order = rng.permutation(len(lengths))
    steps: list[list[int]] = []
    for start in range(0, len(order), POOL * whole):
        pool = sorted(order[start : start + POOL * whole].tolist(), key=lambda number: -lengths[number])
        steps += [pool[at : at + whole] for at in range(0, len(pool), whole)]
    found = []
    for number in rng.permutation(len(steps)):
        step = steps[number]
        micro = [Share(tuple(step[at : at + batch])) for at in range(0, len(step), batch)]
        idle = Share((step[0],), counts=False)
        found.append([micro[rank::processes] or [idle] for rank in range(processes)])
    return found


def collate(examples: Sequence[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, longest) ids and targets, padded on the right, where no token that counts can see it."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    targets = torch.full((len(examples), longest), IGNORED)
    for row, example in enumerate(examples):
        read = torch.tensor(example.ids)
        ids[row, : len(read)] = read
        targets[row, : len(read)] = torch.where(torch.tensor(example.is_answer), read, IGNORED)
    return ids, targets
