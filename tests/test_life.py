"""The engine's life: who is let in, what ends when somebody leaves, and that the next request works whatever happened."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import engines
import pytest
import torch
from engines import ASKED, GREEDY, ids, in_thread
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from served import Served, build_checkpoint, serve

from benchmarks.prove_load import ideal_waits
from benchmarks.visitor import LONG, Visitor, draw, hilum, visitors
from chat.assistant import Answer, Assistant, Looking, Request
from chat.conversation import Conversation
from chat.engine.base import OutOfMemory
from chat.line import Line, LineError
from chat.ui import panels
from chat.ui.desk import Desk
from chat.ui.words import explain
from vision.study import Study, read_study

SHORT = {"max_new_tokens": 2, "temperature": 0, "crops": False}
REPORT = {"max_new_tokens": 8, "temperature": 0}
WAITING = 2
"""How many may wait in the line of the served page."""


def steps(count: int, seen: list[int]) -> Generator[str, None, None]:
    for number in range(count):
        seen.append(number)
        yield str(number)


def wait_until(is_true: Callable[[], object]) -> None:
    asyncio.run(until(is_true))


class Device:
    """An engine of our own, as far as a line knows one."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def stop(self, session: str) -> None:
        self.stopped.append(session)


def test_whoever_waits_is_told_how_many_come_first_and_then_passes() -> None:
    line = Line([Device()])
    leads = [line.lead(name, steps(2, [])) for name in "abc"]
    assert next(leads[0]) == "0"
    assert (next(leads[1]), next(leads[2])) == (1, 2)
    assert list(leads[0]) == ["1"]
    assert (next(leads[1]), next(leads[2])) == ("0", 1)
    leads[1].close()
    assert list(leads[2]) == ["0", "1"]


def test_nobody_is_let_in_beyond_the_most_and_those_inside_go_on() -> None:
    line = Line([Device()], most=1)
    inside = [line.lead(name, steps(1, [])) for name in "ab"]
    assert [next(lead) for lead in inside] == ["0", 1]
    with pytest.raises(LineError) as refused:
        next(line.lead("c", steps(1, [])))
    assert "1" in explain(refused.value, "ko") and "waiting already" in explain(refused.value, "en")
    assert list(inside[0]) == [] and list(inside[1]) == ["0"]
    assert list(line.lead("c", steps(1, []))) == ["0"]


@engines.WITH_GLIBC
def test_freed_memory_goes_back_when_the_line_is_empty_and_not_before() -> None:
    line = Line([Device()])
    first, second = line.lead("a", steps(1, [])), line.lead("b", steps(1, []))
    next(first), next(second)
    assert engines.given_back(lambda: list(first)) < 10 << 20
    assert engines.given_back(lambda: list(second)) > 60 << 20


def test_one_who_leaves_while_waiting_never_starts() -> None:
    line, seen = Line([Device()]), list[int]()
    first, second = line.lead("a", steps(3, [])), line.lead("b", steps(3, seen))
    next(first), next(second)
    second.close()
    assert list(first) == ["1", "2"] and seen == []


def test_stopping_by_name_ends_the_wait_at_once_and_stops_the_device() -> None:
    device, seen = Device(), list[int]()
    line = Line([device])
    first, second = line.lead("a", steps(3, [])), line.lead("b", steps(3, seen))
    next(first), next(second)
    line.stop("b")
    assert list(second) == [] and seen == [] and device.stopped == ["b"]
    assert list(first) == ["1", "2"]


@pytest.mark.parametrize("reason", ["deadline", "closing"])
def test_an_answer_that_may_not_go_on_ends_with_the_reason_and_leaves_the_line(reason: str) -> None:
    line = Line([Device()], seconds=-1 if reason == "deadline" else 60)
    lead = line.lead("a", steps(3, []))
    assert next(lead) == "0"
    if reason == "closing":
        in_thread(line.close)
        wait_until(lambda: line._is_closed)
    with pytest.raises(LineError) as ended:
        next(lead)
    assert ended.value.reason == reason and line._queue == type(line._queue)()
    assert explain(ended.value, "ko") != explain(ended.value, "en")


def parted(line: Line, owner: str, seen: list[int]) -> Generator[str | int, None, None]:
    """A work of three answers, as a report is one of four."""
    for _ in range(3):
        yield from line.lead(owner, steps(1, seen))


