"""What the engine is measured on: a random LLaVA that is too large for a processor's cache, and conversations about an image.

Knows how to build and to question a model. Does not know what is measured.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaImageProcessorPil

from chat.conversation import Conversation, Turn
from chat.engine.base import Message
from chat.engine.checkpoint import Loaded, load
from chat.prompt import View, layout
from vision.tiling import Box

EVIDENCE = (
    "What a classifier measured in this image, which may be wrong:",
    "pneumonia, probability 87 %, strongest at the lower left, box 120,300 to 410,620 pixels; the map passed its checks.",
)


def write_mini(folder: Path, tokenizer: Path) -> None:
    """CLIP 336/14 of 6 layers x 256 and a Llama of 8 x 512 with 32,064 tokens, random; the words are another checkpoint's."""
    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, image_size=336, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=32_064, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=4096,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4097, image_seq_length=576)
    torch.manual_seed(7)
    model: Any = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)
    LlavaImageProcessorPil(size={"height": 336, "width": 336}, do_pad=True, do_center_crop=False).save_pretrained(folder)


def load_exact(folder: Path, name: str) -> Loaded:
    """In fp32, on a GPU as it comes; its answers never end by themselves."""
    loaded = load(folder, "auto", None)
    exact = loaded if loaded.device != "cpu" else dataclasses.replace(loaded, model=loaded.model.float(), dtype=torch.float32)
    return dataclasses.replace(exact, name=name, end_ids=frozenset())


def build_mini(tokenizer: Path) -> Loaded:
    with tempfile.TemporaryDirectory() as name:
        write_mini(Path(name), tokenizer)
        return load_exact(Path(name), "mini-llava")


@dataclasses.dataclass(frozen=True)
class Talk:
    """A conversation about one image, some turns in."""

    image: Image.Image
    conversation: Conversation

    @classmethod
    def begin(cls, seed: int, limit: int = 5) -> "Talk":
        noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        return cls(Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC), Conversation(limit=limit))

    @property
    def question(self) -> str:
        return f"Question {self.conversation.asked}: is there a shadow in the lower part of the left lung, or behind the heart?"

    def messages(self, question: str | None = None) -> tuple[Message, ...]:
        """The prompt of the next question; of "" what can be computed before it exists."""
        view = View("overview", Box(0, 0, *self.image.size), self.image)
        said = self.question if question is None else question
        return layout(said, self.conversation.turns, [view], EVIDENCE, (), "en")

    def answered(self, ids: Sequence[int]) -> "Talk":
        return dataclasses.replace(self, conversation=self.conversation.with_turn(Turn(self.question, "", tuple(ids))))


def answers(rng: np.random.Generator, tokens: int) -> Iterator[tuple[int, ...]]:
    """Random answers of so many plain tokens."""
    while True:
        yield tuple(int(token) for token in rng.integers(300, 4000, tokens))
