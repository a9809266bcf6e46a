"""The proof: every claim about privacy and sturdiness, measured by its own program, as one table.

    python -m benchmarks.prove [--resume] [--only CLAIM ...] [--quick | --soak] [--out FILE]

Measures one claim after another, each in a process of its own (an hour on two quiet cores in all), goes on where one fails, and
ends with a table of what was reached beside what was to be reached. What is known stands in FILE after every claim. `--resume`
takes up a run of the same commit and form that was cut off; `--only` measures those again and keeps the rest. `--soak` lets
those run long that can. `--quick` only shows that every program works here: 3 ends of 42 and no browser, 10 sessions for one
round, 2 who hang up, 6 faults, 6 films, 300 mutations, two files of tests. Ends with 1 when a claim fails or was not measured.
"""

import argparse
import json
import os
import signal
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
    """A program `benchmarks.<name>` that prints one JSON object last, and is ended after so many minutes.

    `reach` says what each of its claims is to reach. An object with `rows` judges itself; else each key is a claim, which
    `HOLDS` judges, or the exit code where it says nothing. `given`, `quick` and `soak` are arguments of its forms.
    """

    name: str
    minutes: int
    reach: dict[str, str]
    given: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    soak: tuple[str, ...] = ()


def _load(claim: str, minutes: int, quick: tuple[str, ...] = (), soak: tuple[str, ...] = ()) -> Proof:
    return Proof("prove_load", minutes, {claim: ""}, ("--only", claim), quick, soak)


def _door(claim: str, minutes: int, reach: str, quick: tuple[str, ...] = ()) -> Proof:
    return Proof("prove_door", minutes, {claim: reach}, ("--only", claim), quick)


PROOFS = (
    _door("routes", 5, "only the allow-list"),
    _door("cross_origin", 5, "0 through"),
    _door("network", 10, "0 attempts"),
    _load("disconnect", 5, ("--leavers", "2")),
    _load("back-pressure", 5),
    Proof("prove_faults", 15, {"faults": ""}, quick=("--only", "truncated", "endpoint", "SIGHUP", "slow upload")),
    _load("isolation", 20, ("--sessions", "10", "--rounds", "1"), ("--rounds", "20")),
    Proof("prove_kept", 20, {"persistence": "0 bytes in 42 of 42"}, ("--at-once", "2"), ("--quick",)),
    Proof("prove_stamped", 15, {"words in pixels": ""}, quick=("--count", "6")),
    Proof("prove_decode", 20, {"bad_inputs": "0 deaths, none > 10 s, RSS unchanged, all worded"},
          quick=("--mutations", "300"), soak=("--mutations", "100000")),
    _door("suite", 40, "0 attempts, every test passes", ("--tests", "tests/test_life.py", "tests/test_proof.py")),
)  # fmt: skip
"""The quickest first, and the tests last."""

LONGER = 6
"""How much more time a soak may take."""

HOLDS: dict[str, Callable[[Found], bool]] = {
    "cross_origin": lambda found: (
        not found["through"] and not found["ours_refused"] and found["rebound_in_browser"] not in range(400)
    ),
    "routes": lambda found: not found["answering"],
    "network": lambda found: (
        found.get("attempts") == [] and found.get("page_requests_elsewhere") == [] and bool(found.get("control_seen"))
    ),
    "suite": lambda found: found.get("attempts") == [] and found.get("exit_code") == 0 and bool(found.get("control_seen")),
}


def last_object(text: str) -> Found:
    """The JSON object that ends a program's output, on one line or on many. Raises ValueError where there is none."""
    lines = text.rstrip().splitlines()
    for start in range(len(lines) - 1, -1, -1):
        if lines[start].startswith("{"):
            return dict(json.loads("\n".join(lines[start:])))
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


def run(proof: Proof, form: str) -> list[Found]:
    """Run one proof in one of its forms; what it says on the way goes to stderr, and whatever it started ends with it."""
    more = {"quick": proof.quick, "soak": proof.soak}.get(form, ())
    command = [sys.executable, "-m", f"benchmarks.{proof.name}", "--json", *proof.given, *more]
    seconds, started = 60 * proof.minutes * (LONGER if form == "soak" else 1), time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            rows = rows_of(proof, process.communicate(timeout=seconds)[0], process.returncode)
        except subprocess.TimeoutExpired:
            why = f"not done in {seconds // 60} minutes"
            rows = [_unmeasured(claim, reach, why) for claim, reach in proof.reach.items()]
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return [row | {"seconds": round(time.monotonic() - started, 1), "form": form} for row in rows]


def shown(row: Found) -> str:
    """One claim as lines that fit a terminal."""
    mark = "holds" if row["passed"] else "DOES NOT HOLD"
    measured = ", ".join(f"{name} {value}" for name, value in row["measured"].items() if value not in ([], {}))
    return f"{row['claim']:16}{mark:14}{row['seconds']:8.0f} s   reach: {row['reach']}\n{'':16}{measured}"


def kept_rows(out: Path, commit: object, form: str) -> dict[str, Found]:
    """By claim what an earlier run of the same commit and form has left."""
    try:
        found = json.loads(out.read_text("utf-8"))
        return {row["claim"]: row for row in found["rows"] if found["machine"]["commit"] == commit and row["form"] == form}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="CLAIM", help="parts of claims' or programs' names")
    parser.add_argument("--resume", action="store_true", help="keep what FILE holds of the same commit and form")
    parser.add_argument("--quick", dest="form", action="store_const", const="quick", default="full", help="minutes; no proof")
    parser.add_argument("--soak", dest="form", action="store_const", const="soak", help="10,000 requests, 100,000 mutations")
    parser.add_argument("--out", type=Path, metavar="FILE", help="by default benchmarks/results/prove.json")
    args = parser.parse_args()
    described, name = machine.describe(), "prove.json" if args.form == "full" else f"prove-{args.form}.json"
    out: Path = args.out or Path("benchmarks/results", name)
    rows = kept_rows(out, described["commit"], args.form) if args.resume or args.only else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for proof in PROOFS:
        names = [proof.name, *proof.reach]
        if any(word in name for word in args.only for name in names) if args.only else not {*proof.reach} <= {*rows}:
            print(f"measuring: {', '.join(proof.reach)}", file=sys.stderr, flush=True)
            rows |= {row["claim"]: row for row in run(proof, args.form)}
            out.write_text(json.dumps({"machine": described, "rows": [*rows.values()]}, indent=1) + "\n", "utf-8")
    print("\n".join(map(shown, rows.values())))
    held, seconds = sum(row["passed"] for row in rows.values()), sum(row["seconds"] for row in rows.values())
    print(f"{held} of {len(rows)} claims hold here, {args.form} form, {seconds / 60:.0f} minutes; {out} has it all.")
    raise SystemExit(0 if rows and held == len(rows) else 1)


if __name__ == "__main__":
    main()
