"""The usher: what there is no room for in the line is refused before Gradio parses it, gives it a session or queues it.

Knows Gradio's queue and which of the API's functions wait in the line. Does not know the line's order, or what is asked. The
page needs none of this: it asks the line itself before it accepts a question. Stands behind `owners.py`, which reads the body.
"""

import asyncio
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.line import Line, LineError, busy
from chat.ui.api import Api
from chat.ui.owners import language_in
from chat.ui.upload import drop
from chat.ui.words import explain
from chat.wording import Language, language_of

CALL, JOIN = "/gradio_api/call/", "/gradio_api/queue/join"
"""How a plain client begins, and how `gradio_client` does."""

RETRY_SECONDS = 5


class Usher:
    """Lets in one after another, so that whoever is refused does not wait behind all who were let in just before."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turn = asyncio.Lock()
        self._entering: dict[object, set[str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said: Any = scope.get("state", {}).pop("said", None)
        called = _called(scope, said)
        if called is None:
            await self.app(scope, receive, send)
            return
        queue: Queue = scope["app"].get_blocks()._queue
        under_way, entering = _under_way(queue, called[1]), object()
        try:
            self._look_for_room(queue, under_way, called[0], said.get("session_hash"))
        except LineError as error:
            used = [_files(each.data.data) for each in under_way if each.data]  # the same request may have been sent twice
            for path in _files(said.get("data")).difference(*used, *self._entering.values()):
                drop(path)
            await _refuse(error, queue, scope, said)(scope, receive, send)
            return

        async def enter(message: Message) -> None:
            self._entering.pop(entering, None)  # from here on it stands in Gradio's queue
            await send(message)

        self._entering[entering] = _files(said.get("data"))
        try:
            async with self._turn:
                await self.app(scope, receive, enter)
        finally:
            self._entering.pop(entering, None)

    def _look_for_room(self, queue: Queue, under_way: list[Event], line: Line, session: object) -> None:
        """Raises LineError, also for a session that is not done: two streams of a session take each other's answers."""
        unheard = queue.pending_event_ids_session.get(session, ()) if isinstance(session, str) else ()
        if any(each._id in unheard for each in under_way):
            raise busy()
        line.check(coming=len(under_way) + len(self._entering))


def _called(scope: Scope, said: object) -> tuple[Line, BlockFunction] | None:
    """The function that a request begins and the line it waits in; None for one that waits in no line."""
    if scope["type"] != "http" or scope["method"] != "POST" or not isinstance(said, dict):
        return None
    for number, function in scope["app"].get_blocks().fns.items():
        is_called = scope["path"] == f"{CALL}{function.api_name}"
        is_joined = scope["path"] == JOIN and said.get("fn_index") == number
        if (is_called or is_joined) and getattr(function.fn, "__func__", None) in (Api.ask, Api.report):
            return function.fn.__self__.assistant.line, function
    return None


def _under_way(queue: Queue, function: BlockFunction) -> list[Event]:
    """Whatever waits in the line, the page's questions too, or is on its way there."""
    waiting = queue.event_queue_per_concurrency_id.get(function.concurrency_id)
    events = [event for job in (waiting and waiting.queue, *queue.active_jobs) for event in job or ()]
    return [event for event in events if event.concurrency_id == function.concurrency_id]


def _files(data: object) -> set[str]:
    given = data if isinstance(data, list) else []
    return {each["path"] for each in given if isinstance(each, dict) and isinstance(each.get("path"), str)}


def _refuse(error: LineError, queue: Queue, scope: Scope, said: dict[str, Any]) -> JSONResponse:
    """One sentence, in `detail` of a 503 or 409; `gradio_client` has words of its own for these, and hears it as an event."""
    sentence, session = explain(error, _spoken(scope, said.get("data"))), said.get("session_hash")
    if scope["path"] != JOIN or not isinstance(session, str):
        status = 409 if error.reason == "busy" else 503
        return JSONResponse({"detail": sentence}, status, {"Retry-After": str(RETRY_SECONDS)})
    told = ProcessCompletedMessage(output=error_payload(gr.Error(sentence), True), success=False, event_id=uuid4().hex)
    queue.pending_event_ids_session.setdefault(session, set()).add(str(told.event_id))
    if session not in queue.pending_messages_per_session:
        queue.pending_messages_per_session[session] = asyncio.Queue()
    queue.pending_messages_per_session[session].put_nowait(told)
    return JSONResponse({"event_id": told.event_id})


def _spoken(scope: Scope, data: object) -> Language:
    """As the client says, as a report is asked for, or as the question is written."""
    words = next((each for each in data if isinstance(each, str)), "") if isinstance(data, list) else ""
    return "ko" if "ko" in (words, language_in(scope), language_of(words)) else "en"
