"""Parity: whether a loaded checkpoint gets the prompt that LLaVA-1.5 was trained on, and answers as transformers would.

Knows tokens, a checkpoint and transformers' own `generate`. Does not know what is done about a difference.
The equality with the reference implementation itself is `tests/test_parity.py`'s; this runs on the person's own weights.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from chat.engine.base import Message
from chat.engine.checkpoint import Loaded
from chat.engine.local import device_errors
from chat.prompt import SYSTEM, Encoded, encode

ROUND_TRIPS = ("What is shown in this image?", "왼쪽 폐에 폐렴이 보입니까? 값은 3.5%입니다.", "뷁, ½ × 눈\n둘째 줄")

SHOWN = "\nWhat is shown in this image? 안녕 나는 나래야"
LLAMA_HEAD = (
    1, 319, 13563, 1546, 263, 12758, 1404, 322, 385, 23116, 21082, 20255, 29889, 450, 20255, 4076, 8444, 29892, 13173, 29892,
    322, 1248, 568, 6089, 304, 278, 1404, 29915, 29879, 5155, 29889, 3148, 1001, 29901, 29871,
)  # fmt: skip
LLAMA_TAIL = (
    29871, 13, 5618, 338, 4318, 297, 445, 1967, 29973, 29871, 31734, 238, 136, 152, 29871, 31207, 31081, 29871, 31207,
    238, 161, 155, 239, 152, 191, 319, 1799, 9047, 13566, 29901,
)  # fmt: skip
"""The ids of `SYSTEM USER: <image>` and of SHOWN with ` ASSISTANT:` in Llama's tokenizer, which every LLaVA-1.5 has. The
system sentence is as FastChat prints it for Vicuna v1.1, the rest as in transformers' tests of LlavaProcessor and vLLM's
LLaVA (the reference's chunks around `<image>`, each with its leading 29871); all were compared with the public vocabulary.
"""


@dataclass(frozen=True)
class Difference:
    """Where two greedy answers part, and by how much transformers prefers its own token there (in logits).

    `is_tie` where that is within the rounding of the precision, so that either token is as right.
    """

    position: int
    gap: float
    is_tie: bool


def check_prompt(loaded: Loaded) -> Iterator[str]:
    """A sentence for each fact about ids and image tokens that does not hold. Raises OutOfMemory."""
    model: Any = loaded.model
    words: Any = loaded.tokenizer
    picture = Image.new("RGB", (loaded.input_side, loaded.input_side))
    with device_errors(), torch.inference_mode():
        seen = len(model.get_image_features(pixel_values=_pixels(loaded, picture)).pooler_output[0])
    if seen != loaded.tokens_per_image:
        yield f"The vision tower gives {seen} tokens for an image and its config says {loaded.tokens_per_image}."
    spelled = f"<image>{words.bos_token}{words.eos_token}"
    plain, typed = (Counter(_encode(loaded, *_dialogue(picture, text)).ids) for text in ("", spelled))
    for name, token, wanted in (
        ("<image>", loaded.image_token_id, loaded.tokens_per_image),
        ("the first token", words.bos_token_id, 1),
        ("the end token", words.eos_token_id, 1),
    ):
        if plain[token] != wanted:
            yield f"A prompt with one image and one answer holds {name} {plain[token]} times, not {wanted}."
        if typed[token] != plain[token]:
            yield f"Plain text that spells a special token becomes one ({name}); its tokenizer must not be used."
    for number, text in enumerate(ROUND_TRIPS, 1):
        ids = words.encode(text, add_special_tokens=False, split_special_tokens=True)
        back = words.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if back.removeprefix(" ") != text:
            yield f"Text does not come back from its tokens as it was (sample {number} of {len(ROUND_TRIPS)})."
    if _has_llama_size(loaded):
        shown = _encode(loaded, Message("user", (picture, SHOWN))).ids
        if shown != (*LLAMA_HEAD, *[loaded.image_token_id] * loaded.tokens_per_image, *LLAMA_TAIL):
            yield "The prompt's token ids are not those of LLaVA-1.5; take the tokenizer that belongs to the checkpoint."


def _dialogue(picture: Image.Image, text: str) -> tuple[Message, ...]:
    asked, answered = Message("user", (picture, f"\n{text} a")), Message("assistant", (f"{text} b",))
    return asked, answered, Message("user", (f"{text} c",))


def _pixels(loaded: Loaded, *images: Image.Image) -> torch.Tensor:
    pixels: torch.Tensor = loaded.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
    return pixels.to(loaded.device, loaded.dtype)


def _has_llama_size(loaded: Loaded) -> bool:
    """Whether this should be Llama's tokenizer: its 32,000 tokens and a few that LLaVA adds, before a Llama."""
    config: Any = loaded.model.config
    return config.text_config.model_type == "llama" and 32_000 <= len(loaded.tokenizer) <= 32_064


def _encode(loaded: Loaded, *messages: Message) -> Encoded:
    whole = (Message("system", (SYSTEM,)), *messages)
    return encode(whole, loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image)


@torch.inference_mode()
def generate(loaded: Loaded, messages: Sequence[Message], new_tokens: int) -> tuple[list[int], Sequence[torch.Tensor]]:
    """Transformers' own greedy `generate`: the new ids, an end token among them, and (1, vocabulary) logits for each.

    Raises OutOfMemory.
    """
    one = encode(messages, loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image)
    model: Any = loaded.model
    ids = torch.tensor([one.ids], device=loaded.device)
    with device_errors():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=_pixels(loaded, *one.images),
            do_sample=False, num_beams=1, repetition_penalty=1.0, max_new_tokens=new_tokens,
            eos_token_id=sorted(loaded.end_ids), return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    return out.sequences[0, len(one.ids) :].tolist(), out.logits


def compare_greedy(
    loaded: Loaded, messages: Sequence[Message], ours: Sequence[int], has_ended: bool, new_tokens: int
) -> Difference | None:
    """Where transformers' own greedy `generate` parts from `ours`, the ids of an answer of at most `new_tokens`.

    `has_ended` says that an end token followed them. None when every token is the same. Raises OutOfMemory.
    """
    theirs, scores = generate(loaded, messages, new_tokens)
    chosen = [{token} for token in ours] + [set(loaded.end_ids)] * has_ended  # every end token is the same end
    for position, (token, wanted) in enumerate(zip(theirs, chosen, strict=False)):
        if token not in wanted:
            logits = scores[position][0].float()
            gap = float(logits.max() - logits[sorted(wanted)].max())
            return Difference(position, gap, gap <= 4 * torch.finfo(loaded.dtype).eps * float(logits.abs().max()))
    return None
