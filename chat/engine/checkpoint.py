"""Checkpoints: a folder of LLaVA weights as a model that is ready to run.

Knows the Hugging Face LLaVA layout (16-bit, or 4-bit as bitsandbytes saves it), devices and precisions; other layouts
are `layouts.py`'s. Does not know prompts, sessions or how tokens are chosen. Nothing is ever downloaded, and no code in a
checkpoint is run.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    PreTrainedTokenizerBase,
)

from chat.engine.base import EngineUnavailable, Limits
from chat.engine.decode import quicken
from chat.engine.devices import HEADROOM, Fit, free_bytes, resolve_device, resolve_dtype
from chat.engine.layouts import as_hugging_face, read_config
from chat.engine.shards import read_json

log = logging.getLogger(__name__)

FOUR_BIT_LLAVA = "llava-1.5-7b-nf4"
EMBEDDED = "hilum-tiny"

SIXTEEN_BIT_PARTS = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
"""What 4-bit leaves alone; transformers 5 matches full names only, and the list replaces its own default of lm_head."""

LLAVA_1_5: dict[str, Any] = {"max_images": 1}
"""What holds where a checkpoint has no `hilum.json`: LLaVA-1.5 was trained on one image per prompt (Liu et al. 2023)."""

LARGE_BYTES = 4 << 30
"""From here on 16-bit weights are quantised on a GPU unless the person says no: 7B fits 8 GB only in 4-bit."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory, what it was trained to read, and how it was resolved on this machine."""

    model: LlavaForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    image_processor: LlavaImageProcessorPil
    image_token_id: int
    tokens_per_image: int
    max_images: int
    context_tokens: int
    end_ids: frozenset[int]
    name: str
    device: str
    dtype: torch.dtype
    four_bit: bool
    fit: Fit | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.context_tokens, self.tokens_per_image, self.max_images)

    @property
    def input_side(self) -> int:
        """The side of the model's image input in pixels."""
        config: Any = self.model.config
        return int(config.vision_config.image_size)

    @property
    def description(self) -> dict[str, str]:
        """The resolved choice, for the log and the page."""
        gpu = f" ({torch.cuda.get_device_name(self.device)})" if self.device.startswith("cuda") else ""
        return {
            "model": self.name,
            "device": self.device + gpu,
            "weights": "4-bit NF4" if self.four_bit else str(self.dtype).removeprefix("torch."),
            "compute": str(self.dtype).removeprefix("torch."),
            "context_tokens": str(self.context_tokens),
            "image": f"{self.input_side} pixels, {self.tokens_per_image} tokens, {self.max_images} per prompt",
        } | ({"memory": self.fit.meaning} if self.fit else {})


def find_default(models: Path, weights: Path) -> Path:
    """What `HILUM_MODEL=auto` means: the 4-bit LLaVA-1.5-7B when it lies complete in `weights`, else the embedded model."""
    large = weights / FOUR_BIT_LLAVA
    if large.exists():
        try:
            read_config(large)
            weight_files(large)
            return large
        except EngineUnavailable as error:
            log.warning("the checkpoint in weights/ is left aside: %s", error)
    return models / EMBEDDED


def load(path: Path, device: str, four_bit: bool | None, free: int | None = None) -> Loaded:
    """The checkpoint at `path` on `device` (`auto`, `cpu`, `cuda`, `cuda:1`).

    `four_bit` None quantises what is large on a GPU, what does not fit otherwise on a CPU (into `free` bytes, by default
    those that are free), and takes a checkpoint that was saved in 4-bit as it is. A folder in the original LLaVA layout is
    converted first, once, beside itself.
    Raises EngineUnavailable with one sentence on what is wrong and what to do.
    """
    with checkpoint_errors(path):
        path = as_hugging_face(path)
        if (path / "manifest.json").is_file():
            from chat.engine.store import verify  # here, for it imports this file

            verify(path)
        config = read_config(path)
        four_bit, chosen = weigh(path, config, device, four_bit, free)
        device, dtype, is_four_bit, quantise = resolve(path, config, device, four_bit)
        tokenizer = _load_tokenizer(path, config)
        model: LlavaForConditionalGeneration = load_model(LlavaForConditionalGeneration, path, device, dtype, quantise)
        loaded = replace(_describe(path, model, tokenizer, device, dtype, is_four_bit), fit=chosen)
    log.info("loaded %s", loaded.description)
    if config["text_config"].get("model_type") == "mistral":
        log.warning("this checkpoint was taught with Mistral's [INST] prompt and is given LLaVA-1.5's; expect weaker answers")
    return loaded


