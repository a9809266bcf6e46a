"""How much sooner and faster the engine is than plain transformers: P1, P2, P3, P5 and P6, interleaved in one run.

Each time is taken twice, as a person waits and in the processor's own seconds, which another program does not slow down
as much; `ratio` is the first, `cpu_ratio` the second.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engine_mini import Talk, answers
from chat.engine.base import Message, Sampling
from chat.engine.checkpoint import Loaded
from chat.engine.decode import quicken
from chat.engine.local import LocalEngine
from chat.engine.packed import pack
from chat.prompt import encode, layout_search

Pair = tuple[float, float]
"""Seconds as a person waits, and of the processor."""


def now() -> Pair:
    return time.perf_counter(), time.process_time()


def since(start: Pair) -> Pair:
    end = now()
    return end[0] - start[0], end[1] - start[1]


@contextmanager
def counters(loaded: Loaded) -> Iterator[dict[str, int]]:
    """Tokens that the language model took in, and images that the tower looked at."""
    seen = {"tokens": 0, "looks": 0}
    parts: Any = loaded.model.model

    def read(_: torch.nn.Module, __: object, given: dict[str, torch.Tensor]) -> None:
        seen["tokens"] += given["inputs_embeds"].shape[1]

    def look(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen["looks"] += len(given[0])

    hooks = [
        parts.language_model.register_forward_pre_hook(read, with_kwargs=True),
        parts.vision_tower.register_forward_pre_hook(look),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class Ticks:
    """A streamer for `generate` that only looks at the clock."""

    def __init__(self) -> None:
        self.times: list[Pair] = []

    def put(self, _: object) -> None:
        self.times.append(now())

    def end(self) -> None:
        pass


@contextmanager
def as_it_comes(loaded: Loaded) -> Iterator[None]:
    """The checkpoint as transformers runs it."""
    pack(loaded.model, False)
    quicken(loaded.model, False)
    try:
        yield
    finally:
        quicken(loaded.model)
        pack(loaded.model)


def plain(loaded: Loaded, messages: Sequence[Message], new_tokens: int) -> tuple[Pair, list[Pair]]:
    """Transformers' own `generate` on the whole prompt: time to the first token, and from each to the next."""
    processor: Any = loaded.image_processor
    model: Any = loaded.model
    with as_it_comes(loaded):
        start, ticks = now(), Ticks()
        one = encode(messages, loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image)
        pixels = processor(images=list(one.images), return_tensors="pt")["pixel_values"].to(loaded.device, loaded.dtype)
        ids = torch.tensor([one.ids], device=loaded.device)
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, do_sample=False, eos_token_id=None,
            max_new_tokens=new_tokens, streamer=ticks,
        )  # fmt: skip
    first = ticks.times[1]  # the prompt itself comes first
    return (first[0] - start[0], first[1] - start[1]), steps(ticks.times[1:])


def ours(engine: LocalEngine, messages: Sequence[Message], new_tokens: int, session: str) -> tuple[Pair, list[Pair]]:
    start = now()
    times = [now() for _ in engine.stream(messages, Sampling(new_tokens, 0), session)]
    first = times[0]
    return (first[0] - start[0], first[1] - start[1]), steps(times)


def steps(times: Sequence[Pair]) -> list[Pair]:
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(times)]


def ratio(mine: Sequence[Pair], theirs: Sequence[Pair], **counted: object) -> dict[str, object]:
    """Medians over medians."""
    (a, b), (c, d) = (np.median(np.array(pairs), axis=0) for pairs in (mine, theirs))
    return {
        "ratio": round(float(a / c), 3), "cpu_ratio": round(float(b / d), 3), "milliseconds": round(1e3 * float(a), 1),
        "plain_milliseconds": round(1e3 * float(c), 1), "times": len(mine), **counted,
    }  # fmt: skip


