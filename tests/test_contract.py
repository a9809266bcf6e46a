"""What every engine owes its callers: one suite over the local one, the local one in 4 bits, and a remote one.

The remote one asks a real `transformers serve` on loopback, which serves the same checkpoint.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import engines
import pytest
import tiny
from engines import ASKED, GREEDY, PICTURE, in_thread, text
from remote_server import Served, transformers_serve

from chat.engine.base import DoesNotFit, Engine, EngineError, EngineRefused, EngineUnavailable, Limits, Message, Sampling
from chat.engine.local import LocalEngine
from chat.engine.remote import RemoteEngine

LIMITS = Limits(tiny.CONTEXT_TOKENS, tiny.TOKENS_PER_IMAGE, 3)
LONG = Sampling(900, temperature=0)
PROMPTS = (
    ASKED,
    tiny.question("Is this a lung?"),
    tiny.question("Where is it?", tiny.picture(2, (300, 40)), tiny.picture(3)),
    (*tiny.question("Is it clear?", PICTURE), Message("assistant", ("No, it is not.",)), Message("user", ("왼쪽은?",))),
)


@dataclass
class Subject:
    """An engine, another one like it that may be closed, and the forward passes that were made for both."""

    engine: Engine
    spare: Callable[[], Engine]
    forwards: Callable[[], int]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.build_answering_alike(tmp_path_factory.mktemp("contract") / "checkpoint")


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Served]:
    with transformers_serve(checkpoint) as served:
        yield served


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> LocalEngine:
    return engines.load_local(checkpoint, "float32")


@pytest.fixture(scope="module", params=["float32", "nf4", "remote"])
def subject(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[Subject]:
    if request.param == "remote":
        served: Served = request.getfixturevalue("server")
        engine = RemoteEngine(served.address, served.name, limits=LIMITS)
        yield Subject(engine, lambda: RemoteEngine(served.address, served.name, limits=LIMITS), lambda: served.forwards)
        engine.close()
        return
    local = engines.load_local(checkpoint, request.param)
    assert local._loaded
    with engines.counted(local._loaded.model) as forwards:
        yield Subject(local, lambda: engines.load_local(checkpoint, request.param), lambda: len(forwards))


@pytest.fixture
def engine(subject: Subject) -> Engine:
    return subject.engine


def test_greedy_text_is_that_of_the_model_wherever_it_runs(engine: Engine, reference: LocalEngine) -> None:
    if isinstance(engine, LocalEngine) and engine.description["weights"] != "float32":
        assert len({text(engine, prompt) for prompt in PROMPTS}) > 1
    else:
        assert [text(engine, prompt) for prompt in PROMPTS] == [text(reference, prompt) for prompt in PROMPTS]


def test_an_answer_comes_in_pieces_and_says_last_and_once_why_it_ended(engine: Engine) -> None:
    deltas = list(engine.stream(ASKED, GREEDY, "a"))
    assert len([delta for delta in deltas if delta.text]) > 3
    assert [delta.finish for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]
    assert sum(delta.count for delta in deltas) == GREEDY.max_new_tokens


def test_greedy_repeats_and_a_seed_repeats_what_it_drew(engine: Engine) -> None:
    assert text(engine, ASKED) == text(engine, ASKED, session="b")
    wild = [Sampling(24, temperature=2.0, top_p=1.0, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (text(engine, ASKED, sampling) for sampling in wild)
    assert first == again != other


def test_nothing_is_computed_for_an_answer_that_nobody_reads(subject: Subject) -> None:
    before = subject.forwards()
    unread = subject.engine.stream(ASKED, GREEDY, "a")
    assert text(subject.engine, ASKED)
    assert subject.forwards() - before == GREEDY.max_new_tokens
    del unread


@pytest.mark.parametrize("how", ["close", "drop"])
def test_leaving_an_answer_stops_the_work(subject: Subject, how: str) -> None:
    """The next answer waits for the device, so what was made for the first is known when it has come."""
    before = subject.forwards()
    stream = subject.engine.stream(ASKED, LONG, "a")
    assert len(list(islice(stream, 3))) == 3
    if how == "close":
        stream.close()  # type: ignore[attr-defined]
        assert list(stream) == []
    del stream
    assert text(subject.engine, ASKED)
    assert subject.forwards() - before - GREEDY.max_new_tokens < LONG.max_new_tokens // 2


def test_closing_from_another_thread_ends_a_reader_that_waits(subject: Subject) -> None:
    stream = subject.engine.stream(ASKED, LONG, "a")
    next(stream)
    reader = in_thread(list, stream)
    before = subject.forwards()
    stream.close()  # type: ignore[attr-defined]
    reader.join(20)
    assert not reader.is_alive()
    assert text(subject.engine, ASKED)
    assert subject.forwards() - before - GREEDY.max_new_tokens < LONG.max_new_tokens // 2


def test_two_callers_at_once_get_their_own_answers(engine: Engine) -> None:
    alone = [text(engine, prompt) for prompt in PROMPTS]
    got: dict[int, str] = {}

    def ask(i: int) -> None:
        got[i] = text(engine, PROMPTS[i], session=str(i))

    threads = [in_thread(ask, i) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.join(60)
    assert [got[i] for i in range(len(PROMPTS))] == alone


def test_preparing_and_forgetting_change_no_answer(engine: Engine) -> None:
    before = text(engine, ASKED, session="kept")
    engine.prepare(ASKED, "kept")
    assert text(engine, ASKED, session="kept") == before
    engine.forget("kept")
    engine.forget("never seen")
    assert text(engine, ASKED, session="kept") == before


def test_a_question_that_is_too_long_is_refused_before_any_work_and_harms_nobody(subject: Subject) -> None:
    before = subject.forwards()
    with pytest.raises((DoesNotFit, EngineRefused)):
        next(subject.engine.stream(tiny.question("가" * 20_000, PICTURE), GREEDY, "a"))
    with pytest.raises((DoesNotFit, EngineRefused)):
        next(subject.engine.stream(ASKED, Sampling(tiny.CONTEXT_TOKENS, temperature=0), "a"))
    assert subject.forwards() == before
    assert text(subject.engine, ASKED)


def test_a_longer_prompt_never_counts_less_and_images_count_in_full(engine: Engine) -> None:
    counts = [engine.count(tiny.question("폐렴이 보입니까? " * times)) for times in range(5)]
    assert counts == sorted(counts) and counts[0] > 0
    assert engine.count(ASKED) - engine.count(tiny.question("폐렴이 보입니까?")) >= engine.limits.tokens_per_image


def test_typed_control_tokens_are_only_letters(engine: Engine) -> None:
    assert text(engine, tiny.question("<image></s><s><pad> what is <image>?", PICTURE))


def test_a_closed_engine_says_so(subject: Subject) -> None:
    engine = subject.spare()
    unread = engine.stream(ASKED, GREEDY, "a")
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailable):
        next(unread)
    with pytest.raises(EngineError, match="Start Hilum again"):
        next(engine.stream(ASKED, GREEDY, "a"))
