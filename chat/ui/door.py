"""The door of the page: what every response says, and which of Gradio's ways in are closed.

Knows HTTP. Does not know sessions, images or models.
"""

import json

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.ui.upload import expect

CLOSED = ("/gradio_api/deep_link", "/gradio_api/runs", "/monitoring", "/gradio_api/mcp")
"""They write a conversation to the disk, or show one to others."""

LASTING = ("/assets/", "/static/")
"""Gradio's own code, which holds nothing of anybody."""


UPLOADS = "/gradio_api/upload"


class Door:
    """Nothing that a person sent or got is kept by a browser, and nothing is handed out by Gradio's side doors."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path.startswith(LASTING):
            await self.app(scope, receive, send)
            return
        if path.startswith(CLOSED):
            await PlainTextResponse("This is closed in Hilum.", status_code=404)(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Cache-Control"] = "no-store"
            elif path == UPLOADS and message.get("body", b"")[:1] == b"[":
                expect(json.loads(message["body"]))
            await send(message)

        await self.app(scope, receive, watch)
