"""Tiny real checkpoints: a LLaVA of transformers' own classes with random weights, loaded as any other is.

Knows how to write a checkpoint folder. Does not know engines. Widths are multiples of 64, which 4-bit on a CPU needs.
"""

import functools
import json
import random
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file as save_array
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    PreTrainedTokenizerBase,
    ResNetConfig,
    ResNetForImageClassification,
)

from chat.engine.base import Message
from finetune.tokenizer import IMAGE, train_tokenizer
from vision.domain import CLASSES, FACTS, WEIGHTS, describe, digest
from vision.resnet import Calibration, Classifier, squash
from vision.unet import Plan, Segmenter, normalised, unet

SIDE, PATCH = 56, 14
TOKENS_PER_IMAGE = (SIDE // PATCH) ** 2
CONTEXT_TOKENS = 1024

CHAT_TEMPLATE = Path(__file__).parents[1] / "chat" / "engine" / "llava-1.5.jinja"

KNOWN_LINES = (
    "Is there pneumonia in the left lung? Yes. No.",
    "The lungs are clear, and the heart is of normal size.",
    "A chat between a curious user and an artificial intelligence assistant. USER: ASSISTANT:",
    "여기에 폐렴이 있습니까? 예. 아니오. 보이지 않습니다.",
)
"""Few Korean letters are known, so most Korean goes through bytes, as it does in LLaVA-1.5."""


@functools.cache
def _tokenizer_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hilum-tiny-tokenizer-"))
    train_tokenizer(KNOWN_LINES * 3, folder, vocab_size=400)
    return folder


def tokenizer() -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = LlamaTokenizer.from_pretrained(_tokenizer_folder())
    return loaded


def build(
    folder: Path,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    strategy: Literal["default", "full"] = "default",
    layer: int | list[int] = -2,
    width: int = 64,
    wander: float = 0.3,
) -> Path:
    """Write a checkpoint. `wander` is the spread of the random weights: the larger, the less greedy text repeats itself."""
    words = tokenizer()
    end = words.eos_token_id
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, image_size=SIDE, patch_size=PATCH
    )
    text = LlamaConfig(
        vocab_size=-(-len(words) // 64) * 64, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=words.bos_token_id, eos_token_id=end, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.get_vocab()[IMAGE],
        image_seq_length=TOKENS_PER_IMAGE, vision_feature_select_strategy=strategy, vision_feature_layer=layer,
    )  # fmt: skip
    torch.manual_seed(seed)
    model: Any = LlavaForConditionalGeneration(config)
    model.to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, wander if "vision" not in name else 0.1)
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    for file in _tokenizer_folder().iterdir():
        shutil.copy(file, folder)
    LlavaImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_pad=True, do_center_crop=False).save_pretrained(folder)
    _write_processor(folder, strategy)
    return folder


def _write_processor(folder: Path, strategy: str) -> None:
    """What a server needs that builds its own prompts; with our template they are ours, token for token."""
    own = {"processor_class": "LlavaProcessor", "image_token": IMAGE, "patch_size": PATCH, "num_additional_image_tokens": 1}
    (folder / "processor_config.json").write_text(json.dumps(own | {"vision_feature_select_strategy": strategy}), "utf-8")
    shutil.copy(CHAT_TEMPLATE, folder / "chat_template.jinja")


def silence(folder: Path, tokens: Collection[int]) -> Path:
    """Change a checkpoint so that none of these tokens can be the likeliest."""
    weights = load_file(folder / "model.safetensors")
    head = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[head][list(tokens)] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def beyond_ascii() -> list[int]:
    """Tokens that are no plain letters: a server's stream breaks where random weights write half a character."""
    words = tokenizer()
    return [i for i, word in enumerate(words.convert_ids_to_tokens(range(len(words)))) if not _is_plain(word)]


def _is_plain(word: str) -> bool:
    return word.replace("\u2581", " ").isascii() and not (word.startswith("<") and word.endswith(">"))


def question(text: str, *images: Image.Image) -> tuple[Message, ...]:
    """The shortest prompt about these images."""
    parts = [part for image in images for part in (image, "\n")]
    return (Message("system", ("A chat.",)), Message("user", (*parts, text)))


def write_manifest(folder: Path, **values: object) -> None:
    """The `hilum.json` beside the weights."""
    (folder / "hilum.json").write_text(json.dumps(values), "utf-8")


def picture(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Coloured noise in large blocks, different for every seed."""
    rng = random.Random(seed)
    return Image.frombytes("RGB", (8, 8), rng.randbytes(192)).resize(size, Image.Resampling.NEAREST)


def build_classifier(folder: Path, side: int = 64, population: Literal["child", "adult"] | None = "child") -> Path:
    """Write a classifier that attends to what is bright: its features are local means, and its head adds them up.

    So its saliency map peaks where the image does. It calls every film PNEUMONIA. Its domain check takes whatever is not
    obviously none for a film of `population`; None means without one.
    """
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", id2label={0: "NORMAL", 1: "PNEUMONIA"}
    )
    model: Any = ResNetForImageClassification(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 4:
                weight.fill_(1 / weight[0].numel())
        head = model.classifier[-1]
        head.weight.copy_(torch.tensor([[-0.05], [0.05]]).expand_as(head.weight))
        head.bias.zero_()
    folder.mkdir(parents=True, exist_ok=True)
    classifier = Classifier(model, squash(side, 0.0, 1.0), Calibration(positive="PNEUMONIA", threshold=0.0))
    classifier.save(folder)
    if population:
        image = picture(0)
        width = describe([image], classifier.look([image])).shape[1]
        bias = np.eye(len(CLASSES), dtype=np.float32)[CLASSES.index(population)]
        save_array({"weight": np.zeros((len(CLASSES), width), np.float32), "bias": bias}, folder / WEIGHTS)
        (folder / FACTS).write_text(json.dumps({"film": -9.0, "population": 0.0, "classifier": digest(folder)}), "utf-8")
    return folder


Corners = tuple[float, float, float, float]
LUNG_FIELDS: dict[str, Corners] = {"right lung": (0.12, 0.2, 0.44, 0.86), "left lung": (0.56, 0.2, 0.88, 0.86)}
"""(left, top, right, bottom) as shares of width and height."""


def build_segmenter(folder: Path, image: Image.Image, fields: dict[str, Corners] = LUNG_FIELDS) -> Path:
    """Write a U-Net that has learned one image by heart: what lies in these fields is of these classes, all else background."""
    side = 32
    truth = torch.zeros(1, side, side, dtype=torch.long)
    for value, corners in enumerate(fields.values(), start=1):
        left, top, right, bottom = (round(share * side) for share in corners)
        truth[0, top:bottom, left:right] = value
    torch.manual_seed(0)
    model = unet(len(fields), (8, 16, 32))
    pixels = normalised(torch.from_numpy(np.array(image.convert("L").resize((side, side))))[None, None])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 0.01 if step < 70 else 0.0  # at the end only the averages of its normalisation move
        loss = torch.nn.functional.cross_entropy(model(pixels), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    Segmenter(model, Plan(tuple(fields), side, (8, 16, 32))).save(folder)
    return folder


def film(peak: tuple[float, float] = (0.3, 0.55), size: tuple[int, int] = (300, 240)) -> Image.Image:
    """A dark grey picture with one soft bright spot, at `peak` as shares of width and height."""
    x, y = np.meshgrid((np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1])
    spot = np.exp(-((x - peak[0]) ** 2 + (y - peak[1]) ** 2) / 0.012)
    return Image.fromarray(np.rint(30 + 150 * spot).astype(np.uint8))
