"""What the comparison with a peer says of its numbers."""

from benchmarks.engine_peer import AHEAD, BUSY, PEER, TURNS, Asked, in_milliseconds, rates, verdict


def test_the_verdict_names_the_turns_on_which_the_engine_is_ahead() -> None:
    times = {AHEAD: [10] * TURNS, BUSY: [300, 50, 50, 100, 100, 100], PEER: [100] * TURNS}
    found = {"first_token_processor_milliseconds": times, "tokens_per_processor_second": {AHEAD: 30.0, PEER: 20.0}}
    said = verdict(found | {"read": [25] * TURNS, "prompt_tokens": [704] * TURNS})
    assert "ours: ahead on turns [1, 2, 3, 4, 5, 6]" in said and f"{BUSY}: ahead on turns [2, 3]" in said
    assert "1.5 times its tokens per second" in said


def test_a_rate_leaves_out_the_first_token_and_what_other_programs_added() -> None:
    first = {name: [[Asked(1.0, 0.5, 700), Asked(9.0, 0.5, 700)]] for name in (AHEAD, PEER)}
    long = {AHEAD: [Asked(40.0, 2.5, 700), Asked(3.0, 2.5, 700)], PEER: [Asked(11.0, 4.5, 700)]}
    assert rates(first, long, 21, "seconds") == {AHEAD: 10.0, PEER: 2.0}
    assert rates(first, long, 21, "processor") == {AHEAD: 10.0, PEER: 5.0}
    assert in_milliseconds(first, "seconds") == {AHEAD: [5000], PEER: [5000]}
