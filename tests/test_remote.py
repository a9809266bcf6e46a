"""The remote engine against servers that misbehave: every failure becomes a sentence that a person can act on."""

import base64
import io
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import tiny
from engines import ASKED, GREEDY, PICTURE, in_thread, text
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from remote_server import Bad, Misbehaving, bad_server
from served import free_port
from transformers import LlamaTokenizer

from chat.engine.address import Address, read_address
from chat.engine.base import DoesNotFit, EngineError, EngineRefused, EngineUnavailable, Limits, Message, Sampling
from chat.engine.remote import RemoteEngine, connect
from chat.engine.wire import LONGEST_SIDE, data_url, estimate, to_wire
from chat.prompt import encode
from chat.ui.desk import Desk
from chat.ui.panels import About, about, foot
from chat.ui.remote_words import REMOTE
from chat.ui.words import explain
from chat.wording import LANGUAGES

KEY = "sk-very-secret-0123"
ROOT = Path(__file__).parents[1]
Chat = Callable[[Misbehaving], None]


def engine_at(address: Address, name: str = "llava", key: str = KEY, patience_seconds: float = 20) -> RemoteEngine:
    return RemoteEngine(address, name, key, Limits(4096, 576, 1), patience_seconds)


@contextmanager
def asking(chat: Chat, models: Any = None, **how: Any) -> Iterator[tuple[RemoteEngine, Bad]]:
    with bad_server(chat, *([models] if models else [])) as bad:
        engine = engine_at(bad.address, **how)
        try:
            yield engine, bad
        finally:
            engine.close()


def refuses(status: int, body: object, kind: str = "application/json", **headers: str) -> Chat:
    return lambda request: request.answer(status, body, kind, **headers)


def lists(*models: dict[str, object]) -> Chat:
    return lambda request: request.answer(200, {"object": "list", "data": list(models)})


def writes(data: bytes) -> Chat:
    def chat(request: Misbehaving) -> None:
        request.begin()
        request.wfile.write(data)

    return chat


def error_of(chat: Chat, models: Any = None, **how: Any) -> EngineError:
    """What asking this server about a picture ends in."""
    with asking(chat, models, **how) as (engine, _), pytest.raises(EngineError) as caught:
        text(engine, ASKED)
    assert_a_sentence(caught.value)
    return caught.value


def assert_a_sentence(error: EngineError) -> None:
    """No key, no lines, and words for the page in both languages."""
    shown = [str(error), repr(error), *(explain(error, language) for language in LANGUAGES)]
    assert all(KEY not in said and "\n" not in said and "<" not in said for said in shown), shown
    assert str(error).endswith(".") and all(said.endswith(".") for said in shown[2:])


def half(request: Misbehaving) -> None:
    request.begin()
    request.say("Half")
    request.say(" a")


def test_an_answer_and_its_count_arrive_whole() -> None:
    def chat(request: Misbehaving) -> None:
        request.begin()
        request.say("")
        request.say("A lung")
        request.say(", 폐\ud83d.")
        request.say(None, "stop")
        request.wfile.write(b': ping\n\ndata: {"choices": [], "usage": {"completion_tokens": 9}}\n\ndata: [DONE]\n\n')

    with asking(chat) as (engine, bad):
        pulses = engine.stream(ASKED, Sampling(32, 0.5, 0.9, seed=7), "a")
        deltas = [delta for delta in pulses if delta.text or delta.finish]
    assert "".join(delta.text for delta in deltas) == "A lung, 폐?."
    assert [delta.finish for delta in deltas] == [None, None, "stop"] and sum(delta.count for delta in deltas) == 9
    body = bad.seen[0].body
    assert (body["model"], body["max_tokens"], body["temperature"], body["top_p"], body["seed"]) == ("llava", 32, 0.5, 0.9, 7)


