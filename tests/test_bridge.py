"""The bridge: what the language model starts from, before it has read a single lesson."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from finetune import bridge, canvas
from finetune.films import Films
from finetune.lessons import texts
from finetune.pretrain import build
from finetune.scenes import draw_scene
from finetune.tokenizer import train_tokenizer
from finetune.tower import Tower


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    films = Films(torch.zeros(1, 40, 40, dtype=torch.uint8), torch.tensor([0]))
    tokenizer = train_tokenizer(texts(films, 0, 150), tmp_path_factory.mktemp("words"), 1600)
    tower = Tower().eval()
    model = build(tokenizer, tower.vision).eval()
    seen = bridge.directions(tower, model.lm_head.in_features)
    bridge.name_words(model, tokenizer, seen)
    pictures = [draw_scene(np.random.default_rng(seed)).image for seed in range(4)]
    pixel_values = canvas.normalise(torch.stack([canvas.pixels(picture) for picture in pictures]))
    bridge.open_eyes(model, tower, pixel_values, seen)
    bridge.match_alike(model)
    return model, tokenizer, tower, seen, pixel_values


@pytest.mark.parametrize(
    ("word", "head", "number"),
    [("\u2581red", "colour", 1), ("\u2581star", "kind", 4), ("\u2581빨간", "colour", 1), ("\u2581left", "column", 1)],
)
def test_a_word_starts_from_the_direction_of_what_it_names(started, word: str, head: str, number: int) -> None:
    model, tokenizer, _, seen, _ = started
    token = tokenizer.get_vocab()[word]
    for table in (model.model.language_model.embed_tokens.weight, model.lm_head.weight):
        alike = cosine_similarity(table[token], seen[head][1:], dim=1)
        assert int(alike.argmax()) == number - 1
        assert alike.max() > 0.4


def test_a_patch_starts_as_the_sum_of_what_the_heads_say_of_it(started) -> None:
    model, _, tower, seen, pixel_values = started
    with torch.no_grad():
        said = tower.heads["colour"](tower(pixel_values)).flatten(0, 1)
        projected = model.get_image_features(pixel_values=pixel_values).pooler_output
        shown = torch.cat(list(projected)) @ seen["colour"].T
    sure = (said - said.mean(1, keepdim=True)).flatten()
    assert np.corrcoef(sure, (shown - shown.mean(1, keepdim=True)).flatten())[0, 1] > 0.5


def test_attention_starts_by_looking_for_like_things(started) -> None:
    attention = started[0].model.language_model.layers[0].self_attn
    states = torch.randn(20, attention.q_proj.in_features)
    with torch.no_grad():
        scores = attention.q_proj(states) @ attention.k_proj(states).T
        copied = attention.o_proj(attention.v_proj(states))
    assert torch.equal(scores.argmax(1), torch.arange(20))
    assert cosine_similarity(copied, states).min() > 0.99
