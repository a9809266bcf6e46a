"""The circuit: before any training, a word finds the patch that it names, and a later word recalls what stands there."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from finetune.circuit import Marks, Reader, lay

WIDTH, SPREAD = 320, 0.02
SIZES = (8, 11, 3, 3, 3)
"""Kinds, colours, sizes, rows, columns."""


@pytest.fixture(scope="module")
def laid():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=WIDTH, intermediate_size=896, num_hidden_layers=4, num_attention_heads=5,
        num_key_value_heads=5, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )  # fmt: skip
    text = LlamaModel(config).eval()
    groups = [torch.randn(size, WIDTH) * SPREAD for size in SIZES]
    marks = Marks(*torch.randn(5, WIDTH) * SPREAD)
    others = torch.randn(12, WIDTH) * SPREAD
    lay(text, groups, 3, others, marks)
    return text, groups, marks, Reader(torch.cat([*groups, others, marks.stacked()]))


def patches(groups: list[torch.Tensor], marks: Marks, things: dict[int, tuple[int, ...]], count: int = 60) -> torch.Tensor:
    """So many patches: ground, whose row and column alone are shown, and things of (kind, colour, size, row, column)."""
    shown = []
    for i in range(count):
        row, column = i * 3 // count, i % 3
        thing = things.get(i)
        ground = marks.patch + 2 * groups[3][row] + 2 * groups[4][column]
        if thing:
            parts = [group[value] for group, value in zip(groups, thing, strict=True)]
            shown.append(marks.patch + sum(parts[:3]) + 2 * parts[3] + 2 * parts[4])
        else:
            shown.append(ground)
    return torch.stack(shown)


def word(reader: Reader, marks: Marks, *named: torch.Tensor) -> torch.Tensor:
    own = torch.randn(WIDTH) * SPREAD
    own = own - own @ reader.dual.T @ reader.unit
    return own + marks.word + (marks.named + sum(named) if named else 0)


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_a_later_word_recalls_what_the_named_patch_shows(laid, asked: int) -> None:
    text, groups, marks, reader = laid
    things = {7: (1, 4, 0, 0, 1), 31: (5, 9, 1, 1, 1), 53: (6, 2, 2, 2, 2)}
    kind, *rest = list(things.values())[asked]
    torch.manual_seed(asked)
    begin = torch.stack([marks.rest + marks.word])
    said = torch.stack([word(reader, marks), word(reader, marks, groups[0][kind]), *(word(reader, marks) for _ in range(5))])
    states = torch.cat([begin, patches(groups, marks, things), said])[None]
    with torch.no_grad():
        last = text(inputs_embeds=states, output_hidden_states=True).hidden_states[3][0, -1]
    held = reader.dual @ last
    start = SIZES[0]
    for size, value in zip(SIZES[1:], rest, strict=True):
        assert int(held[start : start + size].argmax()) == value
        start += size


def test_a_word_gathers_what_its_neighbour_names(laid) -> None:
    text, groups, marks, reader = laid
    torch.manual_seed(3)
    named = [word(reader, marks, groups[1][4]), word(reader, marks, groups[0][1])]
    states = torch.stack([marks.rest + marks.word, word(reader, marks), *named])[None]
    with torch.no_grad():
        before, after = (
            reader.dual @ h[0, -1] for h in text(inputs_embeds=states, output_hidden_states=True).hidden_states[:2]
        )
    colour = SIZES[0] + 4
    assert abs(before[colour]) < 0.01 < 0.03 < after[colour]
    assert int(after[SIZES[0] : sum(SIZES[:2])].argmax()) == 4


def test_nothing_else_is_added_before_training(laid) -> None:
    text, _, marks, reader = laid
    torch.manual_seed(4)
    states = torch.stack([marks.rest + marks.word, word(reader, marks), word(reader, marks), word(reader, marks)])[None]
    with torch.no_grad():
        out = text(inputs_embeds=states, output_hidden_states=True)
    assert torch.allclose(out.hidden_states[3], states, atol=1e-3)
