"""Lessons: pictures with dialogues about them, laid out as chat lays them out, and packed into batches.

Knows every generator, the prompt builder and the tokenizer. Does not know models. A lesson depends on nothing
but its seed and number, so a resumed training reads the same book from the same page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from chat.conversation import Turn
from chat.engine.base import Message
from chat.prompt import Encoded, View, encode, layout, layout_search
from chat.wording import LANGUAGES, Language, answer_in, evidence_lines, search_prompt
from finetune import canvas
from finetune.ask_films import ask_about_film, ask_about_phantom, ask_film_kind, draw_evidence
from finetune.ask_other import ask_about_oddity, ask_other
from finetune.ask_scenes import ask_about_scene, ask_kind
from finetune.exchange import Exchange, Random, closed_answer
from finetune.films import LABELS, augment
from finetune.oddities import draw_oddity
from finetune.phantom import draw_phantom
from finetune.scenes import Scene, draw_scene
from vision.tiling import Box, cut, even_tiles

MOST_TOKENS = 1100
MOST_CROPS = 4
IGNORED = -100
LENGTHS = 32
"""Batches are padded to multiples of this: a library that keeps a kernel for every shape must not meet hundreds."""

Lesson = tuple[Message, ...]


@dataclass(frozen=True)
class Films:
    """Films to teach with: (n, h, w) uint8 grey and (n,) labels as in `finetune.films.LABELS`."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def draw(self, rng: Random) -> tuple[Image.Image, int]:
        """A film of a label drawn 45/30/25 among those there are, stretched and padded at random, never mirrored."""
        labels = self.labels.numpy()
        wanted = np.array([0.45, 0.3, 0.25]) * (np.bincount(labels, minlength=len(LABELS)) > 0)
        label = int(rng.choice(len(LABELS), p=wanted / wanted.sum()))
        index = int(rng.choice(np.flatnonzero(labels == label)))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        grey, _ = augment(self.pixels[index : index + 1], canvas.SIDE, generator, flip=False)
        return Image.fromarray((grey[0, 0] * 255).to(torch.uint8).numpy()).convert("RGB"), label


def _turns(exchanges: Sequence[Exchange]) -> list[Turn]:
    return [Turn(exchange.question, exchange.answer) for exchange in exchanges]


def _spoken(
    image: Image.Image, exchanges: Sequence[Exchange], lines: Sequence[str], language: Language, crops: Sequence[Box] = ()
) -> Lesson:
    """A dialogue in the serving layout, its last answer included; the crops belong to the last question."""
    *before, last = _turns(exchanges)
    tiles = [cut(image, box) for box in crops]
    views = [View("overview", Box(0, 0, *image.size), image), *(View("tile", tile.box, tile.image) for tile in tiles)]
    return (*layout(last.question, before, views, lines, (), language), Message("assistant", (last.answer,)))


def _mixed(rng: Random, exchanges: list[Exchange], language: Language) -> list[Exchange]:
    """Now and then somebody says hello, or asks for something else, in the middle."""
    if rng.random() < 0.12:
        exchanges.insert(int(rng.integers(len(exchanges) + 1)), ask_other(rng, language))
    return exchanges


def _draw_turns(rng: Random) -> int:
    """More than the five that chat remembers: an image costs as much as many answers, and it is answers that teach."""
    return int(rng.integers(3, 13))


def film_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    image, label = films.draw(rng)
    evidence = draw_evidence(label, rng)[0] if rng.random() < 0.4 else None
    lines = evidence_lines(evidence, language) if evidence else []
    if rng.random() < 0.1:
        other: Language = "en" if language == "ko" else "ko"
        kind = ("pneumonia", "normal", "impression", "type")[int(rng.integers(4))]
        asked = ask_film_kind(label, kind, evidence, rng, language)
        answered = ask_film_kind(label, kind, evidence, rng, other)
        return _spoken(image, [replace(answered, question=f"{asked.question} {answer_in(other)}")], lines, other)
    return _spoken(
        image, _mixed(rng, ask_about_film(label, evidence, rng, language, _draw_turns(rng)), language), lines, language
    )


