"""The prompt: a conversation, its evidence and its views as messages, and messages as token ids.

Knows LLaVA-1.5's training format and the token budget. Does not know engines, pages or how crops were chosen.
Chat and training share `encode`, so a model reads at the desk exactly what it read at school.

The format is the reference's `vicuna_v1` (Liu et al. 2023, "Improved Baselines with Visual Instruction Tuning"):
`SYSTEM USER: <image>\\nquestion ASSISTANT: answer</s>USER: question ASSISTANT:`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from chat.conversation import Conversation, Turn
from chat.engine.base import DoesNotFit, Limits, Message, Part
from chat.wording import Language, close_up, overlay_caption
from vision.tiling import Box

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>"
END = "</s>"

LEAST_PINNED = 16
"""Tokens of evidence from which on they are a part of their own; a forward pass for fewer costs more than it saves."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that prompts need."""

    bos_token_id: int
    eos_token_id: int

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True)
class View:
    """One image that the model is given: the whole study (`overview`), the same under its saliency map (`overlay`), a crop at
    the map's peak, a planned tile, or the person's own region.
    """

    kind: Literal["overview", "overlay", "peak", "tile", "region"]
    box: Box
    image: Image.Image


@dataclass(frozen=True)
class Prompt:
    """What fits: the messages, and which turns and views they hold. `tokens` counts the messages alone."""

    messages: tuple[Message, ...]
    turns: tuple[Turn, ...]
    views: tuple[View, ...]
    tokens: int


@dataclass(frozen=True)
class Encoded:
    """Token ids with one image id per image patch; `is_answer` marks the tokens that a loss may see.

    `cuts` are where a prompt may be read in parts: behind the first image, the lines that belong to it, and each answer.
    What stands before one is the same whatever follows, so that what was read up to there serves the next question.
    """

    ids: tuple[int, ...]
    is_answer: tuple[bool, ...]
    images: tuple[Image.Image, ...]
    cuts: tuple[int, ...] = ()


Piece = str | Image.Image | Message


def pieces(messages: Sequence[Message]) -> list[Piece]:
    """The prompt cut where the reference cuts it: at each image and around each answer.

    Strings are tokenised on their own; an assistant message stands for its answer and the end token.
    """
    cut: list[Piece] = []
    text = ""
    for message in messages:
        if message.role == "assistant":
            cut += [text, message]
            text = ""
            continue
        text += "USER: " if message.role == "user" else ""
        for part in message.parts:
            if isinstance(part, str):
                text += part
            else:
                cut += [text, part]
                text = ""
        text += " ASSISTANT:" if message.role == "user" else " "
    return [piece for piece in [*cut, text] if piece != ""]


def render(messages: Sequence[Message]) -> str:
    """The prompt as a person can read it, with `<image>` where an image stands."""
    said = []
    for piece in pieces(messages):
        if isinstance(piece, Message):
            said.append(f" {''.join(map(str, piece.parts))}{END}")
        else:
            said.append(piece if isinstance(piece, str) else IMAGE)
    return "".join(said)


def fingerprint(messages: Sequence[Message]) -> str:
    """SHA-256 of the rendered prompt, the answers' ids and every image's size and pixels."""
    digest = hashlib.sha256(render(messages).encode())
    for message in messages:
        digest.update(repr(message.ids).encode())
        for image in message.images:
            digest.update(repr(image.size).encode() + image.tobytes())
    return digest.hexdigest()


def encode(messages: Sequence[Message], tokenizer: Tokenizer, image_id: int, tokens_per_image: int) -> Encoded:
    """Messages as the ids a LLaVA reads, for chat and for training.

    Special tokens are only ever put in by this function: `<image>` or `</s>` typed by a person are encoded
    as the characters they are, and an image token that a model wrote is left out, for no image would stand
    behind it. An answer without ids is encoded from its text. `tokenizer.space_behind_end`, which a checkpoint's
    loader sets, is what the reference's tokenizer puts in front of text behind `</s>`: a space or nothing.
    """
    ids, is_answer, images = [tokenizer.bos_token_id], [False], []
    behind_end, cuts = False, [0]
    for piece in pieces(messages):
        if isinstance(piece, Image.Image):
            new, answer = [image_id] * tokens_per_image, False
            images.append(piece)
            cuts += [len(ids) + len(new)] * (len(images) == 1)
        elif isinstance(piece, Message):
            said = [token for token in piece.ids if token != image_id] or _encode_text(
                "".join(map(str, piece.parts)), tokenizer
            )
            new, answer = [*said, tokenizer.eos_token_id], True
            cuts.append(len(ids) + len(new))
        else:
            new, answer = _encode_text(piece, tokenizer, behind_end), False
            if images and cuts[-1] == len(ids) and not behind_end:
                pinned = _encode_text(_pinned(messages), tokenizer)
                cuts += [len(ids) + len(pinned)] * (len(pinned) >= LEAST_PINNED and new[: len(pinned)] == pinned)
        behind_end = answer
        ids += new
        is_answer += [answer] * len(new)
    return Encoded(tuple(ids), tuple(is_answer), tuple(images), tuple(cuts[1:]))


