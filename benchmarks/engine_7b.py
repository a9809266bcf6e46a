"""The engine's numbers on a 7B in 4 bits, with random weights of its size: for a GPU of 8 GB, or a patient processor.

    python -m benchmarks.engine_7b [--gib 8] [--rounds 2] [--layers 32 --hidden 4096] [--scratch FOLDER] [--json]

Writes 14 GB, which are given back, quantises them on the way into memory, and lets a GPU use no more than `--gib`.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.engine import measure
from benchmarks.engine_state import peak
from benchmarks.smoke_7b import write_model
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=8.0, help="memory that a GPU may use")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096, help="a multiple of 128")
    parser.add_argument("--scratch", type=Path, default=Path("weights"), help="where the weights lie meanwhile")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine_7b.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    if torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.gib * 2**30 / whole))
    args.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="engine-7b-", dir=args.scratch))
    try:
        write_model(folder, args.layers, args.hidden)
        loaded = load(folder, "auto", True)
    finally:
        shutil.rmtree(folder)
    engine = LocalEngine(loaded)
    engine.warm_up()
    found = measure(engine, loaded, args.rounds, args.rounds, 10)
    result = {"machine": machine.describe(), "layers": args.layers, "hidden": args.hidden, "cap_gib": args.gib, **found}
    result["peak_gib"] = round(peak() / 2**30, 2)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found | {"peak_gib": {"ratio": result["peak_gib"]}}) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
