"""Layouts: which kind of LLaVA a folder holds, and the original release's kinds as Hugging Face folders.

Knows configs and key names: LLaVA-1.5 as its authors published it (Llama, or Mistral as in LLaVA-Med 1.5), their LoRA
folders, and the CLIP tower beside them. Does not know devices or how a model is loaded. A conversion is made once, about
a gigabyte at a time, beside the original.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AddedToken,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
)

from chat.engine.base import EngineUnavailable
from chat.engine.shards import find_weights, read_json, read_shard, write_shards, written_whole

log = logging.getLogger(__name__)

FAMILIES: dict[str, type[Any]] = {"llava": LlamaConfig, "llava_llama": LlamaConfig, "llava_mistral": MistralConfig}
MARK = "converted_from.json"
"""Names, sizes and times of the files that a converted folder was made of; only a folder with it is ever replaced."""

_CLIP_336: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_CLIP_336 |= {"image_size": 336, "patch_size": 14, "projection_dim": 768}
"""openai/clip-vit-large-patch14-336, for checkpoints that hold its weights but not its config."""

_NAMES = (
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("vision_model.", "vision_tower.vision_model."),
    ("model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)
"""Original prefixes and those of the published Hugging Face conversions, which every loader reads; the first match holds."""

_TODAY = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)
"""The published prefixes and those of the classes in memory."""

_BUFFERS = ("rotary_emb.inv_freq", "position_ids")
_VOCABULARY = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")


def read_config(path: Path) -> dict[str, Any]:
    """The config of a LLaVA folder in a layout that Hilum reads; EngineUnavailable says why it reads no other."""
    if not path.exists():
        raise EngineUnavailable(f"There is no checkpoint at {path}. Check HILUM_MODEL, or leave it at auto.")
    if not (path / "config.json").is_file():
        raise EngineUnavailable(f"{path} is not a checkpoint: it holds no config.json. Name the folder that does.")
    config = read_json(path / "config.json")
    if not is_hugging_face(config) and (reason := _objection(config)):
        raise EngineUnavailable(f"{path} {reason}")
    return config


def is_hugging_face(config: dict[str, Any]) -> bool:
    return config.get("model_type") == "llava" and "vision_config" in config and "text_config" in config


def _objection(config: dict[str, Any]) -> str | None:
    kind, projector = config.get("model_type"), config.get("mm_projector_type", "linear")
    merge = str(config.get("mm_patch_merge_type", "flat"))
    if kind == "llava_next" or config.get("image_aspect_ratio") == "anyres" or merge != "flat":
        return "is a LLaVA-NeXT (1.6), which cuts a picture into a grid; Hilum runs LLaVA-1.5, which sees it whole."
    if kind not in FAMILIES:
        return f"holds a {kind or 'nameless'} model; Hilum runs LLaVA (model_type llava)."
    start = "is in the original LLaVA layout, but"
    if not config.get("mm_vision_tower"):
        return f"{start} it names no vision tower (mm_vision_tower); take a checkpoint that sees."
    if projector != "mlp2x_gelu":
        return f"{start} its projector is {projector}; Hilum runs LLaVA-1.5's, mlp2x_gelu."
    if config.get("mm_use_im_start_end"):
        return f"{start} it marks pictures with <im_start>, which LLaVA-1.5 does not; take a LLaVA-1.5."
    if config.get("image_aspect_ratio") != "pad":
        return f"{start} it was not trained on pictures padded to a square (image_aspect_ratio pad); take a LLaVA-1.5."
    return None


def as_hugging_face(path: Path, target: Path | None = None) -> Path:
    """`path` itself when it is in the Hugging Face layout, else its conversion at `target`, or beside it as NAME-hf.

    A conversion that is there is taken while the files that it was made of are the same. Raises EngineUnavailable.
    """
    config = read_config(path)
    if is_hugging_face(config):
        return path
    path = path.resolve()
    target = target or path.with_name(f"{path.name}-hf")
    source = _find_parts(path, config)
    if target.exists():
        if not (target / MARK).is_file():
            raise EngineUnavailable(
                f"{path} has to be converted into {target}, which is in the way. Move it, or name it instead."
            )
        if read_json(target / MARK) == source.mark:
            return target
    tokenizer = _load_tokenizer(source)
    hub: Any = _hub_config(source, tokenizer)
    with written_whole(target, source.bytes) as part:
        shapes = write_shards(part, _hub_tensors(source, hub.text_config.vocab_size))
        _check_shapes(path, hub, shapes)
        _write_rest(source, hub, tokenizer, part)
    log.info("converted %.1f GB of weights to the Hugging Face layout", source.bytes / 1e9)
    return target


@dataclass(frozen=True)
class Source:
    """The files of one original checkpoint: where its config, its language weights, its changes and its tower lie."""

    path: Path
    config: dict[str, Any]
    base: Path
    weights: tuple[Path, ...]
    changes: tuple[Path, ...]
    tower: Path | None
    tower_weights: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path / "config.json", *self.weights, *self.changes, *self.tower_weights)

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def mark(self) -> dict[str, Any]:
        return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in self.files}


def _find_parts(path: Path, config: dict[str, Any]) -> Source:
    base = path
    changes: tuple[Path, ...] = ()
    if (path / "adapter_config.json").is_file():
        name = str(read_json(path / "adapter_config.json").get("base_model_name_or_path") or "")
        base = _find_beside(path, name, "is a LoRA folder over")
        adapter = [file for file in (path / "adapter_model.safetensors", path / "adapter_model.bin") if file.is_file()][:1]
        changes = (*adapter, path / "non_lora_trainables.bin")
        if not adapter or not changes[-1].is_file():
            raise EngineUnavailable(f"{path} lacks adapter_model or non_lora_trainables.bin; fetch the LoRA folder again.")
    weights = find_weights(base)
    held = [name for file in (*weights, *changes) for name in read_shard(file)]
    if not any("mm_projector." in name for name in held):
        raise EngineUnavailable(f"{path} holds no projector (mm_projector); a language model alone cannot see.")
    name = str(config["mm_vision_tower"])
    if not any(".vision_tower." in name for name in held):
        tower = _find_beside(path, name, "does not hold its vision tower,")
        return Source(path, config, base, weights, changes, tower, find_weights(tower))
    is_known = name.endswith("clip-vit-large-patch14-336") and not _beside(path, name)
    tower_config = None if is_known else _find_beside(path, name, "does not hold the config of its vision tower,")
    return Source(path, config, base, weights, changes, tower_config, ())


def _beside(path: Path, name: str) -> Path | None:
    """The folder that a hub name means: itself when it is a path that is there, else its last part in or beside `path`."""
    last = name.rstrip("/").rpartition("/")[2]
    found = (folder for folder in (Path(name), path / last, path.parent / last) if (folder / "config.json").is_file())
    return next((folder for folder in found if folder.is_absolute() and folder != path), None)


def _find_beside(path: Path, name: str, lack: str) -> Path:
    if folder := _beside(path, name):
        return folder
    place = path.parent / (name.rstrip("/").rpartition("/")[2] or "its base")
    raise EngineUnavailable(f"{path} {lack} {name or 'which it does not name'}: fetch that into {place} and start again.")


def _load_tokenizer(source: Source) -> LlamaTokenizer:
    """The language model's own, with `<image>` and `<pad>` behind its last token, as the published conversions have it."""
    if not any((source.base / name).is_file() for name in ("tokenizer.model", "tokenizer.json")):
        raise EngineUnavailable(f"{source.base} is incomplete: it holds no tokenizer.model. Fetch it again.")
    tokenizer: LlamaTokenizer = LlamaTokenizer.from_pretrained(source.base, local_files_only=True)
    if len(tokenizer) > source.config["vocab_size"]:
        raise EngineUnavailable(
            f"The tokenizer in {source.base} knows more tokens than the model; take both from one checkpoint."
        )
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": AddedToken("<pad>", special=True, normalized=False)})
    return tokenizer