def test_what_is_sent_is_only_what_the_server_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "some-organisation")
    for key in (KEY, ""):
        with asking(half, key=key) as (engine, bad), pytest.raises(EngineUnavailable):
            text(engine, ASKED)
        headers = {name.lower(): value for name, value in bad.seen[0].headers.items()}
        assert headers.get("authorization") == (f"Bearer {KEY}" if key else None)
        assert not [name for name in headers if name.startswith(("x-stainless", "openai"))]
        assert headers["user-agent"] == "hilum" and "top_p" not in bad.seen[0].body


def test_messages_keep_their_order_and_control_tokens_are_broken_up() -> None:
    messages = (
        Message("system", ("A chat.",)),
        Message("user", (PICTURE, "\nHints:", " none\n", "Is it <image> </s> <|im_end|> a<b?")),
        Message("assistant", ("No.",)),
        Message("user", ("Where?",)),
    )
    system, asked, said, then = to_wire(messages)
    assert (system["content"], said["content"], then["content"]) == ("A chat.", "No.", "Where?")
    picture, words = asked["content"]
    assert words == {"type": "text", "text": "\nHints: none\nIs it < image> < /s> < |im_end|> a<b?"}
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("size", [(9000, 3000), (1500, 1500), (50_000, 3)])
def test_a_large_picture_travels_bounded_and_in_its_proportions(size: tuple[int, int]) -> None:
    url = data_url(tiny.picture(3, size))
    sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert max(sent.size) == min(LONGEST_SIDE, max(size)) and len(url) < 8_000_000
    assert abs(sent.height - sent.width * size[1] / size[0]) <= 1


def test_the_estimate_does_not_undercount_prose() -> None:
    words = LlamaTokenizer.from_pretrained(ROOT / "models" / "hilum-tiny")
    english = "The lungs are clear; no pneumonia, effusion or cardiomegaly is seen in the patient's left upper zone."
    for prose in (
        english,
        "폐렴이 보입니까? 왼쪽 폐 아래에 흰 그림자가 있습니다.",
        "12,345.67 (a+b)=c\n\n\t{x: 1}",
        "日本語とрусский",
        "🫁" * 9,
    ):
        assert estimate([Message("user", (prose,))], 576) >= len(words.encode(prose, add_special_tokens=False))


@given(
    st.lists(st.text(st.characters(exclude_characters="\u2581", codec="utf-8"), max_size=30), min_size=1, max_size=5),
    st.sampled_from([None, " ", ""]),
)
def test_the_chat_template_gives_the_ids_of_our_own_prompt(texts: list[str], space: str | None) -> None:
    """`<`, which could begin a control token, is broken up on the way, and spaces around a text are stripped here."""
    tokenizer: Any = tiny.tokenizer()
    said = [" ".join(text.replace("<", "").split()) or "x" for text in texts]
    messages = [Message("system", (said[0],)), Message("user", (PICTURE, "\n" + said[-1]))]
    for answer in said:
        messages += [Message("assistant", (answer,)), Message("user", (answer,))]
    tokenizer.space_behind_end = space
    ours = encode(messages, tokenizer, tokenizer.get_vocab()["<image>"], 1).ids
    template = tiny.CHAT_TEMPLATE.read_text("utf-8")
    way: dict[str, object] = {"embedded": True} if space is None else {"space_behind_end": space}
    theirs = tokenizer.apply_chat_template(_for_template(messages), chat_template=template, tokenize=False, **way)
    assert tuple(tokenizer(theirs, add_special_tokens=False)["input_ids"]) == ours


