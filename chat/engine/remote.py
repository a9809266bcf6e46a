"""The remote engine: a model behind any OpenAI-compatible address (vLLM, transformers serve, Ollama, llama.cpp, hosted).

Knows HTTP through the `openai` client, and what servers say when they say no. Does not know pages, settings or wording.
Nothing is written to a disk, and no address is called but the one that was given: redirects are not followed.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Literal, TypeVar

import openai
from httpx2 import AsyncByteStream

from chat.engine.address import Address
from chat.engine.base import Delta, DoesNotFit, EngineError, EngineRefused, EngineUnavailable, Limits, Message, Sampling
from chat.engine.flow import Flow, Put
from chat.engine.refusals import Reply, broke_off, explain, not_openai, quote, unreachable
from chat.engine.wire import context_of, estimate, read_chunk, to_wire

log = logging.getLogger(__name__)

LLAVA_1_5 = Limits(context_tokens=4096, tokens_per_image=576, max_images=1)
"""What is assumed where neither the person nor the server says more."""

INPUT_SIDE = 336
"""Pixels a side of LLaVA-1.5's image input: from here on close-ups show more than the whole."""

CONNECT_SECONDS = 10
PATIENCE_SECONDS = 300.0
"""Between two pieces, the first included: a 7B model on two cores reads its prompt for more than a minute."""

GRACE_SECONDS = 2
"""How long a finished answer waits for the server to hang up, and for its count of tokens."""

MOST_BYTES = 16 << 20
MOST_LETTERS_PER_TOKEN = 64

T = TypeVar("T")
GARBAGE = (ValueError, RecursionError)
"""What the client, and `read_chunk`, raise over bytes that are not the protocol."""


