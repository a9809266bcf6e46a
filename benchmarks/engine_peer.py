"""The local engine beside a strong peer, `transformers serve`, in one run: the same random LLaVA, conversation and ids.

    python -m benchmarks.engine_peer [--rounds 3] [--tokens 24] [--out FILE] [--json]

First token on turns 1 to 6 (as the page asks, which reads ahead while a person does, and without that) and tokens per second on
the last, each turn asked of both before the next. The peer's request is built, and its picture packed, before the clock starts.
Knows the server's command and its replies. Does not know how either is made.
"""

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks import machine
from benchmarks.engine_mini import Talk, load_exact, write_mini
from benchmarks.engine_speed import counters
from chat.conversation import Turn
from chat.engine.base import Message, Sampling
from chat.engine.local import LocalEngine
from chat.engine.wire import to_wire

TURNS = 6
AHEAD, BUSY, PEER = "ours", "ours without idle time", "transformers serve"
SAID = "There is a faint shadow in the lower part of the left lung, and the heart is of normal size."
TEMPLATE = Path(__file__).parents[1] / "chat" / "engine" / "llava-1.5.jinja"
PROCESSOR = {"processor_class": "LlavaProcessor", "image_token": "<image>", "patch_size": 14, "num_additional_image_tokens": 1}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What one question took: seconds as a person waits, those of the processor, and tokens of its prompt."""

    seconds: float
    processor: float
    prompt_tokens: int


@dataclasses.dataclass(frozen=True)
class Peer:
    """A running `transformers serve`, and the name that it knows the checkpoint by."""

    client: httpx.Client
    pid: int
    name: str

    def ask(self, messages: Sequence[Message], tokens: int) -> Asked:
        """The whole reply of so many greedy tokens; where that is one, it is the first."""
        own = json.dumps({"do_sample": False, "eos_token_id": None})
        body = {"model": self.name, "messages": to_wire(messages), "max_tokens": tokens, "generation_config": own}
        content = json.dumps(body | {"stream": False}).encode()
        start, spent = time.perf_counter(), self._processor()
        reply = self.client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        seconds, spent = time.perf_counter() - start, self._processor() - spent
        used = reply.raise_for_status().json()["usage"]
        if used["completion_tokens"] != tokens:
            raise SystemExit(f"The server wrote {used['completion_tokens']} tokens, not {tokens}.")
        return Asked(seconds, spent, used["prompt_tokens"])

    def _processor(self) -> float:
        """Seconds of the processor that the server has used, in hundredths."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serve(folder: Path) -> Iterator[Peer]:
    """`transformers serve` on loopback with the checkpoint in `folder`, in fp32; ready, and killed at the end."""
    (folder / "processor_config.json").write_text(json.dumps(PROCESSOR | {"vision_feature_select_strategy": "default"}))
    (folder / "chat_template.jinja").write_text(TEMPLATE.read_text("utf-8"), "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32", "--log-level", "error"]
    command += ["--chat-template-kwargs", '{"embedded": true}']
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=600)
    with client, subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, **quiet) as process:
        try:
            wait_until_healthy(client, process)
            yield Peer(client, process.pid, str(folder))
        finally:
            process.kill()


def wait_until_healthy(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            break
        with suppress(httpx.TransportError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.25)
    raise SystemExit("`transformers serve` did not start; install transformers[serving].")


def ask_ours(engine: LocalEngine, session: str, messages: Sequence[Message], tokens: int) -> Asked:
    start, spent = time.perf_counter(), time.process_time()
    for _ in engine.stream(messages, Sampling(tokens, 0), session):
        pass
    return Asked(time.perf_counter() - start, time.process_time() - spent, engine.count(messages))


def measure(engine: LocalEngine, peer: Peer, rounds: int, tokens: int) -> dict[str, Any]:
    """By turn and by who was asked; `read` is what our engine's language model took in on that turn."""
    first: dict[str, list[list[Asked]]] = {name: [[] for _ in range(TURNS)] for name in (AHEAD, BUSY, PEER)}
    long: dict[str, list[Asked]] = {AHEAD: [], PEER: []}
    read = [0] * TURNS
    for number in range(rounds + 1):  # the first warms both up
        talk = Talk.begin(number)
        for turn in range(TURNS):
            messages = talk.messages()
            engine.prepare(talk.messages(""), AHEAD)
            with counters(engine._ready()) as seen:
                ahead = ask_ours(engine, AHEAD, messages, 1)
            read[turn] = seen["tokens"]
            busy, theirs = ask_ours(engine, BUSY, messages, 1), peer.ask(messages, 1)
            for name, asked in ((AHEAD, ahead), (BUSY, busy), (PEER, theirs)):
                first[name][turn] += [asked] * (number > 0)
            if turn == TURNS - 1 and number:
                long[AHEAD].append(ask_ours(engine, AHEAD, messages, tokens))
                long[PEER].append(peer.ask(messages, tokens))
            conversation = talk.conversation.with_turn(Turn(talk.question, SAID))
            talk = dataclasses.replace(talk, conversation=conversation)
        engine.forget(AHEAD)
        engine.forget(BUSY)
    whole = [[times[0].prompt_tokens for times in first[name]] for name in (AHEAD, PEER)]
    return {
        "first_token_milliseconds": in_milliseconds(first, "seconds"),
        "first_token_processor_milliseconds": in_milliseconds(first, "processor"),
        "tokens_per_second": rates(first, long, tokens, "seconds"),
        "tokens_per_processor_second": rates(first, long, tokens, "processor"),
        "read": read, "prompt_tokens": whole[0], "same_prompt": whole[0] == whole[1], "rounds": rounds,
    }  # fmt: skip


def in_milliseconds(first: dict[str, list[list[Asked]]], unit: str) -> dict[str, list[int]]:
    """Medians of one of the two times, by turn."""
    return {name: [round(1e3 * median([getattr(a, unit) for a in turn])) for turn in turns] for name, turns in first.items()}


def rates(first: dict[str, list[list[Asked]]], long: dict[str, list[Asked]], tokens: int, unit: str) -> dict[str, float]:
    """Tokens per second behind the first on the last turn: the least time of each, for another program only adds to it."""
    least = {name: [min(getattr(a, unit) for a in asked) for asked in (long[name], first[name][-1])] for name in long}
    return {name: round((tokens - 1) / (whole - begun), 1) for name, (whole, begun) in least.items()}


def verdict(found: dict[str, Any]) -> str:
    """Who is ahead, where, and why, as the processor's own seconds say."""
    times, written, said = found["first_token_processor_milliseconds"], found["tokens_per_processor_second"], []
    for name in (AHEAD, BUSY):
        shares = [round(mine / theirs, 2) for mine, theirs in zip(times[name], times[PEER], strict=True)]
        sooner = [turn for turn, share in enumerate(shares, 1) if share < 1]
        said.append(f"first token, {name}: ahead on turns {sooner or 'none'}, in {shares} of the server's time")
    why = f"we read {found['read']} tokens of {found['prompt_tokens']} and the picture once, it computes every prompt anew"
    return f"{'; '.join(said)}; {why}; writing: {round(written[AHEAD] / written[PEER], 2)} times its tokens per second."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=Path("models/hilum-tiny"), help="whose words the random model has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine_peer.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mini(folder, args.tokenizer)
        engine = LocalEngine(load_exact(folder, "mini-llava"))
        with serve(folder) as peer:
            found = measure(engine, peer, args.rounds, args.tokens)
    result = {"machine": machine.describe(), **found, "verdict": verdict(found)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
