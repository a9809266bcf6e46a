"""Devices: what they are called, the precision they compute in, how much of their memory is free, and what fits into it.

Knows bytes. Does not know models, sessions or files.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from chat.engine.base import EngineUnavailable

CGROUP = Path("/sys/fs/cgroup")
HEADROOM = 1.15
"""What a 7B takes in memory while it answers, over its weights."""


def resolve_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type not in ("cpu", "cuda"):
        raise EngineUnavailable(f"Hilum runs on cpu and cuda, not on {device}.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineUnavailable("No CUDA device is visible here; use --device cpu, or start the container with --gpus=all.")
    return device


def resolve_dtype(device: str, four_bit: bool) -> torch.dtype:
    """bf16 where it is native (and always around 4-bit on a CPU), else fp16 on a GPU and fp32 on a CPU."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if four_bit or can.get("avx512_bf16") or can.get("amx_bf16") else torch.float32


def free_bytes(device: str = "cpu") -> int:
    """What this process may still take: on a GPU also what torch holds unused, on a computer within a container's limit."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = all_bytes()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError, StopIteration):  # ValueError: the limit is "max"
        limit, used = (int((CGROUP / f"memory.{name}").read_text("ascii")) for name in ("max", "current"))
        lines = (CGROUP / "memory.stat").read_text("ascii").splitlines()
        files = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        free = min(free, limit - used + files)
    return max(0, free)


def all_bytes() -> int:
    """This computer's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def room_for_sessions(device: str) -> int:
    """Bytes for sessions that wait: half of what a GPU has free, an eighth of a computer's memory."""
    return free_bytes(device) // 2 if device.startswith("cuda") else all_bytes() // 8


@dataclass(frozen=True)
class Fit:
    """Bytes that unquantised weights need to answer on a CPU (32-bit where the processor knows no bf16), and that are free."""

    needed: int
    free: int

    @property
    def four_bit(self) -> bool:
        return self.needed > self.free

    @property
    def meaning(self) -> str:
        """As a 7B on two cores does: unquantised it reads a prompt 7 times as fast, in 4 bits it writes twice as fast."""
        first, further, other = ("later", "sooner", "unquantised") if self.four_bit else ("sooner", "later", "in 4 bits")
        return (
            f"{self.needed / 1e9:.1f} GB unquantised, {self.free / 1e9:.1f} GB free; "
            f"the first word comes {first} than {other}, each further one {further}"
        )
