"""Sight: pictures through the vision tower, up to the layer that the language model reads.

Knows a loaded checkpoint. Does not know prompts, sessions or what is kept.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from chat.engine.checkpoint import Loaded

WIDEST_EXACT = 4096
"""Up to this side an image is padded to its square as it stands; larger ones are averaged down first, or the square
of a 200-megapixel strip would not fit into memory."""


def look(loaded: Loaded, images: Sequence[Image.Image]) -> torch.Tensor:
    """(n, patches, d) of the vision tower, before the projector, at the layers and by the strategy of the config."""
    processor: Any = loaded.image_processor
    pixels = [processor(images=[bounded(image)], return_tensors="pt")["pixel_values"] for image in images]
    return _run(loaded.model, torch.cat(pixels).to(loaded.device, loaded.dtype))


@torch.inference_mode()
def project(loaded: Loaded, seen: torch.Tensor) -> torch.Tensor:
    """(n, tokens, d) as the language model reads them."""
    model: Any = loaded.model
    projected: torch.Tensor = model.model.multi_modal_projector(seen)
    return projected


def width(loaded: Loaded) -> int:
    """The d of `look`."""
    config: Any = loaded.model.config
    return int(config.vision_config.hidden_size) * len(_layers(config))


class _Seen(Exception):
    def __init__(self, states: torch.Tensor) -> None:
        self.states = states


@torch.inference_mode()
def _run(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Layers that nobody reads, CLIP's last for LLaVA-1.5, are not computed."""
    tower, layers = model.model.vision_tower, _layers(model.config)
    unread = _first_unread(tower, layers)
    if unread is None:
        states = tower(pixels, output_hidden_states=True).hidden_states
        chosen = torch.cat([states[layer] for layer in layers], dim=-1)
    else:

        def leave(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            raise _Seen(inputs[0])

        hook = unread.register_forward_pre_hook(leave)
        try:
            tower(pixels)
            raise RuntimeError("The vision tower did not pass through its layers.")
        except _Seen as seen:
            chosen = seen.states
        finally:
            hook.remove()
    return chosen[:, 1:] if model.config.vision_feature_select_strategy == "default" else chosen


def _first_unread(tower: Any, layers: Sequence[int]) -> torch.nn.Module | None:
    """The layer whose input is what the config reads; None where that is more than one, or what the last layer gives."""
    stack = getattr(getattr(tower, "encoder", None), "layers", None)
    if stack is None or len(layers) != 1:
        return None
    read = layers[0] if layers[0] >= 0 else len(stack) + 1 + layers[0]
    return stack[read] if 0 <= read < len(stack) else None


def _layers(config: Any) -> list[int]:
    layers = config.vision_feature_layer
    return [layers] if isinstance(layers, int) else list(layers)


def bounded(image: Image.Image) -> Image.Image:
    """The image itself, or one of at most `WIDEST_EXACT` pixels a side."""
    factor = -(-max(image.size) // WIDEST_EXACT)
    return image.reduce((min(factor, image.width), min(factor, image.height))) if factor > 1 else image
