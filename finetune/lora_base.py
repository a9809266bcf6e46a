"""The base of a training: a fresh model with LoRA matrices in its language tower, and the loss that teaches them.

Knows LLaVA and text-only causal models, peft and what may be trained. Does not know records, steps or files of progress.
LoRA: Hu et al. 2021. QLoRA, on a base in 4 bits: Dettmers et al. 2023. The base is always a fresh one: 4-bit weights that have
answered once on a CPU pass no gradients on, silently.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from chat.engine import checkpoint
from chat.engine.adapter import PROJECTOR
from chat.engine.base import EngineUnavailable
from chat.engine.layouts import as_hugging_face
from chat.engine.shards import read_json
from chat.engine.sight import look, project
from finetune.batches import IGNORED
from finetune.compare import MOST_PIXELS
from finetune.jsonl import disk_errors
from finetune.records import RecordError
from vision.study import StudyError, read_study

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS = rf"(?!.*vision)(.*\.)?layers\.\d+\.\w+\.({'|'.join(LINEAR)})"
"""Every linear layer of the language tower, as LLaVA's recipe has it; the vision tower is never touched."""


@dataclass(frozen=True)
class Base:
    """A fresh model, what reads for it, and where it came from. `loaded` is None for a text model."""

    path: Path
    model: Any
    tokenizer: Any
    loaded: checkpoint.Loaded | None
    device: str
    dtype: torch.dtype
    four_bit: bool
    context_tokens: int

    @property
    def image_id(self) -> int | None:
        return self.loaded.image_token_id if self.loaded else None

    @property
    def tokens_per_image(self) -> int:
        return self.loaded.tokens_per_image if self.loaded else 0


def open_base(path: Path, device: str, four_bit: bool | None) -> Base:
    """The base, never used before; `device` and `four_bit` as `checkpoint.load` takes them. Raises EngineUnavailable."""
    if not (path / "config.json").is_file():
        raise EngineUnavailable(f"There is no model in {path}: it holds no config.json. Name a folder that does.")
    config = read_json(path / "config.json")
    if "vision_config" in config or str(config.get("model_type")).startswith("llava"):
        path = as_hugging_face(path)
        own = checkpoint.load(path, device, four_bit)
        return Base(path, own.model, own.tokenizer, own, own.device, own.dtype, own.four_bit, own.context_tokens)
    with checkpoint.checkpoint_errors(path, "text model"):
        device, dtype, is_four_bit, quantise = checkpoint.resolve(path, config, device, four_bit)
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model = checkpoint.load_model(AutoModelForCausalLM, path, device, dtype, quantise)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2048
    return Base(path, model, tokenizer, None, device, dtype, is_four_bit, context)


def inject(base: Base, rank: int, alpha: int, dropout: float, projector: bool) -> PeftModel:
    """LoRA matrices in every linear layer of the language tower, and where wanted the projector once more, all in float32.

    Raises RecordError for a model that has no such layers.
    """
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=TARGETS, bias="none", task_type="CAUSAL_LM",
        modules_to_save=[PROJECTOR] if projector else None,
    )  # fmt: skip
    base.model.requires_grad_(False)
    try:
        peft = PeftModel(base.model, config)
    except ValueError as error:
        raise RecordError(f"{base.path.name} has none of the layers {', '.join(LINEAR)}. Name a Llama-like model.") from error
    config.base_model_name_or_path = base.path.name  # a path of this machine is nobody else's business
    for weight in peft.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    layers: list[Any] = [module for module in peft.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False  # autocast does it, once
    return peft


class Taught(nn.Module):
    """The model with the loss of one micro-batch as its forward pass, so that DDP can wrap it."""

    def __init__(self, base: Base, projector: bool) -> None:
        super().__init__()
        self.model = base.model
        self._device, self._dtype = base.device.partition(":")[0], base.dtype
        self._projector = base.model.model.multi_modal_projector if projector else None
        self.tune(True)

    def tune(self, learning: bool) -> None:
        """Switch dropout on or off. The rest stays in training mode, for a 4-bit layer in the other repacks its weights."""
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.train(learning)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Cross-entropy summed over the (n, tokens) targets that count, from logits for these alone.

        `images` are the features, (tokens, d) each, of the images in `ids`, in their order.
        """
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        with torch.autocast(self._device, self._dtype, enabled=self._dtype is not torch.float32):
            if images:
                pooled: Any = [self._projector(each) for each in images] if self._projector else list(images)
                inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
            hidden = self.model.model(**inputs).last_hidden_state
            wanted = targets[:, 1:] != IGNORED
            logits = self.model.lm_head(hidden[:, :-1][wanted])
        loss = nn.functional.cross_entropy(logits.float(), targets[:, 1:][wanted], reduction="sum")
        if self._projector is not None and not images:
            loss = loss + 0 * sum(weight.sum() for weight in self._projector.parameters())  # DDP waits for every gradient
        return loss

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)


class Trained:
    """What is trained, and nothing of the base: a part of the progress that is kept."""

    def __init__(self, taught: Taught) -> None:
        self._taught = taught

    def state_dict(self) -> dict[str, Any]:
        return {name: weight.detach() for name, weight in self._taught.trained()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        own = dict(self._taught.trained())
        if own.keys() != state.keys():
            raise RecordError("The state of this run belongs to another adapter. Choose another --output_dir.")
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(state[name])


def check_gradients(taught: Taught, is_scaled: bool = False) -> None:
    """Raises RecordError where a weight that is trained has no gradient, or the LoRA matrices have none but zeros.

    With a scaled loss (fp16) the first gradients may overflow, which its scaler mends.
    """
    silent = [name for name, weight in taught.trained() if weight.grad is None]
    up = [weight.grad for name, weight in taught.trained() if ".lora_B." in name and weight.grad is not None]
    if silent or not up or not any(grad.any() for grad in up):
        raise RecordError(
            f"The adapter learns nothing: {len(silent)} of its weights have no gradient ({min(silent, default='all are 0')}). "
            "The base was used before it was trained, or its layers are not the ones that it computes with."
        )
    if not is_scaled and not all(grad.isfinite().all() for grad in up):
        raise RecordError("The first gradients are not finite. Lower --learning_rate, or train on the 16-bit base.")


class Features:
    """What the frozen tower sees in each image, computed once, one image at a time, and kept in a folder by hash.

    Behind the projector where that stays frozen too.
    """

    def __init__(self, base: Base, folder: Path, projector: bool) -> None:
        self._base, self._folder, self._projector = base, folder, projector

    def prepare(self, digest: str, path: Path) -> None:
        """Raises RecordError for an image that cannot be read, and for a full disk."""
        file = self._folder / f"{digest}.safetensors"
        if file.exists() or self._base.loaded is None:
            return
        try:
            picture = read_study(path.read_bytes(), MOST_PIXELS).image
        except (OSError, StudyError) as error:
            raise RecordError(f"{path.name} cannot be read as an image ({error}). Mend it, or remove its records.") from error
        seen = look(self._base.loaded, [picture])
        seen = (seen if self._projector else project(self._base.loaded, seen))[0]
        with disk_errors(file):
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(f".{os.getpid()}")
            draft.write_bytes(save({"seen": seen.cpu().contiguous()}))
            draft.replace(file)  # whole or not at all

    def of(self, digest: str) -> torch.Tensor:
        """(tokens, d) on the base's device."""
        found: torch.Tensor = load_file(self._folder / f"{digest}.safetensors", device=self._base.device)["seen"]
        return found
