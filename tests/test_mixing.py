"""Mixing: one attribute is exchanged in the features and never spoken of, and all else stays as it is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chat.wording import LANGUAGES, Language
from finetune import canvas
from finetune.easel import COLOURS
from finetune.films import Films
from finetune.lessons import mixed_lesson
from finetune.mixing import PARTS, STAYS, find_parts, mix, move
from finetune.outlines import SHAPES
from finetune.scene_words import COLOURS_KO, KINDS_KO
from finetune.scenes import draw_scene
from finetune.tower import Tower

NO_FILMS = Films(torch.zeros(0, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
WORDS: dict[str, dict[Language, set[str]]] = {
    "kind": {"en": set(SHAPES), "ko": {word for word in KINDS_KO.values() if len(word) > 1}},
    "colour": {"en": set(COLOURS), "ko": {word.split()[0] for word in COLOURS_KO.values()}},
}


@given(seed=st.integers(0, 10_000))
def test_one_attribute_of_every_thing_is_moved_where_the_thing_stands_and_nowhere_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    mixed, moved = mix(scene, rng)
    shares = canvas.patch_shares(scene.index)[:, :, 1:].sum(2).ravel()
    assert mixed.image is scene.image and not moved[:, shares == 0].any()
    rows = [place for place in range(2) if moved[2 * place].any()]
    assert len(rows) == bool(scene.items)
    for place in rows:
        name, values = tuple(PARTS.items())[place]
        assert all(getattr(item, name) == "" for item in mixed.items)
        before, after = moved[2 * place], moved[2 * place + 1]
        assert ((before > 0) == (after > 0)).all() and after.max() <= len(values)
        assert {values[n - 1] for n in before[before > 0]} <= {getattr(item, name) for item in scene.items}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_moved_is_not_spoken_of(language: Language) -> None:
    spoken = set[str]()
    for seed in range(30):
        lesson = mixed_lesson(NO_FILMS, np.random.default_rng(seed), language)
        name = next(name for place, name in enumerate(PARTS) if lesson.moved[2 * place].any())
        told = " ".join(part for m in lesson.messages[1:] for part in m.parts if isinstance(part, str)).lower()
        assert not [word for word in WORDS[name][language] if word in told], told
        spoken.add(name)
    assert spoken == set(PARTS)


def test_features_are_moved_by_what_the_parts_differ_in() -> None:
    torch.manual_seed(0)
    parts = find_parts(Tower().vision.eval(), 3, 2)
    assert [len(part) for part in parts] == [1 + len(SHAPES), 1 + len(COLOURS)] and not any(part[0].any() for part in parts)
    features = torch.randn(1, canvas.GRID**2, parts[0].shape[1])
    moved = torch.from_numpy(STAYS)[None].clone()
    assert torch.equal(move(features, moved, parts), features)
    moved[0, 2, 7], moved[0, 3, 7] = 4, 9
    changed = move(features, moved, parts) - features
    assert torch.allclose(changed[0, 7], parts[1][9] - parts[1][4], atol=1e-5) and not changed[0, :7].any()
    assert torch.equal(changed[0, 8:], torch.zeros_like(changed[0, 8:]))
