"""The proof as a whole: what counts as held, what is taken up again, and that one failure or hang does not end the rest."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, prove
from benchmarks.prove import HOLDS, PROOFS, Proof, rows_of

SILENT = "__init__"
"""A program that says nothing and ends well."""


def test_a_proof_without_a_result_or_with_a_bad_one_does_not_hold() -> None:
    door = Proof("prove_door", 1, {"routes": "only the allow-list", "network": "0 attempts"})
    rows = rows_of(door, 'chatter\n{"routes": {"answering": ["/x"]}, "network": {"not_measured": "no namespaces"}}', 0)
    assert [row["passed"] for row in rows] == [False, False] and "no namespaces" in str(rows[1])
    assert rows_of(door, '{"routes": {\n "answering": []}\n}', 0)[0]["passed"]
    assert not any(row["passed"] for row in rows_of(door, "it broke", 0))
    kept = Proof("prove_kept", 1, {"persistence": "0 bytes"})
    assert [rows_of(kept, '{"persistence": {"bytes": 0}}', code)[0]["passed"] for code in (0, 1)] == [True, False]


def test_a_network_that_nobody_watched_was_not_proven_to_be_left_alone() -> None:
    quiet = {"attempts": [], "page_requests_elsewhere": [], "exit_code": 0}
    for claim in ("network", "suite"):
        assert HOLDS[claim](quiet | {"control_seen": ["192.0.2.1:443"]}) and not HOLDS[claim](quiet | {"control_seen": []})
    assert not HOLDS["suite"](quiet | {"control_seen": ["192.0.2.1:443"], "exit_code": 1})


def test_every_claim_has_a_program_and_a_name_of_its_own() -> None:
    claims = [claim for proof in PROOFS for claim in proof.reach]
    assert len(claims) == len({*claims}) == 11
    assert all((prove.ROOT / "benchmarks" / f"{proof.name}.py").is_file() for proof in PROOFS)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`make prove` with three claims that cannot be measured, of which an earlier run has held the second."""
    commit, out = machine.describe()["commit"], tmp_path / "prove.json"
    monkeypatch.setattr(
        prove, "PROOFS", (Proof(SILENT, 1, {"a": ""}), Proof(SILENT, 1, {"b": ""}), Proof(SILENT, 0, {"c": ""}))
    )
    held = {"claim": "b", "reach": "", "measured": {"kept": 1}, "passed": True, "seconds": 60, "form": "full"}
    out.write_text(json.dumps({"machine": {"commit": commit}, "rows": [held]}))

    def run(*given: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["prove", "--out", str(out), *given])
        with pytest.raises(SystemExit) as ended:
            prove.main()
        rows = {row["claim"]: row for row in json.loads(out.read_text("utf-8"))["rows"]}
        assert ended.value.code == (0 if all(row["passed"] for row in rows.values()) else 1)
        return rows

    return run


def test_a_run_that_was_cut_off_is_taken_up_and_goes_on_past_a_failure_and_a_hang(
    run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run("--resume")
    assert {claim: row["passed"] for claim, row in rows.items()} == {"a": False, "b": True, "c": False}
    assert rows["b"]["measured"] == {"kept": 1} and "not done in 0 minutes" in str(rows["c"])
    assert "1 of 3 claims hold here" in capsys.readouterr().out


def test_a_claim_that_is_named_is_measured_again_and_the_others_are_kept(run: Callable[..., dict[str, Any]]) -> None:
    assert {claim: row["passed"] for claim, row in run("--only", "a").items()} == {"a": False, "b": True}
    assert not run("--only", "b")["b"]["passed"]


def test_another_form_or_another_commit_is_not_taken_for_this_one(run: Callable[..., dict[str, Any]]) -> None:
    assert {claim: row["form"] for claim, row in run("--resume", "--quick").items()} == dict.fromkeys("abc", "quick")