class RemoteEngine:
    """Engine on a model that somebody else runs. Callers do not wait for each other: the server queues or batches them."""

    def __init__(
        self, address: Address, name: str, key: str = "", limits: Limits = LLAVA_1_5, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """`key` is sent as a bearer token. Raises EngineRefused for one that no header can hold."""
        self.name = name
        self.limits = limits
        self.input_side = INPUT_SIDE
        self.address = address
        self.description = {"model": name, "device": address.host, "weights": "remote"}
        self._connection: _Connection | None = _Connection(address, key, patience_seconds)

    def count(self, messages: Sequence[Message]) -> int:
        """An estimate on the safe side; see `wire.estimate`."""
        return estimate(messages, self.limits.tokens_per_image)

    def prepare(self, messages: Sequence[Message], session: str) -> None:
        """Nothing: a server keeps its own prefixes."""

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        connection = self._open()
        needed = self.count(messages) + sampling.max_new_tokens
        if needed > self.limits.context_tokens:
            raise DoesNotFit(needed, self.limits.context_tokens)
        return Flow(lambda put: connection.begin(self.name, messages, sampling, put))

    def forget(self, session: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _open(self) -> "_Connection":
        if self._connection is None:
            raise _closed()
        return self._connection


def connect(
    address: Address, name: str | None, key: str = "", max_images: int = 1, context_tokens: int | None = None
) -> RemoteEngine:
    """An engine on the model called `name` there, or on the only one. Raises EngineError when the server is not there.

    What the person does not give is asked of the server: the name, and the context (`max_model_len` and its like).
    """
    connection = _Connection(address, key, CONNECT_SECONDS)
    try:
        listed = connection.models()
    except EngineError as error:
        if name is None and error.reason not in ("unreachable", "key"):
            raise EngineRefused(f"{address.host} does not list its models; name one with --remote-name.") from error
        if error.reason in ("unreachable", "key"):
            raise
        listed = {}
    finally:
        connection.close()
    if name is None:
        if len(listed) != 1:
            known = ", ".join(sorted(listed)[:20]) or "none"
            raise EngineRefused(f"{address.host} lists these models: {known}. Choose one with --remote-name.")
        (name,) = listed
    context = context_tokens or listed.get(name) or LLAVA_1_5.context_tokens
    engine = RemoteEngine(address, name, key, Limits(context, LLAVA_1_5.tokens_per_image, max_images))
    log.info("connected %s, %d tokens of context, %d images per prompt", engine.description, context, max_images)
    if not (address.is_local or address.is_encrypted):
        sent = "pictures and text" if max_images else "text"
        what = f"the API key, {sent}" if key else sent
        log.warning("%s is reached over http: %s travel unencrypted; use https or a tunnel", address.host, what)
    return engine


def _closed() -> EngineUnavailable:
    return EngineUnavailable("The engine has been closed. Start Hilum again.")


class _Connection:
    """The client and the thread that it lives on; asyncio, because there a request can be dropped at any moment."""

    def __init__(self, address: Address, key: str, patience_seconds: float) -> None:
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise EngineRefused("HILUM_API_KEY holds a character that no key has. Copy the key again.")
        self._address, self._key = address, key
        timeout = openai.Timeout(patience_seconds, connect=CONNECT_SECONDS)
        hooks: dict[str, Any] = {"request": [self._undress], "response": [_bound]}
        # A proxy of the environment could not reach this machine, and would read what is said on it.
        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False, trust_env=not address.is_local, timeout=timeout, event_hooks=hooks
        )
        self._client = openai.AsyncOpenAI(
            base_url=address.url, api_key=key or "none", max_retries=0, timeout=timeout, http_client=http
        )
        self._gate, self._is_closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._live, name="hilum-remote", daemon=True).start()

    def _live(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _undress(self, request: Any) -> None:
        """Only what the server needs: no word about this machine, no organisation from the environment, no empty key."""
        for name in list(request.headers):
            if name.lower().startswith(("x-stainless", "openai-")) or (name.lower() == "authorization" and not self._key):
                del request.headers[name]
        request.headers["user-agent"] = "hilum"
        request.headers["accept-encoding"] = "identity"

    def models(self) -> dict[str, int | None]:
        """The names that the server lists, each with its context in tokens where that is said."""
        return self._run(self._models()).result()

    def begin(self, name: str, messages: Sequence[Message], sampling: Sampling, put: Put) -> Future[None]:
        """Send a question; what comes back goes into `put`, None last."""
        body: dict[str, Any] = {"model": name, "messages": to_wire(messages), "max_tokens": sampling.max_new_tokens}
        body |= {"temperature": sampling.temperature, "stream": True, "stream_options": {"include_usage": True}}
        if sampling.temperature > 0:
            body["top_p"] = sampling.top_p
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        with self._gate:
            if self._is_closed:
                raise _closed()
            return self._run(self._pump(body, put))

    def close(self) -> None:
        """Hang up everywhere and end the thread. Nothing begins after it: a loop that has ended would never answer."""
        with self._gate:
            self._is_closed = True
        self._run(self._shut()).add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _pump(self, body: dict[str, Any], put: Put) -> None:
        try:
            async for delta in self._answer(body):
                put(delta)
            put(None)
        except asyncio.CancelledError:
            put(_closed())
            raise
        except Exception as error:
            put(await self._translate(error, body))

    async def _answer(self, body: dict[str, Any]) -> AsyncIterator[Delta]:
        """Deltas of about a token each, and a last one that says why it ended and makes up the server's count."""
        finish: Literal["stop", "length"] | None = None
        letters = told = total = heard = 0
        async with await self._client.chat.completions.create(**body) as stream:
            pieces = aiter(stream)
            while letters <= MOST_LETTERS_PER_TOKEN * body["max_tokens"]:
                try:
                    async with asyncio.timeout(GRACE_SECONDS if finish else None):
                        piece = read_chunk(await anext(pieces))
                except StopAsyncIteration:
                    break
                except (TimeoutError, openai.OpenAIError, *GARBAGE) as error:
                    if finish:
                        break
                    if heard and type(error) is openai.APIConnectionError:
                        raise broke_off(self._address.host) from error
                    raise
                heard += 1
                finish, total = piece.finish or finish, piece.tokens or total
                if piece.text:
                    letters, told = letters + len(piece.text), told + 1
                    yield Delta(piece.text, tokens=1)
            else:
                finish = "length"
        if finish is None:
            raise broke_off(self._address.host) if heard else not_openai(self._address.host)
        yield Delta("", (), finish, tokens=max(0, total - told))

    async def _models(self) -> dict[str, int | None]:
        try:
            page = await self._client.get("/models", cast_to=object)
            listed = page.get("data") if isinstance(page, dict) else None
            if not isinstance(listed, list):
                raise not_openai(self._address.host)
            models = [model for model in listed if isinstance(model, dict) and isinstance(model.get("id"), str)]
            return {quote(model["id"], self._key): context_of(model) for model in models}
        except Exception as error:
            raise await self._translate(error, None) from error

    async def _translate(self, error: Exception, body: dict[str, Any] | None) -> Exception:
        """The one place where the client's exceptions become ours; one that no server can cause is a bug, and stays it."""
        host = self._address.host
        match error:
            case openai.APIStatusError():
                return await self._refusal(error.status_code, error.body, body, error.response.headers)
            case openai.APITimeoutError() if "Connect" not in type(error.__cause__).__name__:
                return EngineUnavailable(
                    f"{host} has been silent for too long. See whether it still works.", "silent", host=host
                )
            case openai.APIConnectionError():
                return unreachable(host, error)
            case openai.APIResponseValidationError():
                return not_openai(host)
            case openai.APIError():  # in the midst of a stream
                said = quote(error.body or error.message, self._key)
                refusal = await self._refusal(500, said, body, {})
                return broke_off(host, said) if refusal.reason == "failed" else refusal
            case _ if isinstance(error, (openai.OpenAIError, *GARBAGE)):
                return not_openai(host)
        return error

    async def _refusal(self, status: int, said: object, body: dict[str, Any] | None, headers: Mapping[str, str]) -> EngineError:
        models: tuple[str, ...] | None = None
        if body and status in (400, 404):
            with suppress(EngineError):
                models = tuple(await self._models()) or None
        has_images = any(isinstance(message["content"], list) for message in body["messages"]) if body else False
        name = str(body["model"]) if body else ""
        return explain(Reply(self._address.host, name, status, quote(said, self._key), has_images, models, headers))


async def _bound(response: Any) -> None:
    """No answer is endless, and none swells while it is unpacked."""
    response.headers.pop("content-encoding", None)
    response.stream = _Bounded(response.stream)


class _Bounded(AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for data in self._stream:
            seen += len(data)
            if seen > MOST_BYTES:
                raise ValueError("too long")
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()
