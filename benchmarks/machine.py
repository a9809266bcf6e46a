"""The machine a number was measured on, and the code it was measured with."""

import os
import platform
import subprocess
from pathlib import Path

import torch
import transformers


def describe() -> dict[str, str | int]:
    """Processor, cores, device, library versions and commit, for the head of every result."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "processor": model, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), "device": device,
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "commit": commit or "unknown",
    }  # fmt: skip


def _cpu_lines() -> list[str]:
    info = Path("/proc/cpuinfo")
    return info.read_text().splitlines() if info.exists() else []
