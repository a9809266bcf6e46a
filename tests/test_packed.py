"""Packed weights: the same model to a rounding, as it was when it is unpacked, and what must stay as it is stays."""

import copy

import engines
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Embedding, Linear, ModuleList, Sequential

from chat.engine.devices import resolve_dtype
from chat.engine.packed import PackedLinear, pack, usual

sizes = st.integers(1, 200)
NATIVE = sorted({torch.float32, resolve_dtype("cpu", four_bit=False)}, key=str)


def packs_here() -> bool:
    pack(layer := Linear(64, 64))
    return type(layer) is PackedLinear


needs_packing = pytest.mark.skipif(not packs_here(), reason="weights are packed on x86 processors with oneDNN only")


@needs_packing
@pytest.mark.parametrize("dtype", NATIVE)
@settings(max_examples=25, deadline=None)
@given(width=sizes, out=sizes, rows=sizes, bias=st.booleans())
def test_a_packed_layer_says_the_same_to_a_rounding(dtype: torch.dtype, width: int, out: int, rows: int, bias: bool) -> None:
    layer = Linear(width, out, bias=bias).to(dtype)
    seen = torch.randn(2, 2 * rows, width, dtype=dtype)[:, ::2]
    before, weight = layer(seen).detach(), layer.weight.detach().clone()
    pack(layer)
    assert type(layer) is PackedLinear
    after = layer(seen)
    assert (after.shape, after.dtype) == (before.shape, dtype)
    assert torch.allclose(after, before, rtol=0, atol=16 * torch.finfo(dtype).eps * max(1.0, float(before.abs().max())))
    pack(layer)
    pack(layer, False)
    assert type(layer) is Linear and torch.equal(layer.weight, weight) and torch.equal(layer(seen), before)


@given(rows=st.integers(1, 100_000))
def test_rows_are_filled_up_by_an_eighth_at_most_and_to_few_numbers(rows: int) -> None:
    filled = usual(rows)
    assert rows <= filled == usual(filled) <= rows + max(15, rows // 8)
    assert usual(1) == 1 and len({usual(some) for some in range(1, 2049)}) <= 41


@needs_packing
def test_one_row_is_the_same_bit_for_bit_whenever_it_is_asked_again() -> None:
    layer, seen = Linear(320, 896), torch.randn(1, 35, 320)
    pack(layer)
    first = layer(seen)
    layer(torch.randn(1, 300, 320))
    assert torch.equal(first, layer(seen))


def test_what_is_shared_quantised_or_no_plain_layer_stays_as_it_is() -> None:
    embedding, head = Embedding(64, 64), Linear(64, 64, bias=False)
    head.weight = embedding.weight
    parts = ModuleList([embedding, head, Linear4bit(64, 64), Linear(64, 64, dtype=torch.float16)])
    kinds = [type(part) for part in parts]
    pack(parts)
    assert [type(part) for part in parts] == kinds and head.weight is embedding.weight


@needs_packing
def test_an_engine_packs_what_it_serves_and_a_copy_without_it_says_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    subject = engines.build(tmp_path_factory.mktemp("packed"), "float32")
    model = subject.loaded.model
    linear = [part for part in model.modules() if isinstance(part, Linear)]
    assert linear and all(type(part) is PackedLinear for part in linear)
    said = engines.ids(subject.engine, engines.ASKED)
    pack(model, False)
    plain = copy.deepcopy(model)
    assert not any(isinstance(part, PackedLinear) for part in plain.modules())
    assert engines.ids(subject.engine, engines.ASKED, "unpacked") == said


def test_layers_inside_others_are_found() -> None:
    nested = Sequential(Sequential(Linear(8, 8)), Linear(8, 8))
    pack(nested)
    pack(nested, False)
    assert [type(part) for part in nested.modules()].count(Linear) == 2
