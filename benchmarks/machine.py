"""The machine a number was measured on, and the code it was measured with."""

import os
import platform
import subprocess

import torch
import transformers

from chat.verify import processor


def describe() -> dict[str, str | int]:
    """Processor, cores, device, library versions and commit, for the head of every result."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "processor": processor(), "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), "device": device,
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "commit": commit or "unknown",
    }  # fmt: skip