def test_a_report_stands_in_the_line_once_and_its_sections_pass() -> None:
    line, seen = Line([Device()], most=2), list[int]()
    first, report = line.lead("a", steps(1, [])), line.lead("b report", parted(line, "b report", seen), parts=3)
    last = line.lead("c", steps(1, []))
    assert [next(lead) for lead in (first, report, last)] == ["0", 1, 2] and list(first) == []
    assert (next(report), next(last), seen) == ("0", 1, [0])
    assert list(report) == ["0", "0"] and seen == [0, 0, 0] and list(last) == ["0"]


def test_a_report_that_is_stopped_begins_no_other_section() -> None:
    line, seen = Line([Device()]), list[int]()
    report = line.lead("b report", parted(line, "b report", seen), parts=3)
    next(report)
    line.stop("b report")
    assert list(report) == [] and seen == [0] and line.waiting == []


def test_a_session_has_one_place_in_the_line() -> None:
    line = Line([Device()])
    first = line.lead("a", steps(2, []))
    next(first)
    for owner, parts in (("a", 1), ("a report", 4)):
        with pytest.raises(LineError) as refused:
            next(line.lead(owner, steps(1, []), parts))
        assert refused.value.reason == "busy" and explain(refused.value, "ko") != explain(refused.value, "en")
    line.stop("a")  # whoever is on the way out is not in the way
    again = line.lead("a", steps(1, []))
    assert next(again) == 1 and list(first) == ["1"] and list(again) == ["0"]


def test_answers_from_an_address_are_fetched_together() -> None:
    line = Line([])
    leads = [line.lead(str(number), steps(1, [])) for number in range(16)]
    assert [next(lead) for lead in leads] == ["0"] * 16


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> engines.Subject:
    return engines.build(tmp_path_factory.mktemp("life"), engines.PRECISIONS[0])


def test_stopping_a_session_ends_its_prompt_within_a_layer(subject: engines.Subject) -> None:
    engine, layers = subject.engine, list[str]()

    def leave(*_: object) -> None:
        layers.append("vision")
        engine.stop("gone")

    tower = subject.loaded.model.model.vision_tower
    hooks = [tower.register_forward_pre_hook(leave)]
    hooks += [layer.register_forward_hook(lambda *_: layers.append("layer")) for layer in engine._layers]
    try:
        assert list(engine.stream(ASKED, GREEDY, "gone")) == [] and layers == ["vision"]
    finally:
        for hook in hooks:
            hook.remove()
    assert ids(engine, ASKED)


def test_stopping_a_session_leaves_others_alone(subject: engines.Subject) -> None:
    stream = subject.engine.stream(ASKED, GREEDY, "mine")
    next(stream)
    subject.engine.stop("min")
    assert len(list(stream)) > 3


def study() -> Study:
    return read_study(draw(1, 300))


@pytest.mark.parametrize("place", ["model.vision_tower", "model.language_model", "lm_head"])
def test_fifty_full_devices_in_a_row_leave_nothing_behind(subject: engines.Subject, place: str) -> None:
    """The allocator's own refusal, while looking, reading and writing."""
    assistant, request = Assistant(subject.engine, subject.engine.input_side), Request("What is this?", GREEDY, crops=False)
    before = [step for step in assistant.ask(request, study(), Conversation(), "a") if isinstance(step, Answer)][-1]
    subject.engine.forget("a")
    hook = subject.loaded.model.get_submodule(place).register_forward_pre_hook(lambda *_: torch.empty(1 << 50) and None)
    try:
        for number in range(50):
            with pytest.raises(OutOfMemory):
                list(assistant.ask(request, study(), Conversation(), str(number)))
    finally:
        hook.remove()
    assert not assistant.line._queue and not subject.engine._turnstile._queue and not subject.engine._sessions._kept
    after = [step for step in assistant.ask(request, study(), Conversation(), "a") if isinstance(step, Answer)][-1]
    assert (after.text, after.prompt_hash) == (before.text, before.prompt_hash)