def _pinned(messages: Sequence[Message]) -> str:
    """The text behind the first image that stands there whatever is asked; empty where the question itself does."""
    parts = next(message.parts for message in messages if message.images)
    behind = parts[next(i for i, part in enumerate(parts) if not isinstance(part, str)) + 1 :]
    return behind[0] if len(behind) > 1 and isinstance(behind[0], str) else ""


def _encode_text(text: str, tokenizer: Tokenizer, behind_end: bool = False) -> list[int]:
    """With the leading space that the reference puts there even before a space, which a fast tokenizer does not.

    So the text goes behind a newline, a token that merges with nothing and is cut off again. A checkpoint that says
    nothing of it was trained with the fast tokenizer's own way.
    """
    space = getattr(tokenizer, "space_behind_end", None)
    if space is None or not text:
        return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    newline = tokenizer.encode("\n", add_special_tokens=False, split_special_tokens=True)
    text = "\n" + (space if behind_end else " ") + text
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)[len(newline) :]


def layout(
    question: str,
    turns: Sequence[Turn],
    views: Sequence[View],
    evidence: Sequence[str],
    notes: Sequence[str],
    language: Language,
    system: str = SYSTEM,
) -> tuple[Message, ...]:
    """The messages in the house order: system, overview and evidence first, then turns, then crops and question.

    `views[0]` is the overview; the others are crops for this question only. `notes` are what the model said
    about crops that it looked at one by one.
    """
    overview, crops = views[0], views[1:]
    head: list[Part] = [overview.image, "".join(f"\n{line}" for line in evidence) + "\n"]
    messages = [Message("system", (system,))]
    for turn in turns:
        messages += [Message("user", (*head, turn.question)), Message("assistant", (turn.answer,), turn.ids)]
        head = []
    for crop in crops:
        is_overlay = crop.kind == "overlay"
        caption = overlay_caption(language) if is_overlay else close_up(crop.box, overview.image.size, language)
        head += [caption + " ", crop.image, "\n"]
    head += [f"{note}\n" for note in notes]
    return (*messages, Message("user", (*head, question)))


def compose(
    question: str,
    conversation: Conversation,
    views: Sequence[View],
    evidence: Sequence[str],
    notes: Sequence[str],
    language: Language,
    limits: Limits,
    count: Callable[[Sequence[Message]], int],
    answer_tokens: int,
    system: str = SYSTEM,
) -> Prompt:
    """The longest prompt that leaves room for the answer: the oldest turns leave first, then the last crops.

    Raises DoesNotFit when overview, evidence and question alone are too long; text is never cut.
    """
    turns, shown = conversation.turns, tuple(views[: limits.max_images])
    while True:
        messages = layout(question, turns, shown, evidence, notes, language, system)
        tokens = count(messages)
        if tokens + answer_tokens <= limits.context_tokens:
            return Prompt(messages, turns, shown, tokens)
        if turns:
            turns = turns[1:]
        elif len(shown) > 1:
            shown = shown[:-1]
        else:
            raise DoesNotFit(tokens + answer_tokens, limits.context_tokens)


def layout_search(reference: Image.Image | None, crop: Image.Image, question: str, system: str = SYSTEM) -> tuple[Message, ...]:
    """The messages of one closed search question about `crop`: the reference picture first, when there is one."""
    pictures: list[Part] = [crop, "\n"] if reference is None else [reference, "\n", crop, "\n"]
    return Message("system", (system,)), Message("user", (*pictures, question))
