"""Looking: attention that is told where to look, by lessons that know which patches a question is about.

Knows Llama's attention, tokens and patches. Does not know words, scenes or optimizers. Two heads of three layers learn, from
where an answer begins until it ends, to attend to the patches that its question is about (supervised attention: Liu et al.
2016, "Neural machine translation with supervised attention"; Qiao et al. 2018, "Exploring human-like attention supervision in
visual question answering"). Without it, a model of this size says what is somewhere in a picture long before it says what is
asked.
"""

from collections.abc import Sequence

import torch
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

LAYERS, HEADS = (1, 2, 3), 2
WEIGHT = 1.0
"""How much it counts beside the answers' cross-entropy."""


def looking_loss(
    model: LlavaForConditionalGeneration, hidden: Sequence[torch.Tensor], batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    """- log of the attention, among the picture's patches, on those that a question is about, averaged; 0 without such.

    `hidden` holds the (batch, length, width) states that each layer reads.
    """
    text = model.model.language_model
    ids, looks, look_of = batch["input_ids"], batch["looks"], batch["look_of"][:, 1:]
    is_patch = ids == model.config.image_token_index
    patches = batch["kept"].nonzero()[:, 1].split(is_patch.sum(1).tolist())  # where each patch's token stands in its picture
    cos, sin = text.rotary_emb(hidden[0], torch.arange(ids.shape[1], device=ids.device)[None])
    width, found = text.config.head_dim, [hidden[0].new_zeros(0)]
    for number in LAYERS:
        layer = text.layers[number]
        states = layer.input_layernorm(hidden[number])
        query, key = (
            part(states).unflatten(2, (-1, width)).transpose(1, 2)[:, :HEADS].float()
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, cos.float(), sin.float())
        for row in looks.flatten(1).any(1).nonzero().flatten().tolist():
            last = slice(-looks.shape[2], None)  # several pictures are shown whole: the last one's patches are the last ones
            wanted = looks[row][:, patches[row][last]][look_of[row]]
            at = wanted.any(1).nonzero().flatten()
            shown = key[row][:, is_patch[row]][:, last]
            chance = (query[row][:, at] @ shown.transpose(1, 2) / width**0.5).log_softmax(-1)
            found.append(-chance.masked_fill(~wanted[at], -torch.inf).logsumexp(-1).flatten())
    all_found = torch.cat(found)
    return all_found.mean() if len(all_found) else hidden[0].new_zeros(())
