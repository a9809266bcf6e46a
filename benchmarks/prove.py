"""The proof: every claim about privacy and sturdiness, measured by its own program, as one table.

    python -m benchmarks.prove [--only WORD ...] [--soak] [--out FILE]

Runs the proofs one after another, each in a process of its own (meant for an hour on two quiet cores), and prints what was
reached beside what was to be reached. `--soak` lets those run long that can. Ends with 1 when a claim fails, or could not
be measured here.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine

ROOT = Path(__file__).parents[1]
Found = dict[str, Any]


@dataclass(frozen=True)
class Proof:
    """A program `benchmarks.<name>` that prints one JSON object last; `reach` says what each of its claims is to reach.

    An object with `rows` judges itself; else each key is a claim, which `holds` judges, or the exit code where it says nothing.
    """

    name: str
    minutes: int
    reach: dict[str, str]
    soak: tuple[str, ...] = ()


PROOFS = (
    Proof("prove_kept", 20, {"persistence": "0 bytes in 42 of 42"}),
    Proof("prove_load", 30, {"isolation": "", "back-pressure": "", "disconnect": ""}, ("--soak",)),
    Proof("prove_decode", 20, {"bad_inputs": "0 deaths, none > 10 s, RSS unchanged, all worded"}, ("--mutations", "100000")),
    Proof("prove_faults", 15, {"faults": ""}),
    Proof("prove_stamped", 20, {"words in pixels": ""}),
    Proof("prove_door", 15, {"cross_origin": "0 through", "routes": "only the allow-list", "network": "0 attempts"}),
)
LONGER = 6
"""How much more time a soak may take."""

HOLDS: dict[str, Callable[[Found], bool]] = {
    "cross_origin": lambda found: not any(found["through"].values()) and not found["ours_refused"],
    "routes": lambda found: not found["answering"],
    "network": lambda found: found.get("attempts") == [] and not found.get("page_requests_elsewhere"),
}


def last_object(text: str) -> Found:
    """The JSON object that ends a program's output, on one line or on many. Raises ValueError where there is none."""
    lines = text.rstrip().splitlines()
    for start in range(len(lines) - 1, -1, -1):
        if lines[start].startswith("{"):
            found = json.loads("\n".join(lines[start:]))
            return dict(found)
    raise ValueError("no JSON object in the output")


def rows_of(proof: Proof, text: str, code: int) -> list[Found]:
    """What a proof found, a row per claim."""
    try:
        found = last_object(text)
    except ValueError:
        return [_unmeasured(claim, reach, f"ended with {code} and no result") for claim, reach in proof.reach.items()]
    if "rows" in found:
        return list(found["rows"])
    rows = []
    for claim, reach in proof.reach.items():
        measured = found.get(claim)
        if not isinstance(measured, dict) or "not_measured" in measured:
            rows.append(_unmeasured(claim, reach, str((measured or {}).get("not_measured", "not measured"))))
        else:
            passed = HOLDS[claim](measured) if claim in HOLDS else code == 0
            rows.append({"claim": claim, "reach": reach, "measured": measured, "passed": passed})
    return rows


def _unmeasured(claim: str, reach: str, why: str) -> Found:
    return {"claim": claim, "reach": reach, "measured": {"not_measured": why}, "passed": False}


def run(proof: Proof, is_soak: bool) -> list[Found]:
    """Run one proof; what it says on the way goes to stderr."""
    if not (ROOT / "benchmarks" / f"{proof.name}.py").exists():
        return [_unmeasured(claim, reach, "not there yet") for claim, reach in proof.reach.items()]
    command = [sys.executable, "-m", f"benchmarks.{proof.name}", "--json", *(proof.soak if is_soak else ())]
    seconds = 60 * proof.minutes * (LONGER if is_soak else 1)
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return [_unmeasured(claim, reach, f"not done in {seconds // 60} minutes") for claim, reach in proof.reach.items()]
    return rows_of(proof, done.stdout, done.returncode)


def shown(row: Found) -> str:
    """One claim as lines that fit a terminal."""
    mark = "holds" if row["passed"] else "DOES NOT HOLD"
    measured = ", ".join(f"{name} {value}" for name, value in row["measured"].items() if value not in ([], {}))
    return f"{row['claim']:14} {mark:14} reach: {row['reach']}\n{'':14} {measured}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="parts of the proofs' names: kept, load …")
    parser.add_argument("--soak", action="store_true", help="the long forms: 10,000 requests, 100,000 mutations")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prove.json"))
    args = parser.parse_args()
    rows: list[Found] = []
    for proof in PROOFS:
        if any(word in proof.name for word in args.only):
            started = time.monotonic()
            for row in run(proof, args.soak):
                rows.append(row | {"minutes": round((time.monotonic() - started) / 60, 1)})
                print(shown(row), flush=True)
    result = {"machine": machine.describe(), "rows": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    held = sum(row["passed"] for row in rows)
    print(f"{held} of {len(rows)} claims hold here; {args.out} has the figures and the machine.")
    raise SystemExit(0 if rows and held == len(rows) else 1)


if __name__ == "__main__":
    main()