def phantom_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    phantom = draw_phantom(rng)
    return _spoken(
        phantom.image, _mixed(rng, ask_about_phantom(phantom, None, rng, language, _draw_turns(rng)), language), [], language
    )


def scene_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    scene = draw_scene(rng)
    return _spoken(scene.image, _mixed(rng, ask_about_scene(scene, rng, language, _draw_turns(rng)), language), [], language)


def primer_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """Every shape of a scene, one after the other: of all lessons the one with most to see per word."""
    while (exchange := ask_kind(scene := draw_scene(rng), "each", rng, language)) is None:
        pass
    return _spoken(scene.image, [exchange], [], language)


def crop_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """A picture with one region of the person's own, or with the tiles that chat adds to a large image."""
    turns, what = int(rng.integers(1, 4)), rng.random()
    if what < 0.35:
        image, label = films.draw(rng)
        exchanges = ask_about_film(label, None, rng, language, turns)
    elif what < 0.5:
        phantom = draw_phantom(rng)
        image, exchanges = phantom.image, ask_about_phantom(phantom, None, rng, language, turns)
    else:
        scene = draw_scene(rng)
        image, exchanges = scene.image, ask_about_scene(scene, rng, language, turns)
    width, height = image.size
    left, top = int(rng.uniform(0, 0.6) * width), int(rng.uniform(0, 0.6) * height)
    region = Box(left, top, left + int(rng.uniform(0.25, 0.4) * width), top + int(rng.uniform(0.25, 0.4) * height))
    crops = [region] if rng.random() < 0.4 else even_tiles(image.size, MOST_CROPS)
    return _spoken(image, exchanges, [], language, crops)


def oddity_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    return _spoken(
        draw_oddity(rng), _mixed(rng, ask_about_oddity(rng, language, int(rng.integers(1, 4))), language), [], language
    )


def _around(scene: Scene, box: Box, rng: Random, reach: float) -> Box:
    """`box` grown on each side by up to `reach` of its longer side, clipped to the scene."""
    left, top, right, bottom = (int(rng.uniform(0.2, 1) * reach * max(box.size)) for _ in range(4))
    return Box(box.left - left, box.top - top, box.right + right, box.bottom + bottom).clipped(scene.image.size)


def _share_inside(inner: Box, outer: Box) -> float:
    width = min(inner.right, outer.right) - max(inner.left, outer.left)
    height = min(inner.bottom, outer.bottom) - max(inner.top, outer.top)
    return max(0, width) * max(0, height) / (inner.size[0] * inner.size[1])


def search_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """A reference cut from a scene, turned and rescaled, and whether the same thing stands in a crop."""
    here = draw_scene(rng)
    there = here if rng.random() < 0.6 else draw_scene(rng)
    if not here.items or not there.items:
        return scene_lesson(films, rng, language)
    item = here.items[int(rng.integers(len(here.items)))]
    target = item if there is here and rng.random() < 0.75 else there.items[int(rng.integers(len(there.items)))]
    crop_box = _around(there, target.box, rng, 2.5)
    shares = [_share_inside(i.box, crop_box) for i in there.items if (i.kind, i.colour) == (item.kind, item.colour)]
    present = max(shares, default=0.0)
    if 0 < present < 0.6:
        return scene_lesson(films, rng, language)
    shown = cut(here.image, _around(here, item.box, rng, 0.3)).image
    scale = float(rng.uniform(0.5, 2))
    shown = shown.resize((max(16, int(shown.width * scale)), max(16, int(shown.height * scale))), Image.Resampling.BICUBIC)
    shown = shown.rotate(float(rng.uniform(-20, 20)), fillcolor=shown.getpixel((0, 0)))
    messages = layout_search(shown, cut(there.image, crop_box).image, search_prompt(language))
    return (*messages, Message("assistant", (closed_answer(present > 0, language) + ".",)))


