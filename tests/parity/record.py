"""Records what the reference implementation of LLaVA-1.5 says, for `tests/test_parity.py` to compare ours with.

Runs in an environment of its own, for the reference pins versions of 2023; nothing of ours is imported here:

    python3.11 -m venv /tmp/reference
    /tmp/reference/bin/pip install torch==2.13.0             # the CPU build, from wherever your pip gets it
    /tmp/reference/bin/pip install --no-deps -r tests/parity/requirements.txt
    /tmp/reference/bin/python tests/parity/record.py tests/parity/fixture

The model is random and narrow, in the very layout of `liuhaotian/llava-v1.5-7b`: its key names, its config, two
`.bin` shards with an index, a bare sentencepiece model, and the CLIP tower in a folder of its own. The vocabulary
has what Llama's has and the reference's label mask counts on: `USER` is one piece, and a space before it a second.
"""

import argparse
import contextlib
import io
import json
import os
import random
from pathlib import Path

import sentencepiece
import torch
from llava.constants import IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates
from llava.mm_utils import process_images, tokenizer_image_token
from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM
from llava.train.train import preprocess_v1
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

TOWER, MODEL = "clip-vit-large-patch14-336", "llava-v1.5-narrow"
VOCABULARY, SIDE, PATCH, SEED, NEW_TOKENS, RECORDS = 512, 56, 14, 3, 32, 200
SIZES = [(56, 56), (80, 60), (60, 81), (200, 31), (17, 90), (337, 336)]
LINES = [
    "A chat between a curious user and an artificial intelligence assistant. ASSISTANT:",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "Is there pneumonia in the left lung? The lungs are clear; the heart is of normal size.",
    *["xUSER:", "(USER:", "a    b        c"] * 4,
    "여기에 폐렴이 있습니까? 예. 아니오. 보이지 않습니다.",
]
WORDS = [
    *["Is there", "pneumonia", "in the left lung?", "Yes.", "No, the heart is of normal size;", "(3 cm)", "37.5", "α-β", "🫁"],
    *["폐렴이", "있습니까?", "왼쪽 폐", "예, 보입니다.", "심장은 정상 크기입니다", "e\u0301", "USER", "ASSISTANT", "x:y"],
]
SPACES = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", " \n ", "\u00a0", "\u3000"]
CHATS = [
    ["Is there pneumonia?"],
    ["  폐렴이 있습니까?  "],
    ["Is  there\npneumonia?\n", " Yes. ", "왜?"],
    ["왼쪽 폐는\t어떻습니까?", "정상입니다.", "  and the\n\nright?  ", "예,\n 보입니다.", "심장은?"],
]


def write_tokenizer(folder: Path) -> None:
    """Trained with the settings of Llama's own tokenizer."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 3), model_writer=model, model_type="bpe", vocab_size=VOCABULARY, byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False,
        allow_whitespace_only_pieces=True, character_coverage=1.0, num_threads=1, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    token = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    special = {f"{name}_token": text for name, text in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))}
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "legacy": False,
        "model_max_length": 2048, "pad_token": None, "padding_side": "right", "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", **{name: token | {"content": text} for name, text in special.items()},
    })  # fmt: skip
    write_json(folder / "special_tokens_map.json", {"pad_token": "<unk>"} | special)


def write_tower(folder: Path) -> None:
    """The whole CLIP, text tower and all, as it is published."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": SIDE, "patch_size": PATCH, "projection_dim": 16}  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 32}
    torch.manual_seed(SEED)
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))
    scatter(model, 0.1)
    model.save_pretrained(folder, safe_serialization=False)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)


def write_model(folder: Path, vocabulary: int) -> None:
    config = LlavaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5, pad_token_id=0, max_length=1024,
    )  # fmt: skip
    config.update({
        "mm_vision_tower": f"openai/{TOWER}", "mm_hidden_size": 32, "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "use_mm_proj": True, "mm_resampler_type": None,
        "image_aspect_ratio": "pad", "mm_use_im_start_end": False, "mm_use_im_patch_token": False, "tune_mm_mlp_adapter": False,
        "freeze_mm_mlp_adapter": False, "unfreeze_mm_vision_tower": False, "architectures": ["LlavaLlamaForCausalLM"],
        "_name_or_path": "llava-v1.5-7b",
    })  # fmt: skip
    torch.manual_seed(SEED)
    model = LlavaLlamaForCausalLM(config)
    scatter(model, 0.3)
    weights = model.state_dict()
    names = sorted(weights)
    files = [f"pytorch_model-{i + 1:05}-of-00002.bin" for i in range(2)]
    for i, file in enumerate(files):
        torch.save({name: weights[name].clone() for name in names[i::2]}, folder / file)
    index = {name: files[i % 2] for i, name in enumerate(names)}
    write_json(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": index})
    write_json(folder / "config.json", config.to_dict() | {"model_type": "llava"})
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})