def first_tokens(engine: LocalEngine, loaded: Loaded, rounds: int, answer_tokens: int = 32) -> dict[str, dict[str, object]]:
    """P1, P2, P3: question to first token against `generate` on the whole prompt, with and without time between turns."""
    kinds = ("P1", "P1 without idle", "P2", "P3", "P3 without idle")
    mine: dict[str, list[Pair]] = {kind: [] for kind in kinds}
    theirs: dict[str, list[Pair]] = {kind: [] for kind in kinds}
    tokens: dict[str, list[int]] = {kind: [] for kind in kinds}
    whole: dict[str, list[int]] = {kind: [] for kind in kinds}
    rng = np.random.default_rng(1)
    for number in range(rounds):
        for idle in (True, False):
            talk, said = Talk.begin(number), answers(rng, answer_tokens)
            engine.prepare(talk.messages(""), "bench")
            for turn in range(1, 9):
                kind = "P2" if turn == 1 else "P1" if turn <= 6 else "P3"  # the sixth question is the last before the slide
                kind += "" if idle or turn == 1 else " without idle"
                with counters(loaded) as seen:
                    mine[kind].append(ours(engine, talk.messages(), 1, "bench")[0])
                tokens[kind].append(seen["tokens"])
                whole[kind].append(engine.count(talk.messages()))
                theirs[kind].append(plain(loaded, talk.messages(), 1)[0])
                talk = talk.answered(next(said))
                if idle:
                    engine.prepare(talk.messages(""), "bench")
            engine.forget("bench")
    return {
        kind: ratio(mine[kind], theirs[kind], tokens=int(np.median(tokens[kind])), of=int(np.median(whole[kind])))
        for kind in kinds
    }


def choosing(loaded: Loaded, rounds: int, tiles: int = 8) -> dict[str, object]:
    """Tiles of a search that are asked about in one pass each, and four at a time: seconds of the latter over the former."""
    image = Talk.begin(21).image
    batch = [layout_search(None, image.rotate(number), "Is it here?") for number in range(tiles)]
    times: dict[int, list[Pair]] = {1: [], 4: []}
    for _ in range(rounds + 1):
        for at_once, taken in times.items():
            start = now()
            LocalEngine(loaded, at_once=at_once).choose(batch, ["Yes", "No"])
            taken.append(since(start))
    found = ratio(times[4][1:], times[1][1:], tiles=tiles)  # the first round warms up
    return found | {"passes_per_second": round(1e3 * tiles / float(str(found["plain_milliseconds"])), 1)}


def per_token(engine: LocalEngine, loaded: Loaded, rounds: int, new_tokens: int = 24) -> dict[str, dict[str, object]]:
    """P5 at two contexts against raw `generate`, the worse of both; P6 against the time to read weights and cache once."""
    found, speeds, width = {}, [], loaded.model.config.get_text_config()
    for context in (700, 1400):
        talk, mine, theirs = Talk.begin(context), [], []
        filler = context - engine.count(talk.messages()) - 40
        talk = talk.answered(range(300, 300 + max(1, filler)))
        for _ in range(rounds):
            mine += ours(engine, talk.messages(), new_tokens, "bench")[1]
            theirs += plain(loaded, talk.messages(), new_tokens)[1]
        engine.forget("bench")
        found[context] = ratio(mine, theirs, context=engine.count(talk.messages()))
        kept = 2 * width.num_hidden_layers * width.num_key_value_heads * width.head_dim * context
        speeds.append(ceiling(loaded, kept) / np.median(np.array(mine), axis=0))
    worst = max(found.values(), key=lambda one: float(str(one["ratio"])))
    slowest = [round(float(share), 3) for share in np.min(speeds, axis=0)]
    return {"P5": worst | {"both": list(found.values())}, "P6": {"ratio": slowest[0], "cpu_ratio": slowest[1]}}


def ceiling(loaded: Loaded, kept: int) -> NDArray[np.float64]:
    """Seconds to move once what one token needs, weights and `kept` numbers, at the speed of a copy measured here."""
    parts: Any = loaded.model
    size = sum(w.nbytes for w in parts.model.language_model.layers.parameters()) + parts.lm_head.weight.nbytes
    size += kept * loaded.dtype.itemsize
    source = torch.ones(1 << 26, device=loaded.device)
    target, times = torch.empty_like(source), []
    for _ in range(9):
        start = now()
        target.copy_(source)
        if source.is_cuda:
            torch.cuda.synchronize()
        times.append(since(start))
    return np.asarray(np.median(np.array(times), axis=0) * size / (2 * source.nbytes))