@contextmanager
def checkpoint_errors(path: Path, kind: str = "LLaVA checkpoint") -> Iterator[None]:
    """The one place where a reader's exceptions become ours; a broken file must not look like a bug."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineUnavailable(f"{path} does not fit into this device's memory; try 4-bit, or --device cpu.") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise EngineUnavailable(f"{path} cannot be loaded as a {kind} ({reason}). Fetch or copy it again.") from error


def weigh(
    path: Path, config: dict[str, Any], device: str, four_bit: bool | None, free: int | None = None
) -> tuple[bool | None, Fit | None]:
    """`four_bit`, decided by memory where the person leaves it open on a CPU, and why where that is worth a word."""
    device = resolve_device(device)
    if device != "cpu" or four_bit is not None or _is_saved_in_four_bit(path, config):
        return four_bit, None
    stored = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float16)
    size = sum(file.stat().st_size for file in weight_files(path)) * resolve_dtype(device, False).itemsize // stored.itemsize
    chosen = Fit(int(size * HEADROOM), free_bytes() if free is None else free)
    return chosen.four_bit, chosen if chosen.four_bit or size > LARGE_BYTES else None


def resolve(path: Path, config: dict[str, Any], device: str, four_bit: bool | None) -> tuple[str, torch.dtype, bool, bool]:
    """Device, precision, whether the weights are in 4 bits, and whether they have to be quantised on the way there."""
    total_bytes = sum(file.stat().st_size for file in weight_files(path))
    device = resolve_device(device)
    is_saved = _is_saved_in_four_bit(path, config)
    if is_saved and four_bit is False:
        raise EngineUnavailable(f"{path} was saved in 4-bit; drop --no-four-bit, or name its 16-bit original.")
    quantise = not is_saved and bool(four_bit or (four_bit is None and device != "cpu" and total_bytes > LARGE_BYTES))
    return device, resolve_dtype(device, quantise or is_saved), quantise or is_saved, quantise


def _is_saved_in_four_bit(path: Path, config: dict[str, Any]) -> bool:
    quantisation = config.get("quantization_config")
    if quantisation is None:
        return False
    if quantisation.get("quant_method") == "bitsandbytes" and quantisation.get("load_in_4bit"):
        return True
    raise EngineUnavailable(
        f"{path} is quantised with {quantisation.get('quant_method')}; Hilum reads 16-bit weights and bitsandbytes 4-bit."
    )


def weight_files(path: Path) -> list[Path]:
    """A folder's safetensors files. Raises EngineUnavailable when a file or a tensor that the index promises is missing."""
    index = path / "model.safetensors.index.json"
    promised: dict[str, str] = read_json(index).get("weight_map", {}) if index.is_file() else {}
    names = sorted(set(promised.values())) or ["model.safetensors"]
    present: set[str] = set()
    for name in names:
        if not (path / name).is_file():
            raise EngineUnavailable(f"{path} is incomplete: {name} is missing. Fetch it again; only safetensors are read.")
        try:
            with safe_open(path / name, framework="pt") as shard:
                present.update(shard.keys())
        except SafetensorError as error:
            raise EngineUnavailable(f"{path} is damaged: {name} is cut short or not safetensors. Fetch it again.") from error
    if lost := promised.keys() - present:
        raise EngineUnavailable(f"{path} is incomplete: {len(lost)} tensors are missing, such as {min(lost)}. Fetch it again.")
    return [path / name for name in names]


