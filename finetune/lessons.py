"""Lessons: pictures with dialogues about them, laid out as chat lays them out.

Knows every generator and the prompt's layout. Does not know tokens, batches or models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chat.conversation import Turn
from chat.engine.base import Message
from chat.prompt import View, layout, layout_search, pieces
from chat.wording import LANGUAGES, Language, answer_in, evidence_lines, search_prompt
from finetune import canvas
from finetune.ask_films import ask_about_film, ask_about_phantom, ask_film_kind, draw_evidence
from finetune.ask_other import ask_about_oddity, ask_other
from finetune.ask_scenes import ask_about_scene, ask_boxed, ask_kind
from finetune.exchange import Exchange, Random, closed_answer
from finetune.films import Films
from finetune.mixing import STAYS, Moved, mix
from finetune.oddities import draw_oddity
from finetune.patches import LEAST_SHARE
from finetune.phantom import Phantom, draw_phantom
from finetune.quiz import ask_quiz
from finetune.references import around, draw_part, draw_search, share_inside
from finetune.scenes import Scene, draw_scene
from vision.tiling import Box, cut, even_tiles

MOST_CROPS = 4
APART = 0.6
"""The share of quizzes and listings that are of scenes taken apart."""


@dataclass(frozen=True)
class Look:
    """The (patches,) of the last picture that an answer is about, from where the look before it ends up to character `end`."""

    end: int
    patches: NDArray[np.bool_]


@dataclass(frozen=True)
class Lesson:
    """A dialogue in the serving layout, the last answer included; `looks` are each answer's, where the truth is known.

    `moved` says what its one picture's patches are taken to show in place of what they do.
    """

    messages: tuple[Message, ...]
    looks: tuple[tuple[Look, ...], ...] = ()
    moved: Moved = field(default_factory=lambda: STAYS)


def _turns(exchanges: Sequence[Exchange]) -> list[Turn]:
    return [Turn(exchange.question, exchange.answer) for exchange in exchanges]


def _spoken(
    image: Image.Image, exchanges: Sequence[Exchange], lines: Sequence[str], language: Language, crops: Sequence[Box] = ()
) -> Lesson:
    """A dialogue about a picture; the crops belong to the last question."""
    *before, last = _turns(exchanges)
    tiles = [cut(image, box) for box in crops]
    views = [View("overview", Box(0, 0, *image.size), image), *(View("tile", tile.box, tile.image) for tile in tiles)]
    return Lesson((*layout(last.question, before, views, lines, (), language), Message("assistant", (last.answer,))))


def about(picture: Scene | Phantom, exchanges: Sequence[Exchange], language: Language) -> Lesson:
    """A dialogue about a drawn picture, and where each of its questions looks."""
    shares = canvas.patch_shares(picture.index)
    return replace(_spoken(picture.image, exchanges, [], language), looks=tuple(_looks(shares, one) for one in exchanges))


def _looks(shares: NDArray[np.float32], exchange: Exchange) -> tuple[Look, ...]:
    """An answer looks at each of its parts in turn, at nothing behind the last; without parts all the time at its items."""
    if not exchange.parts:
        return (Look(len(exchange.answer), _covered(shares, exchange.items)),)
    looks, end, answer = [], 0, exchange.answer.lower()
    for words, items in exchange.parts:
        end = answer.index(words.lower(), end) + len(words)
        looks.append(Look(end, _covered(shares, items)))
    return tuple(looks)


def _covered(shares: NDArray[np.float32], items: Sequence[int]) -> NDArray[np.bool_]:
    """(patches,) those that items, numbered as in the index less one, cover, at least each one's centre; shares as from
    `canvas.patch_shares`.
    """
    found = shares[:, :, [1 + item for item in items]].sum(2) >= LEAST_SHARE
    for centre in filter(None, (canvas.centre_patch(shares, 1 + item) for item in items)):
        found[centre] = True
    return np.asarray(found.ravel())


def _mixed(rng: Random, exchanges: list[Exchange], language: Language) -> list[Exchange]:
    """Now and then somebody says hello, or asks for something else, in the middle."""
    if rng.random() < 0.12:
        exchanges.insert(int(rng.integers(len(exchanges) + 1)), ask_other(rng, language))
    return exchanges


def _dialogue(rng: Random, language: Language, ask: Callable[[int, Language], list[Exchange]]) -> list[Exchange]:
    """A dialogue that ends in `language`; one in eight begins in the other."""
    turns = _draw_turns(rng)
    if rng.random() > 0.12:
        return _mixed(rng, ask(turns, language), language)
    first = int(rng.integers(1, turns))
    return [*ask(first, _other(language)), *ask(turns - first, language)]


def _other(language: Language) -> Language:
    return "en" if language == "ko" else "ko"


def _draw_turns(rng: Random) -> int:
    """More than the five that chat remembers: an image costs as much as many answers, and it is answers that teach."""
    return int(rng.integers(3, 13))


def film_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    image, label, chance = films.draw(rng)
    evidence = draw_evidence(label, rng, chance)[0] if rng.random() < 0.5 else None
    lines = evidence_lines(evidence, language) if evidence else []
    if rng.random() < 0.1:
        other = _other(language)
        kind = ("pneumonia", "normal", "impression", "type")[int(rng.integers(4))]
        asked = ask_film_kind(label, kind, evidence, rng, language)
        answered = ask_film_kind(label, kind, evidence, rng, other)
        lines = evidence_lines(evidence, other) if evidence else []
        return _spoken(image, [replace(answered, question=f"{asked.question} {answer_in(other)}")], lines, other)
    told = _dialogue(rng, language, lambda turns, spoken: ask_about_film(label, evidence, rng, spoken, turns))
    return _spoken(image, told, lines, language)


def phantom_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    phantom = draw_phantom(rng)
    told = _dialogue(rng, language, lambda turns, spoken: ask_about_phantom(phantom, None, rng, spoken, turns))
    return about(phantom, told, language)


def scene_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    scene = draw_scene(rng)
    told = _dialogue(rng, language, lambda turns, spoken: ask_about_scene(scene, rng, spoken, turns))
    return about(scene, told, language)


def mixed_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """Shapes of any colour and colours of any shape, also those that are never drawn together; the pair is never spoken of."""
    while True:
        scene, moved = mix(draw_scene(rng), rng)
        if told := _asked(scene, ("colour", "shape", "position"), rng, language):
            return replace(about(scene, told, language), moved=moved)


def counting_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """How many there are, of one group after another."""
    while len((scene := draw_scene(rng)).items) < 3:
        pass
    return about(scene, _asked(scene, ("count",), rng, language), language)


def _asked(scene: Scene, kinds: Sequence[str], rng: Random, language: Language) -> list[Exchange]:
    """Questions of these kinds that do not build on each other, as far as the scene carries them."""
    drawn = (ask_kind(scene, kinds[int(rng.integers(len(kinds)))], rng, language) for _ in range(_draw_turns(rng)))
    return list({exchange.question: exchange for exchange in drawn if exchange}.values())


def listing_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """Every shape of a scene, one after the other: of all lessons the one with most to see per word."""
    while (exchange := ask_kind(scene := draw_scene(rng, apart=APART), "each", rng, language)) is None:
        pass
    return about(scene, [exchange], language)


def quiz_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """All there is in a scene, asked and answered in a word or two."""
    return draw_quiz(rng, language, int(rng.integers(8, 25)))[1]


def draw_quiz(rng: Random, language: Language, turns: int) -> tuple[Scene, Lesson]:
    while not (exchanges := ask_quiz(scene := draw_scene(rng, apart=APART), rng, language, turns)):
        pass
    return scene, about(scene, exchanges, language)


def crop_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """A picture with one region of the person's own, or with the tiles that chat adds to a large image."""
    turns, what = int(rng.integers(1, 4)), rng.random()
    if what < 0.35:
        image, label, _ = films.draw(rng)
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