def _for_template(messages: list[Message]) -> list[dict[str, object]]:
    def part(part: object) -> dict[str, object]:
        return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}

    return [{"role": message.role, "content": [part(p) for p in message.parts]} for message in messages]


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, EngineRefused, "HILUM_API_KEY"),
        (403, "no", EngineRefused, "HILUM_API_KEY"),
        (404, {"error": {"message": "The model `llava` does not exist."}}, EngineRefused, "knows no model llava"),
        (404, {"detail": "Not Found"}, EngineRefused, "Not Found"),
        (404, b"<html>nginx</html>", EngineRefused, "/v1"),
        (400, {"detail": "Server is pinned to 'tiny'; requested 'llava'."}, EngineRefused, "pinned to 'tiny'"),
        (400, {"error": {"message": f"odd <b>thing</b>\n {KEY}"}}, EngineRefused, "odd b thing /b ***"),
        (422, {"detail": [{"msg": "x", "input": "x"}]}, EngineRefused, "422"),
        (429, {"error": "slow down"}, EngineUnavailable, "later"),
        (500, b"<html>oops</html>", EngineUnavailable, "failed (500"),
        (503, {"error": "loading"}, EngineUnavailable, "loading"),
        (307, b"", EngineRefused, "does not follow"),
        (400, {"error": {"message": "gpt-x is not a multimodal model"}}, EngineRefused, "does not read pictures"),
        (500, {"error": {"message": "image input is not supported - provide the mmproj"}}, EngineRefused, "not read pictures"),
        (404, {"error": {"message": "No endpoints found that support image input"}}, EngineRefused, "not read pictures"),
        (400, {"error": {"message": "At most 2 image(s) may be provided in one prompt."}}, EngineRefused, "--remote-images 2"),
        (400, {"error": {"message": "prompt is too long"}}, EngineRefused, "too long"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(status: int, body: object, kind: type[EngineError], words: str) -> None:
    error = error_of(refuses(status, body, Location="http://127.0.0.1:1/elsewhere"))
    assert type(error) is kind and words in str(error)


@pytest.mark.parametrize(
    ("body", "numbers"),
    [
        ({"message": "This model's maximum context length is 4096 tokens. However, you requested 5,012 tokens (4500 in the "
          "messages, 512 in the completion)."}, (5012, 4096)),
        ({"code": 400, "message": "the request exceeds the available context size", "n_prompt_tokens": 5000, "n_ctx": 4096},
         (5000, 4096)),
        ({"message": "request (9000 tokens) exceeds the available context size (8192 tokens)"}, (9000, 8192)),
    ],
)  # fmt: skip
def test_a_context_that_is_too_short_comes_with_its_numbers(body: object, numbers: tuple[int, int]) -> None:
    error = error_of(refuses(400, {"error": body}))
    assert isinstance(error, DoesNotFit) and (error.needed, error.available) == numbers


def test_an_unknown_model_comes_with_those_that_are_there() -> None:
    error = error_of(refuses(404, {"detail": "no such model"}), lists({"id": "a/b"}, {"id": "c<script>"}, {"id": 5}))
    assert "It has: a/b, c script" in str(error)


def test_a_busy_server_says_when_to_come_back() -> None:
    assert "in 17 seconds" in str(error := error_of(refuses(429, {}, Retry_After="17"))) and "17" in explain(error, "ko")
    assert "later" in str(error_of(refuses(429, {}, Retry_After="Wed, 21 Oct 2099 07:28:00 GMT")))


def test_a_redirect_is_never_followed() -> None:
    with bad_server(half) as elsewhere:
        url = elsewhere.address.url + "/chat/completions"
        error_of(refuses(308, b"", Location=url))
        error_of(refuses(302, b"", Location=url))
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    "chat",
    [
        refuses(200, b"<!doctype html><p>Welcome", "text/html"),
        refuses(200, {"error": "not this way"}),
        writes(b""),
        writes(b"data: {oops\n\n"),
        writes(b"data: 5\n\n"),
        writes(b"data: " + b"[" * 100_000 + b"\n\n"),
        writes(b"data: \xff\xfe\n\n"),
        writes(b'data: {"choices": 5}\n\n'),
        writes(b'data: {"choices": [{"delta": {"content": {"a": 1}}}]}\n\n'),
        lambda request: request.answer(200, b"\x1f\x8b\x08", "text/event-stream", Content_Encoding="gzip"),
        lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"),
        lambda request: None,
    ],
)  # fmt: skip
def test_what_is_no_openai_server_is_said_to_be_none(chat: Chat) -> None:
    error = error_of(chat)
    assert isinstance(error, EngineUnavailable) and "does not answer as an OpenAI-compatible server" in str(error)


