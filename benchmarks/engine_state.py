"""What the engine keeps, and that it changes nothing: P4, P9, P11, P12 and P18. Counters and bytes, no clocks.

Knows the engine's sessions and its layers. Does not know how fast any of it is.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engine_mini import Talk, answers
from benchmarks.engine_speed import counters
from chat.engine.base import Sampling
from chat.engine.checkpoint import Loaded
from chat.engine.local import LocalEngine
from chat.prompt import layout_search

Result = dict[str, object]


@contextmanager
def last_logits(loaded: Loaded) -> Iterator[list[torch.Tensor]]:
    model: Any = loaded.model
    heard: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda *called: heard.append(called[2][0, -1].float().cpu()))
    try:
        yield heard
    finally:
        hook.remove()


def exactness(engine: LocalEngine, loaded: Loaded, dialogues: int, turns: int = 10, tokens: int = 4) -> Result:
    """P4: the same dialogue with what is kept and in an empty session, and how far their logits are apart.

    `like_generate` counts the turns whose first token is that of one pass over the whole prompt, as `generate` makes it.
    """
    equal, bits, alike, apart, far = 0, 0, 0, 0.0, 0.0
    for number in range(dialogues):
        talk, whole = Talk.begin(number), True
        for _ in range(turns):
            said = []
            for session in ("kept", "fresh"):
                with last_logits(loaded) as logits:
                    deltas = engine.stream(talk.messages(), Sampling(tokens, 0), session)
                    said.append(([token for delta in deltas for token in delta.ids], torch.stack(logits)))
                engine.forget("fresh")
            (kept, warm), (fresh, cold) = said
            whole &= kept == fresh
            bits += torch.equal(warm, cold)
            apart = max(apart, float((warm - cold).abs().max())) if warm.shape == cold.shape else float("inf")
            once = in_one_pass(engine, loaded, talk)
            far, alike = max(far, float((once - warm[0]).abs().max())), alike + int(once.argmax() == warm[0].argmax())
            talk = talk.answered(kept)
        equal += whole
        engine.forget("kept")
    count = dialogues * turns
    return {
        "ratio": equal / dialogues, "dialogues": dialogues, "equal": equal, "turns_bit_equal": bits, "turns": count,
        "most_apart": apart, "like_generate": alike, "most_from_one_pass": far,
        "dtype": str(loaded.dtype).removeprefix("torch."),
    }  # fmt: skip


def in_one_pass(engine: LocalEngine, loaded: Loaded, talk: Talk) -> torch.Tensor:
    """(vocabulary,) logits of the prompt's last token by transformers' own forward."""
    one = engine._encode(talk.messages())
    processor, model = loaded.image_processor, loaded.model
    pixels = processor(images=list(one.images), return_tensors="pt")["pixel_values"].to(loaded.device, loaded.dtype)
    with torch.inference_mode():
        ids = torch.tensor([one.ids], device=loaded.device)
        logits: torch.Tensor = model(input_ids=ids, pixel_values=pixels, logits_to_keep=1).logits
    return logits[0, -1].float().cpu()


def looks(engine: LocalEngine, loaded: Loaded, turns: int = 10) -> Result:
    """P9: how often the tower looks at the image in a conversation."""
    talk, said = Talk.begin(9), answers(np.random.default_rng(9), 8)
    with counters(loaded) as seen:
        for _ in range(turns):
            engine.prepare(talk.messages(""), "looks")
            list(engine.stream(talk.messages(), Sampling(1, 0), "looks"))
            talk = talk.answered(next(said))
    engine.forget("looks")
    return {"ratio": seen["looks"], "turns": turns}


def searching(engine: LocalEngine, tiles: int = 24) -> Result:
    """P11: what stays of a search in tiles, and how far it raises the peak, over the bytes that one prompt's cache takes."""
    talk = Talk.begin(11)
    list(engine.stream(talk.messages(), Sampling(1, 0), "full"))
    batch = [layout_search(None, talk.image.rotate(i), "Is it here?") for i in range(tiles)]
    one, tensors = engine._sessions.bytes, tensor_bytes()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
    before = peak()
    engine.choose(batch, ["Yes", "No"])
    grown = peak() - before
    engine.forget("full")
    return {
        "ratio": round(grown / one, 3), "tiles": tiles, "tensor_bytes_left": tensor_bytes() - tensors + one,
        "peak_growth_bytes": grown, "session_bytes": one,
    }  # fmt: skip


def peak() -> int:
    """Bytes that this process, or its GPU, has held at most."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return status("VmHWM")


def forget_peak() -> None:
    """From here on VmHWM is counted anew."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def status(name: str) -> int:
    """One line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) << 10


def tensor_bytes() -> int:
    gc.collect()
    found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if type(t) is torch.Tensor}
    return sum(found.values())


def growth(engine: LocalEngine, turns: int = 50) -> Result:
    """P12: bytes of tensors and of the process that are added from the tenth turn on."""
    talk, said, held = Talk.begin(12), answers(np.random.default_rng(12), 12), []
    for _ in range(turns + 10):
        list(engine.stream(talk.messages(), Sampling(2, 0), "long"))
        talk = talk.answered(next(said))
        engine.prepare(talk.messages(""), "long")
        held.append((tensor_bytes(), engine._sessions.bytes, status("VmRSS")))
    engine.forget("long")
    first, last = held[9], held[-1]
    return {
        "ratio": last[0] - first[0], "session_growth_bytes": last[1] - first[1], "session_bytes": last[1],
        "rss_growth_mib": round((last[2] - first[2]) / 2**20, 2), "turns": turns,
    }  # fmt: skip


def stopping(engine: LocalEngine, loaded: Loaded) -> Result:
    """P18: layers that begin after a stream was closed in the middle of one, by where it was."""
    model: Any = loaded.model.model
    stacks = [part for part in model.vision_tower.modules() if isinstance(part, torch.nn.ModuleList)]
    tower = max(stacks, key=len)
    after = {
        "vision": _after_stop(engine, tower[0], [*tower, *model.language_model.layers], 0),
        "prefill": _after_stop(engine, model.language_model.layers[1], [*tower, *model.language_model.layers], 0),
        "decode": _after_stop(engine, model.language_model.layers[1], [*tower, *model.language_model.layers], 3),
    }
    return {"ratio": max(after.values()), **after}


def _after_stop(engine: LocalEngine, place: torch.nn.Module, layers: list[torch.nn.Module], tokens: int) -> int:
    engine.forget("stop")
    stream: Any = engine.stream(Talk.begin(18).messages(), Sampling(8, 0), "stop")
    for _ in range(tokens):
        next(stream)
    begun: list[int] = []
    closers: list[threading.Thread] = []

    def close(*_: object) -> None:
        if not closers:
            closers.append(threading.Thread(target=stream.close))
            closers[0].start()
            while not stream._ticket.is_closed:
                pass

    hooks = [place.register_forward_hook(close)]
    note: Callable[..., None] = lambda *_: begun.append(1) if closers else None  # noqa: E731
    hooks += [layer.register_forward_hook(note) for layer in layers if layer is not place]
    list(stream)
    closers[0].join()
    for hook in hooks:
        hook.remove()
    engine.forget("stop")
    return len(begun)