def scatter(model: torch.nn.Module, spread: float) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1 if weight.dim() == 1 else 0, spread)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """The same noise in `tests/test_parity.py`, from nothing but its seed."""
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1]))


def prompt_of(chat: list[str]) -> str:
    conversation = conv_templates["vicuna_v1"].copy()
    for i, said in enumerate([*chat, None]):
        conversation.append_message(conversation.roles[i % 2], f"<image>\n{said}" if i == 0 else said)
    return conversation.get_prompt()


def text_of(rng: random.Random) -> str:
    said = "".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randint(1, 6)))
    return (rng.choice(["", "", " ", "  ", "\n"]) + said) if rng.random() < 0.5 else said.rstrip(" ")


def record_masks(tokenizer, tensors: dict[str, torch.Tensor]) -> tuple[list[list[str]], int]:
    """RECORDS dialogues that the reference takes, and how many more it dropped for a length that it miscounted."""
    rng = random.Random(SEED)
    chats, ids, masks, dropped = [], [], [], 0
    while len(chats) < RECORDS:
        chat = [text_of(rng) for _ in range(2 * rng.randint(1, 5))]
        source = [{"from": "gpt" if i % 2 else "human", "value": said} for i, said in enumerate(chat)]
        source[0]["value"] = "<image>\n" + source[0]["value"]
        with contextlib.redirect_stdout(io.StringIO()):
            result = preprocess_v1([source], tokenizer, has_image=True)
        if not result["labels"][0].ne(-100).any():
            dropped += 1
            continue
        chats.append(chat)
        ids.append(result["input_ids"][0])
        masks.append(result["labels"][0].ne(-100))
    tensors["record_lengths"] = torch.tensor([len(row) for row in ids])
    tensors["record_ids"] = torch.cat(ids).to(torch.int16)
    tensors["record_masks"] = torch.cat(masks)
    return chats, dropped


@torch.inference_mode()
def record(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / MODEL, use_fast=False)
    model = LlavaLlamaForCausalLM.from_pretrained(folder / MODEL).eval()
    model.get_vision_tower().load_model()
    processor = model.get_vision_tower().image_processor
    tensors = {}
    for i, size in enumerate(SIZES):
        tensors[f"pixels_{i}"] = process_images([picture(i, size)], processor, model.config)[0].contiguous()
    said = []
    for i, chat in enumerate(CHATS):
        prompt = prompt_of(chat)
        ids = tokenizer_image_token(prompt, tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt")[None]
        pixels = tensors[f"pixels_{i + 1}"][None]
        tensors[f"features_{i}"] = model.encode_images(pixels)[0].contiguous()
        logits = model(ids, images=pixels).logits[0, -16:]
        tensors[f"logits_{i}"] = logits.contiguous()
        begun, *answer = model.generate(ids, images=pixels, do_sample=False, max_new_tokens=NEW_TOKENS)[0].tolist()
        if begun != tokenizer.bos_token_id or len(answer) != NEW_TOKENS or answer[0] != logits[-1].argmax():
            raise SystemExit(f"Chat {i} was not answered in {NEW_TOKENS} tokens; take another seed.")
        said.append({"chat": chat, "prompt": prompt, "ids": ids[0].tolist(), "answer": answer})
    chats, dropped = record_masks(tokenizer, tensors)
    save_file(tensors, folder / "recorded.safetensors")
    facts = {"sizes": SIZES, "said": said, "records": chats, "dropped_by_the_reference": dropped}
    (folder / "recorded.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for name in (TOWER, MODEL):
        (out / name).mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    Path("openai").symlink_to(".")  # the reference takes the tower's name, openai/..., as a path
    write_tower(Path(TOWER))
    write_tokenizer(Path(MODEL))
    write_model(Path(MODEL), sentencepiece.SentencePieceProcessor(model_file=f"{MODEL}/tokenizer.model").get_piece_size())
    record(Path())
    Path("openai").unlink()


if __name__ == "__main__":
    main()