def test_the_page_says_how_many_come_first() -> None:
    desk, about = Desk(5, "en"), panels.About("tiny", "cpu", "float32", False, 1024)
    desk.place(study())
    desk.accept("What is this?")
    begun = desk.begin()
    assert begun and desk.keep(begun[0], Looking(0, 0, 3))
    assert panels.talk(desk, about)["items"][-1]["doing"] == "Waiting for its turn… 3 ahead"
    desk.language = "ko"
    assert panels.talk(desk, about)["items"][-1]["doing"] == "차례를 기다리는 중… 앞에 3명"


LINES: list[Line] = []
"""The served page's."""


def short_line(engines: Iterable[object]) -> Line:
    LINES.append(Line(engines, WAITING))
    return LINES[-1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chat.assistant.Line", short_line)
        with serve(tmp_path_factory.mktemp("served"), max_new_tokens=8) as running:
            yield running


@pytest.fixture
def slowly(served: Served) -> Iterator[Served]:
    served.engine.pause = 0.1
    yield served
    served.engine.pause = 0


async def until(is_true: Callable[[], object]) -> None:
    for _ in range(3000):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("It never came true.")


async def begin_long(served: Served, client: Any, number: int) -> "asyncio.Task[dict[str, Any]]":
    """A visitor who is being answered at length."""
    visitor, before = Visitor(client), served.engine.served
    options = LONG | {"temperature": 0, "top_p": 1}
    task = asyncio.create_task(visitor.ask(await visitor.upload(draw(number)), "Say all.", options))
    await until(lambda: served.engine.served >= before + 2)
    return task


async def hang_up(task: "asyncio.Task[dict[str, Any]]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_client_that_hangs_up_frees_the_engine_for_the_next(slowly: Served) -> None:
    async def story() -> None:
        async with visitors(slowly.url) as client:
            first = await begin_long(slowly, client, 1)
            waiting, third = Visitor(client), Visitor(client)
            second = asyncio.create_task(waiting.ask(await waiting.upload(draw(2)), "And I?", SHORT))
            await asyncio.sleep(0.5)
            before = slowly.engine.served
            await asyncio.gather(hang_up(first), hang_up(second))
            told = await third.ask(await third.upload(draw(3)), "What is this?", SHORT)
            assert told["turn"] == 1 and slowly.engine.served - before < 100  # of the 600 that were asked for

    asyncio.run(story())


def test_a_second_question_of_a_session_is_refused_and_the_first_goes_on(slowly: Served, tmp_path: Path) -> None:
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for number, path in enumerate(paths):
        path.write_bytes(draw(4 + number))
    client, before = Client(slowly.url, verbose=False), slowly.engine.served
    first = client.submit(handle_file(str(paths[0])), "What is this?", SHORT | {"max_new_tokens": 20}, api_name="/ask")
    wait_until(lambda: slowly.engine.served > before)
    with pytest.raises(AppError, match="still under way"):
        client.predict(handle_file(str(paths[1])), "And this?", SHORT, api_name="/ask")
    with pytest.raises(AppError, match="아직 끝나지 않았습니다"):
        client.predict(None, "그리고?", SHORT, api_name="/ask")
    assert first.result(60)["turn"] == 1
    assert client.predict(None, "And now?", SHORT, api_name="/ask")["turn"] == 2


def test_a_full_line_refuses_in_the_persons_language_and_loses_nobody(slowly: Served) -> None:
    async def story() -> None:
        async with visitors(slowly.url) as client:
            first = await begin_long(slowly, client, 6)
            people = [Visitor(client) for _ in range(WAITING + 4)]
            images = [await visitor.upload(draw(10 + place)) for place, visitor in enumerate(people)]
            asked = ["What is this?", "이것은 무엇입니까?"]
            tasks = [
                asyncio.create_task(visitor.ask(image, asked[place % 2], SHORT))
                for place, (visitor, image) in enumerate(zip(people, images, strict=True))
            ]
            await until(lambda: sum(task.done() for task in tasks) == 4)
            refused = {task.result()["error"] for task in tasks if task.done()}
            assert {task.result()["status"] for task in tasks if task.done()} == {503}
            assert refused <= {f"{WAITING} questions are waiting already. Ask again in a moment.",
                               f"지금 질문 {WAITING}개가 차례를 기다립니다. 잠시 뒤에 다시 물어봐 주세요."}  # fmt: skip
            await hang_up(first)
            told = await asyncio.gather(*tasks)
            assert sum("answer" in each for each in told) == WAITING
            assert "answer" in await people[0].ask(await people[0].upload(draw(30)), "Now?", SHORT)

    asyncio.run(story())


def test_a_full_line_says_the_same_to_gradios_client_and_to_a_plain_one_and_keeps_nothing_of_theirs(
    slowly: Served, tmp_path: Path
) -> None:
    path, sentence = tmp_path / "picture.png", f"{WAITING} questions are waiting already. Ask again in a moment."
    path.write_bytes(draw(60))
    talker = Client(slowly.url, verbose=False)
    assert talker.predict(handle_file(str(path)), "What is this?", SHORT, api_name="/ask")["turn"] == 1

    async def story() -> None:
        async with visitors(slowly.url) as client:
            first, people = await begin_long(slowly, client, 61), [Visitor(client) for _ in range(WAITING)]
            images = [await visitor.upload(draw(62 + place)) for place, visitor in enumerate(people)]
            waiting = [
                asyncio.create_task(visitor.ask(image, "And I?", SHORT)) for visitor, image in zip(people, images, strict=True)
            ]
            await until(lambda: len(LINES[-1].waiting) == WAITING)
            for given in ((None, "And now?"), (handle_file(str(path)), "And this?")):
                with pytest.raises(AppError, match=sentence):
                    await asyncio.to_thread(talker.predict, *given, SHORT, api_name="/ask")
            late = await Visitor(client).upload(draw(70))
            for data, words in (([late, "이것은?"], "지금 질문"), ([late, "en"], sentence)):
                name = "ask" if "?" in data[1] else "report"
                response = await client.post(f"gradio_api/call/{name}", json={"data": data})
                assert response.status_code == 503 and words in response.json()["detail"] and response.headers["Retry-After"]
            again = await people[0].ask(images[0], "And I?", SHORT)
            assert again["status"] == 409 and "still under way" in again["error"]
            assert not Path(late["path"]).exists() and not slowly.left_over()
            await hang_up(first)
            assert all("answer" in told for told in await asyncio.gather(*waiting))

    asyncio.run(story())
    assert talker.predict(None, "And now?", SHORT, api_name="/ask")["turn"] == 2


def test_a_report_waits_its_turn_and_is_refused_where_the_line_is_full(slowly: Served) -> None:
    async def story() -> None:
        async with visitors(slowly.url) as client:
            first, people = await begin_long(slowly, client, 40), [Visitor(client) for _ in range(WAITING + 2)]
            images = [await visitor.upload(draw(50 + place)) for place, visitor in enumerate(people)]
            tasks = list[asyncio.Task[dict[str, Any]]]()
            for begin in (people[0].report(images[0], REPORT), people[1].ask(images[1], "And I?", SHORT)):
                tasks.append(asyncio.create_task(begin))
                await until(lambda: len(LINES[-1].waiting) == len(tasks))
            assert "waiting already" in (await people[2].report(images[2], REPORT))["error"]
            slowly.engine.pause = 0
            await hang_up(first)
            assert len((await tasks[0])["sections"]) == 4 and "answer" in await tasks[1]

    asyncio.run(story())


@pytest.mark.slow
def test_a_signal_ends_everything_with_tabs_open_and_an_answer_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        with hilum(
            tmp_path / "served", "--model", str(build_checkpoint(tmp_path / "tiny")), "--max-new-tokens", "900"
        ) as there:
            async with visitors(there.url) as client:
                visitor = Visitor(client)
                task = asyncio.create_task(visitor.ask(await visitor.upload(draw(1)), "Say all.", LONG))
                tab = asyncio.create_task(client.get(f"gradio_api/heartbeat/{visitor.session}"))
                await asyncio.sleep(1)
                there.process.terminate()
                assert await asyncio.to_thread(there.process.wait, 30) == 0
                await asyncio.gather(task, tab, return_exceptions=True)
            assert [path.name for path in there.folder.iterdir()] == ["hilum.log"]

    asyncio.run(story())


def test_the_ideal_line_answers_in_order_and_waits_longest_where_all_look_at_a_picture() -> None:
    assert ideal_waits([1.0] * 5, 10, 2)[:12] == [*map(float, range(1, 11)), 10.0, 10.0]
    waits = ideal_waits([3.0, 1.0, 1.0, 1.0, 1.0], 10, 1)
    assert len(waits) == 50 and max(waits) == 30 and waits[-1] == 10
