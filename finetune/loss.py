"""The loss: what a batch of lessons costs the model, and which of its claims are right.

Knows LLaVA's way from pixels to logits, and tokens' weights. Does not know lessons, optimizers or files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from finetune.book import IGNORED
from finetune.emphasis import CLAIM
from finetune.looking import WEIGHT, looking_loss
from finetune.mixing import move


@dataclass(frozen=True)
class Judged:
    """(n,) cross-entropy, (n, vocabulary) logits and (n,) targets of n tokens of answers; `hidden` is what each layer read."""

    loss: torch.Tensor
    logits: torch.Tensor
    targets: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


def judge(model: LlavaForConditionalGeneration, batch: dict[str, torch.Tensor], parts: Sequence[torch.Tensor] = ()) -> Judged:
    """What the model makes of a batch of `finetune.book`, by `parts` of `finetune.mixing` in place of what it shows; no logits
    but the answers' are computed.
    """
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model.vision_tower(batch["pixel_values"], output_hidden_states=True).hidden_states
        seen = model.model.multi_modal_projector(move(hidden[-1][:, 1:], batch["moved"], parts))
        few: Any = [one[kept] for one, kept in zip(seen, batch["kept"], strict=True)]
        given = {"image": BaseModelOutputWithPooling(pooler_output=few)}
        # Padding stands on the right, where no token that counts can see it: without a mask, attention skips half its work.
        read = model.model(batch["input_ids"], mm_encoder_outputs=given, use_cache=False, output_hidden_states=True)
        targets = batch["labels"][:, 1:]
        wanted = targets != IGNORED
        logits = model.lm_head(read.last_hidden_state[:, :-1][wanted])
    each = nn.functional.cross_entropy(logits.float(), targets[wanted], reduction="none")
    return Judged(each, logits, targets[wanted], read.hidden_states)


def loss_of(
    model: LlavaForConditionalGeneration,
    batch: dict[str, torch.Tensor],
    weight: torch.Tensor,
    parts: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Cross-entropy over the answers' tokens, weighted by token, and what attention misses."""
    judged = judge(model, batch, parts)
    with torch.autocast("cpu", torch.bfloat16):
        missed = looking_loss(model, judged.hidden, batch)
    return (judged.loss * weight[judged.targets]).sum() / weight[judged.targets].sum() + WEIGHT * missed


@torch.inference_mode()
def validate(
    model: LlavaForConditionalGeneration,
    batches: Sequence[dict[str, torch.Tensor]],
    weight: torch.Tensor,
    parts: Sequence[torch.Tensor] = (),
) -> tuple[float, float]:
    """Mean loss, and the part of the claims' tokens that would have been chosen."""
    model.eval()
    losses, claims = [], []
    for batch in batches:
        judged = judge(model, batch, parts)
        counts = weight[judged.targets]
        losses.append((judged.loss * counts).sum().item() / counts.sum().item())
        claims.append((judged.logits.argmax(-1) == judged.targets)[counts == CLAIM].float())
    return sum(losses) / len(losses), torch.cat(claims).mean().item()
