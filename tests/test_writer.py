"""The writer: what it is told, what comes back, how both phases end, and what is left when it fails."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import engines
import pytest
import tiny
import torch
from browsing import FLAGS
from playwright.sync_api import expect, sync_playwright
from remote_server import Bad, Misbehaving, bad_server, transformers_serve
from served import free_port
from transformers import LlamaConfig, LlamaForCausalLM

from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine import text as text_engine
from chat.engine.address import Address, read_address
from chat.engine.base import DoesNotFit, EngineRefused, EngineUnavailable, Limits, Message, Sampling
from chat.engine.checkpoint import load_model
from chat.engine.local import LocalEngine
from chat.engine.packed import pack
from chat.engine.remote import RemoteEngine
from chat.engine.text import TextEngine
from chat.ui.desk import Desk
from chat.ui.panels import About, about, foot, prompt, talk
from chat.wording import Language, evidence_lines, look_at
from chat.writer import compose_brief, for_writer, without_thoughts
from vision.evidence import Evidence, Finding
from vision.study import Study

ROOT = Path(__file__).parents[1]
SHORT = Sampling(8, temperature=0)
LONG = Sampling(300, temperature=0)
EVIDENCE = Evidence((Finding("PNEUMONIA", 0.87),), ("PNEUMONIA",))
QUESTION: dict[Language, str] = {"ko": "무엇이 보입니까?", "en": "What can be seen?"}
SAID: dict[Language, str] = {"ko": "왼쪽 아래가 흐립니다.", "en": "The lower left is hazy."}
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ bos_token if loop.first else '' }}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}{% if enable_thinking is not false %} hm{% endif %}"
)
"""As strict as real ones: no system role, and it ends otherwise unless thinking is turned off."""


def build_text(folder: Path, context: int = 1024) -> Path:
    """A tiny Llama with a chat template, whose answers are plain ASCII and never end by themselves."""
    words = tiny.tokenizer()
    words.chat_template = TEMPLATE
    torch.manual_seed(5)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-len(words) // 64) * 64, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=context, bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    model.to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)
    return tiny.silence(folder, tiny.beyond_ascii())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_text(tmp_path_factory.mktemp("writer") / "tiny-writer")


@pytest.fixture(scope="module")
def writer(folder: Path) -> TextEngine:
    engine = text_engine.load(folder, "cpu", False)
    pack(engine._model, is_on=False)
    engine._model.float()
    return engine


@pytest.fixture(scope="module")
def eye_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.build_answering_alike(tmp_path_factory.mktemp("eye") / "eye")


@pytest.fixture(scope="module")
def eye(eye_folder: Path) -> LocalEngine:
    return engines.load_local(eye_folder, "float32")


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(tiny.picture(1, (tiny.SIDE, 40)))


def ask(
    assistant: Assistant,
    study: Study,
    question: str,
    before: Conversation | None = None,
    sampling: Sampling = SHORT,
    evidence: Evidence | None = None,
) -> list[Answer]:
    steps = assistant.ask(Request(question, sampling), study, before or Conversation(), "s", evidence)
    return [step for step in steps if isinstance(step, Answer)]


def saying(*pieces: str, finish: str | None = "stop") -> Callable[[Misbehaving], None]:
    def say(request: Misbehaving) -> None:
        request.begin()
        for piece in pieces:
            request.say(piece)
        if finish:
            request.say(finish=finish)
            request.wfile.write(b"data: [DONE]\n\n")

    return say


def remote(server: Bad, context: int = 4096) -> RemoteEngine:
    return RemoteEngine(server.address, "writer", "sk-1", Limits(context, 0, 0))


def sent(server: Bad, number: int = -1) -> list[dict[str, str]]:
    posts = [request for request in server.seen if request.command == "POST"]
    messages: list[dict[str, str]] = posts[number].body["messages"]  # type: ignore[assignment]
    return messages


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_writer_reads_what_was_seen_and_measured_and_no_picture(language: Language, eye: LocalEngine, study: Study) -> None:
    with bad_server(saying(*SAID[language])) as server:
        answers = ask(Assistant(eye, eye.input_side, remote(server)), study, QUESTION[language], evidence=EVIDENCE)
        task = sent(server)[-1]["content"]
        hints = evidence_lines(EVIDENCE, language)[1:]
        last = answers[-1]
        assert last.observations and last.observations in task and QUESTION[language] in task
        assert hints and all(line in task for line in hints)
        assert {"ko": "진단하거나", "en": "Do not diagnose"}[language] in task
        assert "image" not in json.dumps(server.seen[-1].body) and "base64" not in json.dumps(server.seen[-1].body)
    assert (last.text, last.finish, last.trouble) == (SAID[language], "stop", None)
    assert "Please answer in English." in last.prompt_text and evidence_lines(EVIDENCE, "en")[1] in last.prompt_text
    turn = last.conversation.turns[-1]
    assert (turn.question, turn.answer, turn.observations) == (QUESTION[language], SAID[language], last.observations)


def test_without_measurements_the_writer_is_told_of_none(eye: LocalEngine, study: Study) -> None:
    with bad_server(saying("Yes.")) as server:
        ask(Assistant(eye, eye.input_side, remote(server)), study, "Is it red?")
        assert "Measurements" not in sent(server)[-1]["content"]


def test_each_model_goes_on_with_its_own_side_of_the_conversation(eye: LocalEngine, study: Study) -> None:
    with bad_server(saying(SAID["ko"])) as server:
        assistant = Assistant(eye, eye.input_side, remote(server))
        first = ask(assistant, study, QUESTION["ko"])[-1]
        second = ask(assistant, study, "왼쪽은요?", first.conversation)[-1]
        assert [m["content"] for m in sent(server)[:-1]] == [QUESTION["ko"], SAID["ko"]]
        assert [m["role"] for m in sent(server)] == ["user", "assistant", "user"]
    assert second.prompt_text.startswith(f"{first.prompt_text} {first.observations}</s>USER: {look_at('왼쪽은요?')}")
    assert second.prompt.messages[2].ids == first.conversation.turns[-1].ids != ()
    assert SAID["ko"] not in second.prompt_text
    assert second.turns_in_window == 1 and second.turn == 2


def test_what_was_seen_is_shown_first_and_is_never_taken_for_the_answer(eye: LocalEngine, study: Study) -> None:
    with bad_server(saying("Yes", ", it is.")) as server:
        answers = ask(Assistant(eye, eye.input_side, remote(server)), study, "Is it red?")
    looked = [answer for answer in answers if not answer.is_written]
    assert len(looked) > 5 and {answer.finish for answer in looked} == {None}
    assert all(answer.text == answer.observations == answer.conversation.turns[-1].answer for answer in looked)
    written = answers[len(looked) :]
    assert [answer.text for answer in written[:2]] == ["Yes", "Yes, it is."] and written[-1].finish == "stop"
    assert {answer.observations for answer in written} == {looked[-1].observations}


def test_observations_stay_short_and_the_answer_may_be_long(eye: LocalEngine, writer: TextEngine, study: Study) -> None:
    last = ask(Assistant(eye, eye.input_side, writer), study, "Is it red?", sampling=Sampling(200, temperature=0))[-1]
    assert len(last.conversation.turns[-1].ids) == 160 and last.tokens == 200 and last.finish == "length"


def test_without_a_writer_nothing_is_observed(eye: LocalEngine, study: Study) -> None:
    last = ask(Assistant(eye, eye.input_side), study, "무엇이 보입니까?")[-1]
    assert (last.observations, last.brief, last.trouble, last.is_written) == (None, None, None, True)
    assert last.result("m")["observations"] is None and "English" not in last.prompt_text


def test_the_oldest_turns_leave_a_brief_that_is_too_long(writer: TextEngine, eye: LocalEngine, study: Study) -> None:
    with bad_server(saying("word " * 200)) as server:
        assistant, said = Assistant(eye, eye.input_side, remote(server, context=1200)), Conversation()
        turns = []
        for _ in range(4):
            last = ask(assistant, study, "Is it red?", said)[-1]
            said = last.conversation
            turns.append(last.turns_in_window)
        assert turns[0] == 0 and max(turns) < 3 and last.brief and len(last.brief.turns) == max(turns)
        assert len(last.prompt.turns) == 3


@pytest.mark.parametrize("phase", ["looking", "writing"])
def test_closing_stops_whichever_is_at_work(phase: str, eye: LocalEngine, writer: TextEngine, study: Study) -> None:
    assert eye._loaded
    with engines.counted(eye._loaded.model) as looked, engines.counted(writer._model) as written:
        steps = Assistant(eye, eye.input_side, writer).ask(Request("Is it red?", LONG), study, Conversation(), "s")
        is_due = (lambda: len(looked) == 5) if phase == "looking" else (lambda: len(written) == 5)
        last = next(step for step in steps if is_due())
        steps.close()  # type: ignore[attr-defined]
        before = (len(looked), len(written))
        assert engines.text(eye, engines.ASKED, SHORT) and engines.text(writer, text_engine.PROBE, SHORT)
        assert (len(looked) - before[0], len(written) - before[1]) == (8, 8)
    assert isinstance(last, Answer) and last.finish is None and last.observations
    assert before[1] == (0 if phase == "looking" else 5)
    assert last.is_written == (phase == "writing") and last.conversation.turns[-1].answer == last.text


def test_closing_hangs_up_on_a_writer_elsewhere(eye: LocalEngine, study: Study) -> None:
    def endlessly(request: Misbehaving) -> None:
        request.begin()
        while True:
            request.say("word ")

    with bad_server(endlessly) as server:
        steps = Assistant(eye, eye.input_side, remote(server)).ask(Request("Is it red?", LONG), study, Conversation(), "s")
        assert any(isinstance(step, Answer) and step.is_written for step in steps)
        steps.close()  # type: ignore[attr-defined]
        assert server.hung_up.wait(20)


def refuse_key(request: Misbehaving) -> None:
    request.answer(401, {"error": {"message": "no"}})


FAILURES = {
    "key": (refuse_key, EngineRefused),
    "failing": (lambda request: request.answer(500, {"error": "no"}), EngineUnavailable),
    "garbage": (lambda request: request.answer(200, b"<html>", "text/html"), EngineUnavailable),
    "silent": (saying(), Exception),
    "only thoughts": (saying("<think>", "Hm, so"), Exception),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_writer_that_fails_leaves_what_was_seen_and_says_why(kind: str, eye: LocalEngine, study: Study) -> None:
    script, error = FAILURES[kind]
    alone = ask(Assistant(eye, eye.input_side), study, look_at("Is it red?"))[-1]
    with bad_server(script) as server:
        last = ask(Assistant(eye, eye.input_side, remote(server)), study, "Is it red?")[-1]
    assert last.text == last.observations == alone.text and last.finish == alone.finish == "length"
    assert isinstance(last.trouble, error) and last.result("m")["writer_error"]
    assert last.conversation.turns[-1].answer == last.text and last.conversation.asked == 1


def test_a_writer_that_is_not_there_or_too_small_is_no_error_of_the_question(eye: LocalEngine, study: Study) -> None:
    nobody = RemoteEngine(read_address(f"http://127.0.0.1:{free_port()}"), "writer", limits=Limits(4096, 0, 0))
    away = ask(Assistant(eye, eye.input_side, nobody), study, "Is it red?")[-1]
    assert isinstance(away.trouble, EngineUnavailable) and "--writer" in str(away.result("m")["writer_error"])
    with bad_server(saying("Yes.")) as server:
        small = ask(Assistant(eye, eye.input_side, remote(server, context=64)), study, "Is it red?")[-1]
        assert isinstance(small.trouble, DoesNotFit) and small.text == small.observations and server.seen == []


def test_half_an_answer_is_kept(eye: LocalEngine, study: Study) -> None:
    with bad_server(saying("The lower ", "left", finish=None)) as server:
        last = ask(Assistant(eye, eye.input_side, remote(server)), study, "Is it red?")[-1]
    assert (last.text, last.finish) == ("The lower left", None) and last.trouble and last.is_written
    assert last.conversation.turns[-1].answer == "The lower left" and last.conversation.turns[-1].observations


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes.", "Yes."),
        ("<think>\nHm.\n</think>\n\nYes.", "Yes."),
        ("Hm.</think>Yes.", "Yes."),
        (" <think>Hm", ""),
        ("a < b", "a < b"),
        ("", ""),
    ],
)
def test_thoughts_are_not_part_of_an_answer(text: str, said: str) -> None:
    assert without_thoughts(text) == said


PROMPTS = (text_engine.PROBE, text_engine.PROBE[:1], (Message("user", ("왼쪽 폐에 무엇이 보입니까? <s>",)),))


def test_a_writer_on_disk_says_what_a_server_says_of_the_same_folder(folder: Path, writer: TextEngine) -> None:
    with transformers_serve(folder) as served:
        # The template's own switch is the server's to set: its prompts end otherwise.
        away = RemoteEngine(served.address, served.name, limits=Limits(1024, 0, 0))
        thinking = tiny.tokenizer()
        thinking.chat_template = TEMPLATE.replace("enable_thinking is not false", "true")
        here = TextEngine(writer._model, thinking, "thinking")
        assert [engines.text(away, p) for p in PROMPTS[:2]] == [engines.text(here, p) for p in PROMPTS[:2]]
        assert engines.text(writer, PROMPTS[0]) != engines.text(here, PROMPTS[0])


@pytest.fixture(scope="module", params=["native", "nf4"])
def subject(request: pytest.FixtureRequest, folder: Path) -> TextEngine:
    return text_engine.load(folder, "cpu", request.param == "nf4")


def test_four_bits_are_used_where_they_are_asked_for(folder: Path, tmp_path: Path) -> None:
    def kinds(engine: TextEngine) -> set[str]:
        return {type(module).__name__ for module in engine._model.modules()}

    quantised = text_engine.load(folder, "cpu", True)
    assert "Linear4bit" in kinds(quantised) and "Linear4bit" not in kinds(text_engine.load(folder, "cpu", None))
    saved = shutil.copytree(folder, tmp_path / "nf4", ignore=shutil.ignore_patterns("*.safetensors"))
    load_model(LlamaForCausalLM, folder, "cpu", torch.bfloat16, True).save_pretrained(saved)
    assert "Linear4bit" in kinds(text_engine.load(saved, "cpu", None))
    with pytest.raises(EngineUnavailable, match="saved in 4-bit"):
        text_engine.load(saved, "cpu", False)


def test_an_answer_comes_token_by_token_repeats_and_stops(subject: TextEngine) -> None:
    deltas = list(subject.stream(PROMPTS[0], SHORT, "a"))
    assert [delta.finish for delta in deltas] == [None] * 7 + ["length"] and sum(delta.count for delta in deltas) == 8
    assert engines.text(subject, PROMPTS[0], SHORT) == "".join(delta.text for delta in deltas)
    with engines.counted(subject._model) as forwards:
        stream = subject.stream(PROMPTS[0], LONG, "a")
        assert len(list(islice(stream, 3))) == 3
        stream.close()  # type: ignore[attr-defined]
        assert engines.text(subject, PROMPTS[0], SHORT) and len(forwards) == 3 + 8


def test_a_text_engine_keeps_the_rules_of_every_engine(subject: TextEngine, folder: Path) -> None:
    with pytest.raises(DoesNotFit):
        subject.stream(PROMPTS[0], Sampling(1024), "a")
    with pytest.raises(EngineRefused, match="does not read pictures"):
        subject.count(tiny.question("Is it red?", tiny.picture(1)))
    end = tiny.tokenizer().eos_token_id
    typed = (Message("user", ("</s>assistant: yes</s>",)),)
    assert subject._encode(typed).count(end) == 1
    assert subject.count(typed) == len(subject._encode(typed))
    gone = text_engine.load(folder, "cpu", False)
    gone.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        next(gone.stream(PROMPTS[0], SHORT, "a"))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def with_broken_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('never') }}")


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no model in .*config.json"),
    "no chat template": (without_template, "instruction-tuned"),
    "a template that fails": (with_broken_template, "instruction-tuned"),
    "pickled weights": (as_pickle, "only safetensors"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"12345678"), "damaged"),
    "no tokenizer": (lambda f: [path.unlink() for path in f.glob("tokenizer*")], "cannot be loaded as a text model"),
    "a model that sees": (lambda f: edit_config(f, vision_config={}), "--writer"),
    "code of its own": (
        lambda f: edit_config(f, model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Model"}),
        "cannot be loaded as a text model",
    ),
    "another quantisation": (lambda f: edit_config(f, quantization_config={"quant_method": "gptq"}), "gptq"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_folder_that_is_no_text_model_is_one_sentence(kind: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    harm, sentence = BROKEN[kind]
    harm(copy)
    with pytest.raises(EngineUnavailable, match=sentence) as caught:
        text_engine.load(copy, "cpu", None)
    assert "\n" not in str(caught.value)


def test_a_brief_that_does_not_fit_says_how_much_is_missing(writer: TextEngine) -> None:
    with pytest.raises(DoesNotFit) as caught:
        compose_brief("Is it red?", (), "Red. " * 400, (), "en", writer, 64)
    assert caught.value.available == 1024 < caught.value.needed


FAR = Address("https://writer.example/v1", "writer.example", False, True)
BARE = Address("http://writer.example/v1", "writer.example", False, False)
EYE_FAR = Address("https://eye.example/v1", "eye.example", False, True)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_page_says_that_words_go_to_the_writer_and_pictures_do_not(language: Language) -> None:
    no_pictures = {"ko": "그림은 빼고 글만", "en": "pictures do not"}[language]
    desk = Desk(5, language)
    for second in (FAR, BARE):
        model = About("eye", "cpu", "float32", False, 4096, None, "hand", second)
        shown = talk(desk, model)["notice"]
        assert "hand" in shown and second.host in shown and no_pictures in shown
        assert ("https" in shown) == (second is BARE)
        assert second.url in about(desk, model) and second.host in foot(language, model)
    both = foot(language, About("eye", "eye.example", "", False, 4096, EYE_FAR, "hand", FAR))
    assert "eye.example" in both and "writer.example" in both
    here = About("eye", "cpu", "float32", False, 4096, None, "hand")
    assert "hand" in talk(desk, here)["notice"] and foot(language, here) == foot(language, About("eye", "", "", False, 4096))
    assert talk(desk, About("eye", "cpu", "float32", False, 4096))["notice"] == ""


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_page_shows_both_texts_and_why_one_is_missing(language: Language, eye: LocalEngine, study: Study) -> None:
    model = About("eye", "cpu", "float32", False, 4096, None, "hand", FAR)

    def shown(assistant: Assistant, most: int | None = None) -> dict[str, object]:
        desk = Desk(5, language)
        desk.place(study)
        desk.accept(QUESTION[language])
        begun = desk.begin()
        assert begun
        for step in islice(assistant.ask(Request(begun[1].question, SHORT), study, begun[1].before, "s"), most):
            desk.keep(begun[0], step)
        if most is None:
            desk.finish(begun[0])
        item: dict[str, object] = talk(desk, model)["items"][0] | {"prompt": prompt(desk)}
        return item

    with bad_server(saying(SAID[language])) as server:
        assistant = Assistant(eye, eye.input_side, remote(server))
        early, done = shown(assistant, 3), shown(assistant)
        sent_on = sent(server)[-1]["content"]
    assert early["answer"] == "" and early["observations"] and early["doing"] and early["state"] == "answering"
    assert (done["answer"], done["state"], done["trouble"]) == (SAID[language], "done", "")
    assert done["observations"] != done["answer"] and sent_on.splitlines()[0] in str(done["prompt"])
    with bad_server(refuse_key) as server:
        failed = shown(Assistant(eye, eye.input_side, remote(server)))
    assert failed["answer"] == failed["observations"] and failed["state"] == "cut"
    assert "HILUM_WRITER_KEY" in str(failed["trouble"]) and "HILUM_API_KEY" not in str(failed["trouble"])


def test_settings_in_a_sentence_are_the_writers() -> None:
    assert for_writer("Set HILUM_API_KEY, --remote-name, --model.") == "Set HILUM_WRITER_KEY, --writer-name, --writer."


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    tiny.picture(1, (tiny.SIDE, 40)).save(path)
    return path


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "app.py", "ask", *map(str, arguments), "--max-new-tokens", "6", "--temperature", "0"]
    own = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_the_terminal_has_both_texts_in_its_json(eye_folder: Path, folder: Path, image: Path) -> None:
    done = run(image, "무엇이 보입니까?", "And?", "--json", "--model", eye_folder, HILUM_WRITER=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["observations"] and first["answer"] and first["observations"] != first["answer"]
    assert (first["writer_error"], second["turns_in_window"]) == (None, 1)


@pytest.mark.slow
def test_the_terminal_falls_back_to_what_was_seen_and_says_so(eye_folder: Path, image: Path) -> None:
    def list_models(request: Misbehaving) -> None:
        request.answer(200, {"data": [{"id": "hand"}]})

    with bad_server(refuse_key, list_models) as server:
        key = {"HILUM_WRITER_KEY": "sk-of-the-writer", "HILUM_API_KEY": "sk-of-the-model"}
        done = run(image, "Is it red?", "--model", eye_folder, "--writer", server.address.url, **key)
        assert {request.headers["authorization"] for request in server.seen} == {"Bearer sk-of-the-writer"}
    assert done.returncode == 0 and done.stdout.strip()
    assert len(done.stderr.strip().splitlines()) == 1 and "HILUM_WRITER_KEY" in done.stderr and "sk-of" not in done.stderr


@pytest.mark.slow
def test_a_writer_that_cannot_start_is_one_sentence_about_the_writer(eye_folder: Path, image: Path, tmp_path: Path) -> None:
    for where in (tmp_path, f"http://127.0.0.1:{free_port()}"):
        done = run(image, "Is it red?", "--model", eye_folder, "--writer", where)
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.strip().splitlines()) == 1
        assert str(tmp_path) in done.stderr or "--writer" in done.stderr


@pytest.fixture
def page_url(eye: LocalEngine, writer: TextEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The real page with both models, each at work for long enough to be seen."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    from chat.ui import page

    model = About("eye", "cpu", "float32", False, 1024, None, "hand")
    blocks = page.build(Assistant(eye, eye.input_side, writer), model, SHORT, None, 1_000_000)
    yield page.launch(blocks, "127.0.0.1", free_port())
    blocks.close(verbose=False)


@pytest.mark.browser
def test_a_browser_folds_what_was_seen_under_the_answer(page_url: str, chromium: str, image: Path) -> None:
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=FLAGS).new_page(locale="ko-KR")
        page.goto(page_url)
        page.locator("body[data-hilum=open]").wait_for()
        page.locator("#hilum-stage input[type=file]").set_input_files(image)
        expect(page.locator(".size")).to_have_text(f"{tiny.SIDE} × 40", timeout=60_000)
        page.fill("#hilum-question", "무엇이 보입니까?")
        page.press("#hilum-question", "Enter")
        expect(page.locator(".turn")).to_have_attribute("data-state", "cut", timeout=60_000)
        seen = page.locator(".turn .seen")
        expect(seen.locator("summary")).to_have_text("모델이 본 것")
        expect(seen.locator("div")).to_be_hidden()
        seen.locator("summary").click()
        expect(seen.locator("div")).to_be_visible()
        assert seen.locator("div").inner_text() not in ("", page.locator(".turn .answer p").inner_text())
        assert "hand" in page.locator("#hilum-bar").inner_text()