@pytest.mark.parametrize("ending", [b"", b'data: {"error": {"message": "worker died"}}\n\n', b'data: {"choices": []}\n\n'])
def test_half_an_answer_is_given_out_and_then_said_to_have_broken_off(ending: bytes) -> None:
    def chat(request: Misbehaving) -> None:
        half(request)
        request.wfile.write(ending)

    with asking(chat) as (engine, bad):
        stream = engine.stream(ASKED, GREEDY, "a")
        assert [next(stream).text, next(stream).text] == ["Half", " a"]
        with pytest.raises(EngineUnavailable, match="broke off"):
            next(stream)
    assert len(bad.seen) == 1


def test_a_reset_in_the_midst_is_a_break_too() -> None:
    def chat(request: Misbehaving) -> None:
        half(request)
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        request.connection.close()

    assert error_of(chat).reason == "broke_off"


def test_an_answer_that_never_ends_is_cut() -> None:
    def chat(request: Misbehaving) -> None:
        request.begin()
        while True:
            request.say("more and more " * 9)

    with asking(chat) as (engine, bad):
        deltas = list(engine.stream(ASKED, Sampling(4, temperature=0), "a"))
        assert bad.hung_up.wait(20)
    assert deltas[-1].finish == "length" and len(deltas) < 10


def test_a_line_that_never_ends_is_cut() -> None:
    def chat(request: Misbehaving) -> None:
        request.begin()
        while True:
            request.wfile.write(b"data: " + b"x" * (1 << 20))

    assert error_of(chat).reason == "not_openai"


def test_a_silent_server_is_left_in_the_end() -> None:
    release = threading.Event()

    def before(request: Misbehaving) -> None:
        release.wait(20)

    def midway(request: Misbehaving) -> None:
        half(request)
        release.wait(20)

    try:
        assert [error_of(chat, patience_seconds=0.3).reason for chat in (before, midway)] == ["silent", "silent"]
    finally:
        release.set()


def test_a_server_that_does_not_hang_up_does_not_keep_a_whole_answer() -> None:
    release = threading.Event()

    def chat(request: Misbehaving) -> None:
        request.begin()
        request.say("Yes.", "stop")
        release.wait(20)

    with asking(chat) as (engine, _):
        said = [delta for delta in engine.stream(ASKED, GREEDY, "a") if delta.text or delta.finish]
        assert [delta.finish for delta in said] == [None, "stop"]
    release.set()


@pytest.mark.parametrize("how", ["close", "drop", "end"])
def test_leaving_hangs_up(how: str) -> None:
    written = []

    def chat(request: Misbehaving) -> None:
        request.begin()
        for _ in range(200_000):
            request.say("on and on ")
            written.append(1)

    with asking(chat) as (engine, bad):
        stream = engine.stream(ASKED, Sampling(2000, temperature=0), "a")
        assert len(list(islice(stream, 3))) == 3
        if how == "close":
            stream.close()  # type: ignore[attr-defined]
        elif how == "end":
            engine.close()
        del stream
        assert bad.hung_up.wait(20)
    assert len(written) < 200_000


def test_a_question_that_waits_for_its_first_word_can_be_closed() -> None:
    arrived, gone = threading.Event(), threading.Event()

    def chat(request: Misbehaving) -> None:
        arrived.set()
        if request.connection.recv(1) == b"":
            gone.set()

    with asking(chat) as (engine, _):
        stream = engine.stream(ASKED, GREEDY, "a")
        got: list[object] = []
        reader = in_thread(lambda: got.extend(stream))
        assert arrived.wait(20)
        stream.close()  # type: ignore[attr-defined]
        reader.join(20)
        assert gone.wait(20) and not reader.is_alive() and got == []


def test_a_server_that_is_not_there_is_said_so() -> None:
    closed = read_address(f"http://127.0.0.1:{free_port()}")
    nowhere = read_address("http://no-such-host.invalid:9/v1")
    for address, words in ((closed, "Start the server"), (nowhere, "No computer of this name")):
        for ask in (lambda: text(engine_at(address), ASKED), lambda: connect(address, "llava", KEY)):  # noqa: B023
            with pytest.raises(EngineUnavailable, match=words) as caught:
                ask()
            assert_a_sentence(caught.value)