def describe_search_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    scene = draw_scene(rng)
    exchange = ask_kind(scene, "search", rng, language)
    if exchange is None:
        return scene_lesson(films, rng, language)
    return (*layout_search(None, scene.image, exchange.question), Message("assistant", (exchange.answer,)))


Maker = Callable[[Films, Random, Language], Lesson]
MAKERS: tuple[tuple[Maker, float], ...] = (
    (film_lesson, 0.18), (phantom_lesson, 0.11), (scene_lesson, 0.52), (crop_lesson, 0.03), (oddity_lesson, 0.05),
    (search_lesson, 0.04), (describe_search_lesson, 0.03), (primer_lesson, 0.04),
)  # fmt: skip
PRIMER_PAGES = 50
"""Pages at the beginning of the book that hold nothing but primer lessons: first to read a picture, then to be asked."""


def draw_lesson(films: Films, rng: Random) -> Lesson:
    """One lesson of a kind drawn by `MAKERS`, in a language drawn evenly."""
    maker = MAKERS[int(rng.choice(len(MAKERS), p=[share for _, share in MAKERS]))][0]
    return maker(films, rng, draw_language(rng))


def draw_language(rng: Random) -> Language:
    return LANGUAGES[int(rng.integers(2))]


def texts(films: Films, seed: int, count: int) -> list[str]:
    """The text of `count` lessons, for the tokenizer."""
    lessons = (draw_lesson(films, np.random.default_rng([seed, 2, number])) for number in range(count))
    return [part for lesson in lessons for message in lesson for part in message.parts if isinstance(part, str)]


class Lessons(Dataset[list[dict[str, torch.Tensor]]]):
    """Page `i` is the i-th `page * batch` lessons as `page` batches, lessons of like length together.

    A batch holds `input_ids`, `attention_mask`, `labels` (batch, length) and `pixel_values` (images, 3, side, side).
    """

    def __init__(self, films: Films, tokenizer: Any, image_id: int, seed: int, batch: int, page: int) -> None:
        self.films, self.tokenizer, self.image_id = films, tokenizer, image_id
        self.seed, self.batch, self.page = seed, batch, page

    def __getitem__(self, number: int) -> list[dict[str, torch.Tensor]]:
        size = self.page * self.batch
        encoded = sorted(
            (
                self._encode([self.seed, 1, lesson], number < PRIMER_PAGES)
                for lesson in range(number * size, (number + 1) * size)
            ),
            key=lambda one: len(one.ids),
        )
        groups = [encoded[i : i + self.batch] for i in range(0, size, self.batch)]
        order = np.random.default_rng([self.seed, 3, number]).permutation(self.page)
        return [collate(groups[i], self.tokenizer.pad_token_id) for i in order]

    def _encode(self, seed: Sequence[int], primer: bool) -> Encoded:
        """The first lesson of this seed that is not too long."""
        rng = np.random.default_rng(seed)
        while True:
            lesson = primer_lesson(self.films, rng, draw_language(rng)) if primer else draw_lesson(self.films, rng)
            one = encode(lesson, self.tokenizer, self.image_id, canvas.GRID**2)
            if len(one.ids) <= MOST_TOKENS:
                return one


def collate(group: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    """`Encoded` prompts as one right-padded batch, the loss on answers and their end tokens only."""
    longest = -(-max(len(one.ids) for one in group) // LENGTHS) * LENGTHS
    ids = torch.full((len(group), longest), pad_id)
    labels = torch.full((len(group), longest), IGNORED)
    mask = torch.zeros((len(group), longest), dtype=torch.long)
    for row, one in enumerate(group):
        n = len(one.ids)
        ids[row, :n] = torch.tensor(one.ids)
        mask[row, :n] = 1
        labels[row, :n] = torch.where(torch.tensor(one.is_answer), ids[row, :n], IGNORED)
    pixels = torch.stack([canvas.pixels(image) for one in group for image in one.images])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "pixel_values": canvas.normalise(pixels).contiguous(memory_format=torch.channels_last),
    }
