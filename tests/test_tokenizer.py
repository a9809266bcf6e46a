"""The embedded model's tokenizer: text comes back as it was, and no text is a special token."""

import filecmp
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from finetune.tokenizer import train_tokenizer

LINES = [
    "Is there pneumonia?\nNo, the lungs are clear.",
    "폐렴이 보입니까? 아니오.",
    "<s> </s> <s </s s> <image> <pad> <0x0A>",
] * 20
HOSTILE = ["<image>", "</s>", "<s>", "<pad>", "<unk>", "<0x0A>", "<", "</", "s", ">", "image", " ", "\n", "폐", "🙂", "\x00"]


def trained(folder: Path) -> Path:
    train_tokenizer(LINES, folder, vocab_size=450)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(trained(tmp_path_factory.mktemp("tokenizer")), local_files_only=True)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def test_the_special_ids_are_llavas(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>"]) == [0, 1, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<image>"]) == [len(tokenizer) - 2, len(tokenizer) - 1]
    assert tokenizer.pad_token == "<pad>"


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
def test_text_comes_back_as_it_was_but_for_one_leading_space(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(encode(tokenizer, text)) == text.removeprefix(" ")


@given(text=st.lists(st.sampled_from(HOSTILE)).map("".join) | st.text())
def test_no_text_is_a_special_token(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert set(encode(tokenizer, text)).isdisjoint({0, 1, 2, len(tokenizer) - 2, len(tokenizer) - 1})


def test_known_words_are_single_pieces(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(encode(tokenizer, "pneumonia")) == len(encode(tokenizer, "폐렴이")) == 1


def test_the_same_lines_give_the_same_folder(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / name) for name in ("first", "second"))
    assert filecmp.cmp(first / "tokenizer.json", second / "tokenizer.json", shallow=False)
