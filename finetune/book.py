"""The book: lessons by the page, packed into batches; the first pages are a primer.

Knows lessons, tokens and patches. Does not know models. A lesson depends on nothing but its seed and number, so a resumed
training reads the same book from the same page.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from chat.prompt import Encoded, encode
from finetune import canvas
from finetune.exchange import Random
from finetune.films import Films
from finetune.lessons import Lesson, draw_language, draw_lesson, draw_quiz
from finetune.mixing import Moved
from finetune.patches import LEAST_SHARE

PATCHES = canvas.GRID**2
MOST_TOKENS = 1100
IGNORED = -100
LENGTHS = 32
"""Batches are padded to multiples of this: a library that keeps a kernel for every shape must not meet hundreds."""
PRIMER_PAGES, QUIZ_TURNS = 60, 12
"""Pages at the beginning that only quiz, so many questions at a time, on scenes of which they show little but the shapes."""


@dataclass(frozen=True)
class Read:
    """A lesson as tokens. `kept` (patches,) are the patches that its first picture shows, all unless it is from the primer;
    `looks` (n, patches) are what is looked at, the first of them nothing, `look_of` (tokens,) says which a token is about;
    `moved` is the lesson's.
    """

    tokens: Encoded
    kept: NDArray[np.bool_]
    looks: NDArray[np.bool_]
    look_of: NDArray[np.int64]
    moved: Moved


class Book(Dataset[list[dict[str, torch.Tensor]]]):
    """Page `i` is the i-th `page * batch` lessons as `page` batches, lessons of like length together.

    A batch holds `input_ids` and `labels` (batch, length); `pixel_values` (images, 3, side, side); `kept`
    (images, patches), false for what is left out; `looks` (batch, n, patches), true for what is looked at, and `look_of`
    (batch, length) as in `Read`.
    """

    def __init__(
        self, films: Films, tokenizer: Any, image_id: int, seed: int, batch: int, page: int, primer: int = PRIMER_PAGES
    ) -> None:
        self.films, self.tokenizer, self.image_id = films, tokenizer, image_id
        self.seed, self.batch, self.page, self.primer = seed, batch, page, primer

    def __getitem__(self, number: int) -> list[dict[str, torch.Tensor]]:
        size = self.page * self.batch
        read = [self._read(number, lesson) for lesson in range(number * size, (number + 1) * size)]
        read.sort(key=lambda one: len(one.tokens.ids))
        groups = [read[i : i + self.batch] for i in range(0, size, self.batch)]
        order = np.random.default_rng([self.seed, 3, number]).permutation(self.page)
        return [collate(groups[i], self.tokenizer.pad_token_id) for i in order]

    def _read(self, page: int, lesson: int) -> Read:
        """The first lesson of this number that is not too long."""
        rng = np.random.default_rng([self.seed, 1, lesson])
        while True:
            read = (
                self._quiz(rng, shown_ground(page))
                if page < self.primer
                else read_lesson(draw_lesson(self.films, rng), self.tokenizer, self.image_id)
            )
            if len(read.tokens.ids) <= MOST_TOKENS:
                return read

    def _quiz(self, rng: Random, ground: float) -> Read:
        """A quiz that shows the patches of a scene's items, and so much of the rest."""
        scene, lesson = draw_quiz(rng, draw_language(rng), QUIZ_TURNS)
        shares = canvas.patch_shares(scene.index)[:, :, 1:].sum(2).ravel()
        return thin(
            read_lesson(lesson, self.tokenizer, self.image_id),
            (shares >= LEAST_SHARE) | (rng.random(PATCHES) < ground),
            self.image_id,
        )


def read_lesson(lesson: Lesson, tokenizer: Any, image_id: int) -> Read:
    tokens = encode(lesson.messages, tokenizer, image_id, PATCHES)
    looks = np.stack([np.zeros(PATCHES, bool), *(look.patches for answer in lesson.looks for look in answer)])
    return Read(tokens, np.ones(PATCHES, bool), looks, _looks_of(tokens, lesson, tokenizer), lesson.moved)


def _looks_of(tokens: Encoded, lesson: Lesson, tokenizer: Any) -> NDArray[np.int64]:
    """(tokens,) the number of the look that each token of an answer is about, from 1; 0 for all other tokens."""
    look_of = np.zeros(len(tokens.ids), np.int64)
    is_answer, number = np.array(tokens.is_answer), 0
    starts = np.flatnonzero(is_answer & ~np.roll(is_answer, 1))
    for start, looks in zip(starts.tolist() if lesson.looks else (), lesson.looks, strict=True):
        at = -1  # the mark of a space in front of an answer's first word
        ends = [look.end for look in looks]
        while start < len(look_of) and is_answer[start] and (passed := bisect_right(ends, max(0, at))) < len(looks):
            look_of[start] = 1 + number + passed
            at += len(tokenizer.convert_ids_to_tokens(tokens.ids[start]))
            start += 1
        number += len(looks)
    return look_of


def shown_ground(page: int) -> float:
    """The share of a scene's empty patches that are shown on this page: 0.05 in the primer's first half, then more and more.

    To find the patch that a word names is learnt sooner among a dozen patches than among a hundred, and costs less (patches
    are dropped as in Li et al. 2023, "Scaling language-image pre-training via masking", but not at random).
    """
    return min(1.0, 0.05 + 0.95 * max(0.0, 2 * page / PRIMER_PAGES - 1) ** 2)


def thin(read: Read, kept: NDArray[np.bool_], image_id: int) -> Read:
    """Without the tokens of the patches of its one picture that are not `kept`."""
    tokens = read.tokens
    stays = np.ones(len(tokens.ids), bool)
    stays[np.array(tokens.ids) == image_id] = kept
    ids, is_answer = np.array(tokens.ids)[stays], np.array(tokens.is_answer)[stays]
    encoded = Encoded(tuple(ids.tolist()), tuple(is_answer.tolist()), tokens.images)
    return Read(encoded, kept, read.looks & kept, read.look_of[stays], read.moved)


def collate(group: Sequence[Read], pad_id: int) -> dict[str, torch.Tensor]:
    """Lessons as one right-padded batch, the loss on answers and their end tokens only."""
    longest = -(-max(len(one.tokens.ids) for one in group) // LENGTHS) * LENGTHS
    ids = torch.full((len(group), longest), pad_id)
    labels = torch.full((len(group), longest), IGNORED)
    looks = torch.zeros((len(group), max(len(one.looks) for one in group), PATCHES), dtype=torch.bool)
    look_of = torch.zeros((len(group), longest), dtype=torch.long)
    for row, one in enumerate(group):
        n = len(one.tokens.ids)
        ids[row, :n] = torch.tensor(one.tokens.ids)
        labels[row, :n] = torch.where(torch.tensor(one.tokens.is_answer), ids[row, :n], IGNORED)
        looks[row, : len(one.looks)] = torch.from_numpy(one.looks)
        look_of[row, :n] = torch.from_numpy(one.look_of)
    pixels = torch.stack([canvas.pixels(image) for one in group for image in one.tokens.images])
    return {
        "input_ids": ids,
        "labels": labels,
        "looks": looks,
        "look_of": look_of,
        "kept": torch.from_numpy(np.stack([one.kept for one in group for _ in one.tokens.images])),
        "moved": torch.from_numpy(np.stack([one.moved for one in group for _ in one.tokens.images])),
        "pixel_values": canvas.normalise(pixels).contiguous(memory_format=torch.channels_last),
    }