def test_https_where_only_http_is_spoken_is_said_so() -> None:
    with bad_server(half) as bad:
        address = read_address(bad.address.url.replace("http:", "https:"))
        with pytest.raises(EngineUnavailable, match="https"):
            text(engine_at(address), ASKED)


def test_a_proxy_of_the_environment_does_not_see_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with bad_server(half) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address.url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with asking(half) as (engine, bad), pytest.raises(EngineUnavailable):
            text(engine, ASKED)
        assert (len(bad.seen), proxy.seen) == (1, [])


@pytest.mark.parametrize(
    ("models", "name", "words"),
    [
        (lists({"id": "a"}, {"id": "b"}), None, "these models: a, b"),
        (lists(), None, "these models: none"),
        (refuses(500, "offline"), None, "--remote-name"),
        (refuses(200, b"<html>", "text/html"), None, "--remote-name"),
        (refuses(200, {"data": 7}), None, "--remote-name"),
        (refuses(401, {}), None, "HILUM_API_KEY"),
        (refuses(401, {}), "a", "HILUM_API_KEY"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_clear_is_asked_for(models: Chat, name: str | None, words: str) -> None:
    with bad_server(half, models) as bad, pytest.raises(EngineError, match=words) as caught:
        connect(bad.address, name, KEY)
    assert_a_sentence(caught.value)


@pytest.mark.parametrize(
    ("models", "name", "given", "expected"),
    [
        (lists({"id": "only", "max_model_len": 8192}), None, None, ("only", 8192)),
        (lists({"id": "a"}, {"id": "b", "context_length": 2048}), "b", None, ("b", 2048)),
        (lists({"id": "a", "max_model_len": -5, "context_length": "many"}), "a", None, ("a", 4096)),
        (lists({"id": "a", "max_model_len": 8192}), "a", 1000, ("a", 1000)),
        (refuses(500, "offline"), "folder/x", None, ("folder/x", 4096)),
    ],
)  # fmt: skip
def test_name_and_context_are_the_persons_or_the_servers(
    models: Chat, name: str | None, given: int | None, expected: tuple[str, int]
) -> None:
    with bad_server(half, models) as bad:
        engine = connect(bad.address, name, KEY, 2, given)
    assert (engine.name, engine.limits) == (expected[0], Limits(expected[1], 576, 2))
    engine.close()


def test_every_error_of_the_client_becomes_one_of_ours() -> None:
    request = httpx2.Request("POST", "http://x/v1")
    made = {
        openai.APIConnectionError: lambda kind: kind(request=request),
        openai.APITimeoutError: lambda kind: kind(request=request),
        openai.APIResponseValidationError: lambda kind: kind(httpx2.Response(200, request=request), None),
        openai.APIError: lambda kind: kind("x", request, body=None),
    }

    def kinds(kind: type[Exception]) -> Iterator[type[Exception]]:
        yield kind
        for other in kind.__subclasses__():
            yield from kinds(other)

    engine = engine_at(read_address("http://127.0.0.1:9"))
    connection = engine._open()
    found = list(kinds(openai.APIError))
    assert len(found) > 10
    for kind in found:
        status = getattr(kind, "status_code", 418)
        if issubclass(kind, openai.APIStatusError):
            code = status if isinstance(status, int) else 418
            if kind is openai.OAuthError:
                error = kind(response=httpx2.Response(401, request=request), body=None)
            else:
                error = kind("x", response=httpx2.Response(code, request=request), body=None)
        else:
            error = made[kind](kind)
        assert isinstance(connection._run(connection._translate(error, None)).result(20), EngineError), kind
    bug = ZeroDivisionError()
    assert connection._run(connection._translate(bug, None)).result(20) is bug
    engine.close()


@pytest.mark.parametrize(
    "text",
    ["http://me:sk-very-secret-0123@host/v1", "http://", "https://host:99999/v1", "http://host/v1?key=sk-very-secret-0123",
     "http://a b/v1", "http://host\\@evil/v1", "http://[::1/v1", "ftp://host", "http://ho\nst/"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(EngineRefused, match="address") as caught:
        read_address(text)
    assert_a_sentence(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000", Address("http://127.0.0.1:8000/v1", "127.0.0.1:8000", True, False)),
        (" https://api.example.org/openai/v1/ ", Address("https://api.example.org/openai/v1", "api.example.org", False, True)),
        ("http://[::1]:1/v1", Address("http://[::1]:1/v1", "[::1]:1", True, False)),
        ("HTTP://Box:8000/v1", Address("http://box:8000/v1", "box:8000", False, False)),
    ],
)  # fmt: skip
def test_an_address_is_read_as_people_write_it(text: str, expected: Address) -> None:
    assert read_address(text) == expected


@pytest.mark.parametrize("key", ["two words", "with\nline", "키"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(EngineRefused, match="HILUM_API_KEY") as caught:
        engine_at(read_address("http://127.0.0.1:9"), key=key)
    assert key not in str(caught.value)


def test_the_page_says_where_pictures_and_words_go() -> None:
    for language in LANGUAGES:
        desk = Desk(5, language)
        said = {}
        for url in ("http://127.0.0.1:8000", "https://far.example", "http://far.example:81"):
            address = read_address(url)
            model = About("llava", address.host, "", False, 4096, address)
            said[url] = about(desk, model) + foot(language, model)
            assert address.host in foot(language, model) and said[url].count(address.host) >= 3
            assert not re.search("떠나지 않|on this computer\\.", said[url])
        local = foot(language, About("tiny", "cpu", "float32", True, 1024))
        assert re.search("떠나지 않|on this computer\\.", local)
        assert ["암호화되지" in s or "not encrypted" in s for s in said.values()] == [False, False, True]


def test_both_languages_say_every_reason() -> None:
    code = "".join((ROOT / "chat" / "engine" / f"{name}.py").read_text("utf-8") for name in ("remote", "refusals", "wire"))
    for language in LANGUAGES:
        assert [key for key in REMOTE[language] if f'"{key.removeprefix("remote.")}"' not in code] == []
    assert REMOTE["ko"].keys() == REMOTE["en"].keys()


def test_unencrypted_ways_are_warned_of_and_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with bad_server(half, lists({"id": "a"})) as bad:
        far = Address(bad.address.url, bad.address.host, is_local=False, is_encrypted=False)
        engine = connect(far, "a", KEY)
        with pytest.raises(EngineUnavailable):
            text(engine, ASKED)
        engine.close()
    assert "the API key, pictures and text travel unencrypted" in caplog.text
    assert KEY not in caplog.text and KEY not in repr(engine) and "폐렴" not in caplog.text


@pytest.mark.slow
def test_the_command_line_asks_an_address_and_shows_no_key(tmp_path: Path) -> None:
    def chat(request: Misbehaving) -> None:
        request.begin()
        request.say("It is ")
        request.say("a lung.", "stop")

    tiny.picture(1, (200, 120)).save(tmp_path / "picture.png")
    command = [sys.executable, "app.py", "ask", str(tmp_path / "picture.png"), "What is it?"]
    own = {**os.environ, "HILUM_API_KEY": KEY, "OPENAI_CUSTOM_HEADERS": "X-Other: 1", "OPENAI_LOG": "debug"}
    with bad_server(chat, lists({"id": "only"})) as bad:
        done = subprocess.run(
            [*command, "--model", bad.address.url], cwd=ROOT, env=own, capture_output=True, text=True, timeout=100, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "It is a lung.\n", "")
        assert bad.seen[-1].headers["authorization"] == f"Bearer {KEY}" and "x-other" not in bad.seen[-1].headers
        bad.on_chat = refuses(401, {"error": KEY})
        done = subprocess.run(
            [*command, "--model", bad.address.url], cwd=ROOT, env=own, capture_output=True, text=True, timeout=100, check=False
        )
    assert done.returncode == 2 and "HILUM_API_KEY" in done.stderr and KEY not in done.stderr
    assert len(done.stderr.splitlines()) == 1