def boxed_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """A box drawn around one shape, and what is in it."""
    scene = draw_scene(rng)
    for number in rng.permutation(len(scene.items)).tolist():
        box = around(scene, scene.items[number].box, rng, 0.4)
        if all(share_inside(item.box, box) < 0.05 for i, item in enumerate(scene.items) if i != number):
            before = ask_about_scene(scene, rng, language, int(rng.integers(0, 4)))
            return _spoken(scene.image, [*before, ask_boxed(scene, number, rng, language)], [], language, [box])
    return scene_lesson(films, rng, language)


def oddity_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    return _spoken(
        draw_oddity(rng), _mixed(rng, ask_about_oddity(rng, language, int(rng.integers(1, 4))), language), [], language
    )


def search_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    drawn = draw_search(rng)
    if drawn is None:
        return scene_lesson(films, rng, language)
    messages = layout_search(drawn.shown, drawn.crop, search_prompt(language))
    answer = closed_answer(bool(drawn.found), language) + "."
    look = Look(len(answer), _covered(canvas.patch_shares(drawn.index), drawn.found))
    return Lesson((*messages, Message("assistant", (answer,))), ((look,),))


def describe_search_lesson(films: Films, rng: Random, language: Language) -> Lesson:
    """Is what is described there, in a scene or in a part of a crowd as a search shows it?"""
    scene = draw_scene(rng) if rng.random() < 0.5 else draw_part(rng)
    exchange = ask_kind(scene, "search", rng, language)
    if exchange is None:
        return scene_lesson(films, rng, language)
    told = Message("assistant", (exchange.answer,))
    looks = _looks(canvas.patch_shares(scene.index), exchange)
    return Lesson((*layout_search(None, scene.image, exchange.question), told), (looks,))


Maker = Callable[[Films, Random, Language], Lesson]
MAKERS: tuple[tuple[Maker, float], ...] = (
    (film_lesson, 0.13), (phantom_lesson, 0.08), (scene_lesson, 0.16), (mixed_lesson, 0.18), (counting_lesson, 0.08),
    (quiz_lesson, 0.14), (crop_lesson, 0.03), (oddity_lesson, 0.06), (search_lesson, 0.05), (describe_search_lesson, 0.04),
    (listing_lesson, 0.02), (boxed_lesson, 0.03),
)  # fmt: skip
OF_FILMS = (film_lesson, crop_lesson)
"""Those that need films."""


def draw_maker(films: Films, rng: Random) -> Maker:
    """One of `MAKERS`; without films, one that needs none."""
    among = [(maker, share) for maker, share in MAKERS if len(films.labels) or maker not in OF_FILMS]
    shares = np.array([share for _, share in among])
    return among[int(rng.choice(len(among), p=shares / shares.sum()))][0]


def draw_lesson(films: Films, rng: Random) -> Lesson:
    """One lesson of a kind drawn by `MAKERS`, in a language drawn evenly."""
    return draw_maker(films, rng)(films, rng, draw_language(rng))


def draw_language(rng: Random) -> Language:
    return LANGUAGES[int(rng.integers(2))]


def texts(films: Films, seed: int, count: int) -> list[str]:
    """The text of `count` lessons, for the tokenizer: cut as it is tokenised, with all that the layout puts around it."""
    lessons = (draw_lesson(films, np.random.default_rng([seed, 2, number])) for number in range(count))
    told = (piece for lesson in lessons for piece in pieces(lesson.messages) if not isinstance(piece, Image.Image))
    return ["".join(map(str, piece.parts)) if isinstance(piece, Message) else piece for piece in told]
