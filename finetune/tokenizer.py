"""The embedded model's tokenizer: sentencepiece BPE with bytes for what it has not seen, as a `LlamaTokenizer`.

Knows lines of text. Does not know prompts, images or models.

The ids are LLaVA's: `<unk>` 0, `<s>` 1, `</s>` 2, then 256 bytes and the pieces, with `<pad>` and `<image>`
appended. A newline is a byte, and text gets a leading space that decoding takes away, as in Llama.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
from transformers import AddedToken, LlamaTokenizer

PAD = "<pad>"
IMAGE = "<image>"
CONTEXT_TOKENS = 1 << 20
"""More than any prompt: the limit is the model's, not the tokenizer's."""

_PLAIN_PIECE = 1
_MOST_BYTES_PER_LINE = 1 << 16


def train_tokenizer(lines: Iterable[str], out: Path, vocab_size: int) -> LlamaTokenizer:
    """Learn at most `vocab_size` pieces from `lines` and save a tokenizer folder; `<pad>` and `<image>` come on top.

    Every text without U+2581 comes back from encode and decode as it was, but for one space at its very
    beginning. With `split_special_tokens=True` no text yields a special token's id. The same lines give
    the same folder. `vocab_size` must hold the bytes, the special tokens and every character of `lines`.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sentences(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        hard_vocab_limit=False,
        character_coverage=1.0,
        max_sentence_length=_MOST_BYTES_PER_LINE,
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = _as_llama(model.getvalue())
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    return tokenizer


def _sentences(lines: Iterable[str]) -> Iterator[str]:
    """A text begins with the space that it is encoded with, what follows a newline with none."""
    for line in lines:
        yield from (part for part in f" {line}".split("\n") if part.strip())


def _as_llama(model: bytes) -> LlamaTokenizer:
    """The sentencepiece model as vocabulary and merges, a merge's rank being its result's place in the vocabulary.

    Only plain pieces merge, so the characters `<`, `s`, `>` can never grow into the token `<s>`.
    """
    proto = ModelProto.FromString(model)
    vocab = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    plain = {piece.piece for piece in proto.pieces if piece.type == _PLAIN_PIECE}
    merges = [
        (piece[:i], piece[i:])
        for piece in sorted(plain, key=vocab.__getitem__)
        for i in range(1, len(piece))
        if piece[:i] in plain and piece[i:] in plain
    ]
    tokenizer = LlamaTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT_TOKENS, add_bos_token=True)
    tokenizer.add_special_tokens({"pad_token": AddedToken(PAD, special=True, normalized=False)})
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    return tokenizer