def _load_tokenizer(path: Path, config: dict[str, Any]) -> PreTrainedTokenizerBase:
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise EngineUnavailable(f"{path} is incomplete: it holds no tokenizer.json or tokenizer.model. Fetch it again.")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    wanted = config.get("image_token_index", config.get("image_token_id", 32000))
    known = tokenizer.get_vocab().get("<image>")
    if known != wanted:
        raise EngineUnavailable(
            f"The tokenizer in {path} has <image> as {known}, the model as {wanted}; take both from one checkpoint."
        )
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise EngineUnavailable(f"The tokenizer in {path} has no <s> or no </s>; it is not LLaVA's.")
    declared = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    if "legacy" in declared:  # transformers 4 encoded so, transformers 5 has dropped it; chat.prompt reads it
        tokenizer.space_behind_end = " " if declared["legacy"] else ""
    return tokenizer


def nf4(compute: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute,
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=SIXTEEN_BIT_PARTS,
    )


def load_model(kind: Any, path: Path, device: str, dtype: torch.dtype, quantise: bool) -> Any:
    """A model of this transformers class in eval mode. EngineUnavailable when weights are missing."""
    own = {"quantization_config": nf4(dtype)} if quantise else {}  # to AutoModel None would mean: not even as it was saved
    model, report = kind.from_pretrained(
        path,
        dtype=dtype,
        device_map={"": device},
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        **own,
    )
    if lost := report["missing_keys"]:
        raise EngineUnavailable(f"{path} is incomplete: {len(lost)} tensors are missing, such as {min(lost)}. Fetch it again.")
    quicken(model.eval())
    return model


def check_widths(path: Path, model: Any) -> None:
    """bitsandbytes' CPU kernel takes widths in steps of 64 only, and says so first in the middle of an answer."""
    text = model.config.get_text_config()
    if any(getattr(text, name, 0) % 64 for name in ("hidden_size", "intermediate_size")):
        raise EngineUnavailable(f"{path} cannot run in 4-bit on a CPU (its widths are not multiples of 64); use --no-four-bit.")


def _load_image_processor(path: Path, side: int) -> LlavaImageProcessorPil:
    """Pads to a square and never crops the centre, as LLaVA-1.5 was trained; colours as the checkpoint's own file says."""
    own: dict[str, Any] = {}
    if (path / "preprocessor_config.json").is_file():
        own = read_json(path / "preprocessor_config.json")
    elif (path / "processor_config.json").is_file():
        own = read_json(path / "processor_config.json").get("image_processor", {})
    kept = {key: own[key] for key in ("image_mean", "image_std", "resample", "rescale_factor") if key in own}
    return LlavaImageProcessorPil(do_pad=True, do_center_crop=False, size={"height": side, "width": side}, **kept)


def _describe(
    path: Path,
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    device: str,
    dtype: torch.dtype,
    four_bit: bool,
) -> Loaded:
    if four_bit and device == "cpu":
        check_widths(path, model)
    config: Any = model.config
    vision = config.vision_config
    manifest = LLAVA_1_5 | (read_json(path / "hilum.json") if (path / "hilum.json").is_file() else {})
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        image_processor=_load_image_processor(path, vision.image_size),
        image_token_id=config.image_token_id,
        tokens_per_image=int(config.image_seq_length) + (config.vision_feature_select_strategy == "full"),
        max_images=int(manifest["max_images"]),
        context_tokens=int(manifest.get("context_tokens", config.text_config.max_position_embeddings)),
        end_ids=end_ids(model, tokenizer),
        name=str(manifest.get("name", path.resolve().name)),
        device=device,
        dtype=dtype,
        four_bit=four_bit,
    )


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer."""
    ends = model.generation_config.eos_token_id
    return frozenset({tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})


if __name__ == "__main__":
    from chat.engine.store import main

    main()
