"""Adapters: what a base was taught on top, LoRA matrices and perhaps its projector, put onto the loaded base and taken off.

Knows an adapter's folder and its manifest. Does not know how one is trained, or who asks. A folder is refused that belongs to
another base, lacks its projector, was changed since it was written, or asks peft for more than plain LoRA.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict

from chat.engine.base import EngineUnavailable
from chat.engine.checkpoint import Loaded, checkpoint_errors, weight_files
from chat.engine.layouts import as_hugging_face
from chat.engine.local import LocalEngine
from chat.engine.shards import read_json, read_shard
from chat.engine.store import MANIFEST, entry, read_manifest

log = logging.getLogger(__name__)

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PROJECTOR = "multi_modal_projector"
_PLAIN = ("r", "lora_alpha", "target_modules", "modules_to_save")
_OFF = ("megatron_config", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform", "loftq_config")


def identity(base: Path) -> str:
    """SHA-256 that stands for a base's weights, the same for a 4-bit copy and the 16-bit original that it was made from.

    What a manifest knows of a file of the same size is taken from there. Raises EngineUnavailable.
    """
    manifest = read_manifest(base) if (base / MANIFEST).is_file() else {"source": {}, "files": {}}
    made_from, known = manifest["source"].get("files"), manifest["files"]
    if isinstance(made_from, dict):
        digests = [str(digest) for digest in made_from.values()]
    else:
        digests = []
        for path in weight_files(base):
            listed = known.get(path.name, {"bytes": -1})
            digests.append((listed if listed["bytes"] == path.stat().st_size else entry(path))["sha256"])
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def read_receipt(folder: Path) -> dict[str, Any]:
    """What an adapter's manifest says of it, every file hashed again. Raises EngineUnavailable."""
    if not (folder / CONFIG).is_file():
        raise EngineUnavailable(f"{folder} is no adapter: it holds no {CONFIG}. Name a folder that `finetune.lora` wrote.")
    if not (folder / MANIFEST).is_file():
        raise EngineUnavailable(
            f"{folder} holds no {MANIFEST}, so nothing says which base it belongs to. Train it with `finetune.lora`."
        )
    manifest = read_manifest(folder)
    for name in sorted({WEIGHTS, CONFIG, *manifest["files"]}):
        if not (folder / name).is_file() or entry(folder / name) != manifest["files"].get(name):
            raise EngineUnavailable(f"{folder} is not as it was trained: {name} is missing or was changed. Copy it again.")
    source: dict[str, Any] = manifest["source"]
    if not isinstance(source.get("base"), dict) or not isinstance(source["base"].get("sha256"), str):
        raise EngineUnavailable(f"{folder} has a manifest of something else than an adapter. Name another folder.")
    return source


def check_base(folder: Path, base: Path) -> dict[str, Any]:
    """The adapter's receipt, when it was trained over this base. Raises EngineUnavailable."""
    receipt = read_receipt(folder)
    if receipt["base"]["sha256"] != identity(base):
        name = receipt["base"].get("name", "another model")
        raise EngineUnavailable(f"{folder} was trained over {name} with other weights than {base} holds. Load it over those.")
    return receipt


def attach(model: Any, folder: Path, receipt: dict[str, Any], dtype: torch.dtype | None = None) -> PeftModel:
    """Put an adapter that `check_base` has passed onto a freshly loaded model, in place; `dtype` None keeps the base's own.

    Only the plain fields of its configuration are read. Raises EngineUnavailable.
    """
    with checkpoint_errors(folder, "LoRA adapter"):
        own, tensors = read_json(folder / CONFIG), read_shard(folder / WEIGHTS)
        if odd := [name for name in _OFF if own.get(name)]:
            raise EngineUnavailable(f"{folder} is not a plain LoRA ({odd[0]} is set); merge it with the tool that made it.")
        if strange := [name for name in tensors if "vision_tower" in name]:
            raise EngineUnavailable(f"{folder} changes the vision tower ({strange[0]}); Hilum loads what leaves it alone.")
        if receipt.get("projector") and not any(PROJECTOR in name for name in tensors):
            raise EngineUnavailable(f"{folder} lacks the projector that it was trained with. Copy or train it again.")
        plain: dict[str, Any] = {name: own.get(name) for name in _PLAIN}
        config = LoraConfig(**plain, inference_mode=True)
        peft = PeftModel(model, config, autocast_adapter_dtype=dtype is torch.float32)
        found: Any = set_peft_model_state_dict(peft, tensors)
        lost = [name for name in found.missing_keys if ".lora_" in name or "modules_to_save" in name]
        if lost or found.unexpected_keys:
            raise EngineUnavailable(
                f"{folder} does not fit this base: {len(lost)} tensors lack and {len(found.unexpected_keys)} are too many."
            )
    peft.eval()
    return peft


@dataclass
class Switch:
    """One adapter on one model, on or off."""

    peft: Any
    is_on: bool = True

    def turn(self, on: bool) -> None:
        if on != self.is_on:
            (self.peft.base_model.enable_adapter_layers if on else self.peft.base_model.disable_adapter_layers)()
            self.is_on = on


class SwitchedEngine(LocalEngine):
    """A local engine that sets the switch before it works. Those of one model share its queue, not what they read."""

    def __init__(self, loaded: Loaded, switch: Switch, is_adapted: bool, beside: "SwitchedEngine | None" = None) -> None:
        super().__init__(loaded)
        self._switch, self._is_adapted, self._beside = switch, is_adapted, beside
        if beside is not None:
            self._turnstile = beside._turnstile

    def forget(self, session: str) -> None:
        """Of the one beside it too: a session may have asked both."""
        super().forget(session)
        if self._beside is not None:
            self._beside.forget(session)

    @contextmanager
    def _at_work(self, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        with super()._at_work(is_wanted):
            self._switch.turn(self._is_adapted)
            yield


def open_pair(loaded: Loaded, base: Path, folder: Path) -> tuple[SwitchedEngine, SwitchedEngine]:
    """The base and the same with its adapter, over one copy of the weights; callers of both wait in one queue.

    `loaded` must not have been used yet: 4-bit weights are repacked by the first use. Raises EngineUnavailable.
    """
    receipt = check_base(folder, as_hugging_face(base))
    switch = Switch(attach(loaded.model, folder, receipt))
    plain = SwitchedEngine(loaded, switch, is_adapted=False)
    adapted = SwitchedEngine(replace(loaded, name=str(receipt.get("name", folder.resolve().name))), switch, True, plain)
    log.info("attached an adapter of rank %s, projector %s", receipt.get("rank"), bool(receipt.get("projector")))
    return plain, adapted
