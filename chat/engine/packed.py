"""Packed weights: linear layers on a processor in the order in which its matrix kernels read them.

Knows torch's linear layers and oneDNN, whose blocked layout torch.compile takes too when it freezes a model. Does not know
which model they stand in, or who asks it.
"""

import platform
from typing import Any

import torch
from torch.nn import Embedding, Linear, Module, Parameter

from chat.engine.devices import resolve_dtype

_ROWS = 32
"""Rows of input that the layout is chosen for; it serves one token and a whole prompt as well."""


_STEP, _STEPS = 16, 8
"""Rows are filled up to a multiple of a matrix unit's tile, or of an eighth of the power of two below them."""


def usual(rows: int) -> int:
    """So many rows or a few more: one, or one of eight numbers between two powers of two.

    oneDNN generates and keeps code for every number of rows that it meets, 0.6 MiB each; conversations have hundreds.
    """
    step = max(_STEP, 2 ** (rows.bit_length() - 1) // _STEPS)
    return rows if rows == 1 else -(-rows // step) * step


class PackedLinear(Linear):
    """(..., in) to (..., out) as a Linear; its weight takes no gradient, and no other dtype until it is unpacked."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's own name
        rows = input.numel() // self.in_features
        more = usual(rows) - rows
        filled = torch.nn.functional.pad(input.reshape(rows, -1), (0, 0, 0, more)) if more else input
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(filled, self.weight, self.bias, "none", [], "")
        return out[:rows].view(*input.shape[:-1], -1) if more else out


@torch.no_grad()
def pack(model: Module, is_on: bool = True) -> None:
    """Lay out a model's plain linear layers for the processor that they are on, one at a time, or as they came again.

    The same numbers in another order: what comes out differs by rounding. A weight that an embedding shares, 4-bit weights,
    and precisions that the processor does not compute in stay as they are.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return
    before, after = (Linear, PackedLinear) if is_on else (PackedLinear, Linear)
    native = {torch.float32, resolve_dtype("cpu", four_bit=False)}
    shared = {id(module.weight) for module in model.modules() if isinstance(module, Embedding)}
    for layer in model.modules():
        weight: Any = getattr(layer, "weight", None)
        if type(layer) is before and weight.device.type == "cpu" and weight.dtype in native and id(weight) not in shared:
            moved = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if is_on else weight.to_dense()
            layer.weight, layer.__class__ = Parameter(moved, requires_grad=False), after
