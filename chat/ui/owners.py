"""Owners: whose a session and an upload is. Another browser is not let near either, even if it knows their names.

Knows HTTP, cookies, and where Gradio's requests name a session. Does not know what a session holds. Stands inside the door
(`door.py`), which asks for the password, bounds what is no upload, and closes the routes that are not named here.

A session's name is made by the client and stands in addresses, so it proves nothing. A browser gets a secret of its own in a
cookie; what it begins is its own. Its digest is the name of its folder in the vault. Clients that keep no cookies share one
nameless owner, and are kept apart by names of 128 random bits. Lax, not Strict: a link from another page would arrive
without the cookie, be given a new one, and so take the open tabs of the same browser away from their owner.
"""

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from secrets import token_urlsafe
from urllib.parse import parse_qs

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.ui.kept_words import say
from chat.ui.upload import MOST_MEGABYTES, Intake, Refused, discard, folder
from chat.wording import Language

UPLOADS, LOGIN = "/gradio_api/upload", "/login"
HEARTBEAT = "/gradio_api/heartbeat/"
DOORSTEP = ("/", "/config")
"""What a browser, and `gradio_client`, fetch first: there a cookie is handed out, and nowhere else."""

SECRET = re.compile(r"[\w-]{43}")
SESSION = re.compile(r"[\w.-]{1,128}", re.ASCII)
MOST_SESSIONS = 4096
"""Sessions whose owner is remembered; Gradio keeps far fewer (`page.SESSIONS`)."""

SECONDS_KEPT = 3600
"""An upload that nobody has asked about by then is removed; a question may wait in line for long."""


def owner_of(secret: str) -> str:
    """The name of an owner's folder, from which the secret cannot be found."""
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


NOBODY = owner_of("")


def owner_in(request: gr.Request) -> str:
    """Whose request an event came with."""
    return str(getattr(request.state, "owner", NOBODY))


class Owners:
    """Answers uploads itself, and lets through what names no session and no file of somebody else's."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._sessions: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, is_post = scope["path"], scope["method"] == "POST"
        name = f"hilum_{(scope.get('server') or ('', 0))[1]}"  # cookies do not tell ports apart
        given = HTTPConnection(scope).cookies.get(name, "")
        secret = given if SECRET.fullmatch(given) else ""
        owner = owner_of(secret)
        scope.setdefault("state", {})["owner"] = owner
        if is_post and path == UPLOADS:
            await _take_in(scope, receive, send, owner)
            return
        try:
            body = await Request(scope, receive).body() if is_post else b""
        except ClientDisconnect:
            return
        said = scope["state"]["said"] = _parsed(body)  # for who stands behind
        trouble = self._trouble(owner, scope, body, said)
        if trouble:
            status = 403 if trouble == "not_yours" else 400
            await JSONResponse({"detail": say(trouble, language_in(scope))}, status)(scope, receive, send)
            return

        async def greet(message: Message) -> None:
            if message["type"] == "http.response.start" and not secret and path in DOORSTEP:
                MutableHeaders(scope=message).append("set-cookie", _cookie(name, scope["scheme"] == "https"))
            await send(message)

        await self.app(scope, _again(body, receive) if is_post else receive, greet)

    def _trouble(self, owner: str, scope: Scope, body: bytes, said: object) -> str | None:
        """The key of a refusal where not all that a request names is its owner's; a session that is new becomes theirs.

        What is no JSON may name anything: Gradio would read a form with files, and write these to a disk.
        """
        if body and said is None and scope["path"] != LOGIN:
            return "no_json"
        session: object = _session(scope)
        if isinstance(said, dict):
            session = said.get("session_hash", session)
        if isinstance(session, str):
            if not SESSION.fullmatch(session) or self._sessions.setdefault(session, owner) != owner:
                return "not_yours"
            self._sessions.move_to_end(session)
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        try:
            text, below = json.dumps(said), json.dumps(f"{folder()}/")[1:-1]
        except RecursionError:
            return "no_json"
        if not all(re.fullmatch(f"{owner}/[0-9a-f]{{32}}", found) for found in re.findall(f'{re.escape(below)}([^"]*)', text)):
            return "not_yours"
        named = re.findall(r'"path": "([^"]*)', text)
        return None if all(path.startswith((below, "http://", "https://")) for path in named) else "not_sent"


async def _take_in(scope: Scope, receive: Receive, send: Send, owner: str) -> None:
    """An upload, into the vault."""
    pieces = Request(scope, receive).stream()
    response: Response
    try:
        try:
            with Intake(Headers(scope=scope).get("content-type", ""), owner) as intake:
                async for piece in pieces:
                    intake.feed(piece)
                files = intake.finish()
            for file in files:
                asyncio.get_running_loop().call_later(SECONDS_KEPT, discard, file)
            response = JSONResponse([str(file) for file in files])
        except Refused as refused:
            async for _ in pieces:  # a browser does not hear why before it has sent everything
                pass
            words = say(refused.key, language_in(scope), limit=f"{MOST_MEGABYTES:,} MB")
            response = PlainTextResponse(words, refused.status)
    except ClientDisconnect:
        return
    await response(scope, receive, send)


def _session(scope: Scope) -> str | None:
    """The session that an address names."""
    if scope["path"].startswith(HEARTBEAT):
        return str(scope["path"]).removeprefix(HEARTBEAT).strip("/")
    named = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash")
    return named[-1] if named else None


def _parsed(body: bytes) -> object:
    """What a body says, as JSON; None for another kind, in which Gradio takes no names."""
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None


def _again(body: bytes, receive: Receive) -> Receive:
    """What has been read, for the next reader; then whatever comes."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return read.pop() if read else await receive()

    return next_message


def _cookie(name: str, is_encrypted: bool) -> str:
    """Gone when the browser ends, and out of reach of scripts."""
    return f"{name}={token_urlsafe(32)}; HttpOnly; SameSite=Lax; Path=/{'; Secure' if is_encrypted else ''}"


def language_in(scope: Scope) -> Language:
    return "ko" if Headers(scope=scope).get("accept-language", "").lower().startswith("ko") else "en"