def _hub_config(source: Source, tokenizer: LlamaTokenizer) -> LlavaConfig:
    own = source.config
    family = FAMILIES[own["model_type"]]
    known = {*family().to_dict(), "rope_theta", "rope_scaling"} - {"architectures", "model_type", "_name_or_path", "dtype"}
    rows = max(own["vocab_size"], len(tokenizer))
    text = {key: own[key] for key in known if key in own} | {"vocab_size": -(-rows // 64) * 64}
    text["pad_token_id"] = tokenizer.pad_token_id
    vision: Any = CLIPVisionConfig.from_pretrained(source.tower) if source.tower else CLIPVisionConfig(**_CLIP_336)
    return LlavaConfig(
        vision_config=vision,
        text_config=family(**text),
        image_token_index=tokenizer.get_vocab()["<image>"],
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_layer=own.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="full" if own.get("mm_vision_select_feature") == "cls_patch" else "default",
        architectures=["LlavaForConditionalGeneration"],
        dtype=own.get("torch_dtype", "float16"),
    )


def _hub_tensors(source: Source, vocabulary: int) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in _merged_tensors(source):
        if name.endswith(_BUFFERS):
            continue
        old, new = next((pair for pair in _NAMES if name.startswith(pair[0])), ("", ""))
        name = new + name.removeprefix(old)
        yield name, _lengthened(tensor, vocabulary) if name in _VOCABULARY else tensor


def _lengthened(rows: torch.Tensor, count: int) -> torch.Tensor:
    """New rows are the mean of the old, so a new token's logit is the mean of the old logits and never the largest."""
    mean = rows.float().mean(0, keepdim=True).to(rows.dtype)
    return torch.cat([rows, mean.expand(max(0, count - len(rows)), -1)])


def _merged_tensors(source: Source) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights as the authors name them, LoRA pairs merged: W + alpha / r * B A (Hu et al. 2021), in float32."""
    pairs, trained, scale = _read_changes(source)
    for file in source.weights:
        for name, tensor in read_shard(file).items():
            pair = pairs.pop(name.removesuffix(".weight"), {})
            if pair:
                down, up = pair["lora_A"].float(), pair["lora_B"].float()
                if (len(up), down.shape[-1]) != tensor.shape or len(down) != up.shape[-1]:
                    raise EngineUnavailable(f"{source.path} was trained over another base than {source.base}.")
                tensor = (tensor.float() + scale * up @ down).to(tensor.dtype)
            if name not in trained:
                yield name, tensor
    if pairs:
        raise EngineUnavailable(f"{source.path} was trained over another base than {source.base}: it has no {min(pairs)}.")
    yield from trained.items()
    for file in source.tower_weights:
        yield from ((name, tensor) for name, tensor in read_shard(file).items() if name.startswith("vision_model."))


def _read_changes(source: Source) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor], float]:
    """LoRA pairs by the weight that they change, weights that were trained whole, and alpha / r."""
    if not source.changes:
        return {}, {}, 0.0
    adapter = read_json(source.path / "adapter_config.json")
    plain = {"peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}
    plain |= {"modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}}
    if odd := [key for key, value in plain.items() if (adapter.get(key) or value) != value]:
        raise EngineUnavailable(f"{source.path} is not a plain LoRA ({odd[0]} is set); merge it with the tool that made it.")
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in read_shard(source.changes[0]).items():
        stem, _, side = name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".default").rpartition(".")
        pairs.setdefault(stem, {})[side] = tensor
    if any(pair.keys() != {"lora_A", "lora_B"} for pair in pairs.values()):
        raise EngineUnavailable(f"{source.changes[0]} holds more or less than pairs of lora_A and lora_B. Fetch it again.")
    trained = {name.removeprefix("base_model.model."): tensor for name, tensor in read_shard(source.changes[1]).items()}
    return pairs, trained, adapter["lora_alpha"] / adapter["r"]


def _check_shapes(path: Path, config: LlavaConfig, shapes: dict[str, torch.Size]) -> None:
    """Every tensor that the model has, in its shape, and no other."""
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(config)
    wanted = {}
    for name, tensor in model.state_dict().items():
        old, new = next(pair for pair in _TODAY if name.startswith(pair[1]))
        wanted[old + name.removeprefix(new)] = tensor.shape
    if odd := [name for name in {*wanted, *shapes} if wanted.get(name) != shapes.get(name)]:
        raise EngineUnavailable(f"{path} is not a whole LLaVA-1.5: {len(odd)} tensors lack or do not fit, such as {min(odd)}.")


def _write_rest(source: Source, config: LlavaConfig, tokenizer: LlamaTokenizer, out: Path) -> None:
    config.save_pretrained(out)
    GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id).save_pretrained(out)
    tokenizer.save_pretrained(out)
    # transformers 5 drops `legacy`, which says whether text behind </s> gets a space; absent, it meant true
    declared = source.base / "tokenizer_config.json"
    legacy = read_json(declared).get("legacy", True) if declared.is_file() else True
    saved = out / "tokenizer_config.json"
    saved.write_text(json.dumps(read_json(saved) | {"legacy": legacy}), "utf-8")
    if source.tower and (source.tower / "preprocessor_config.json").is_file():
        shutil.copy(source.tower / "preprocessor_config.json", out)
    (out / MARK).write_text(json.dumps(source.mark), "utf-8")
