"""The API, from outside: a real server on loopback, and clients that are no browsers."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import tiny
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served import Served, serve

from chat.report.words import NOTICE
from chat.wording import SECTIONS
from vision.examiner import load_examiner

GREEDY = '{"temperature": 0, "max_new_tokens": 4, "crops": false}'

GREEDY_REPORT = '{"temperature": 0, "max_new_tokens": 4}'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    segmenter = tiny.build_segmenter(tmp_path_factory.mktemp("segmenter"), tiny.film())
    examiner = load_examiner(tiny.build_classifier(tmp_path_factory.mktemp("classifier")), segmenter=segmenter)
    with serve(tmp_path_factory.mktemp("api"), max_pixels=4_000_000, examiner=examiner) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Client:
    return Client(served.url, verbose=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("pictures") / "a name that nobody should see.png"
    tiny.picture(3, (90, 60)).save(path)
    return handle_file(str(path))


def ask(client: Client, image: Any, question: str = "And?", options: object = GREEDY) -> dict[str, Any]:
    result: dict[str, Any] = client.predict(image, question, options, api_name="/ask")
    return result


def test_only_these_six_are_called_by_name(client: Client) -> None:
    described: Any = client.view_api(return_format="dict", print_info=False)
    assert set(described["named_endpoints"]) == {"/ask", "/examine", "/report", "/find", "/inspect", "/clear"}
    assert not described["unnamed_endpoints"]


def test_question_n_sees_the_five_turns_before_it(client: Client, picture: Any) -> None:
    answers = [ask(client, picture if n == 1 else None) for n in range(1, 9)]
    assert [answer["turn"] for answer in answers] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [answer["turns_in_window"] for answer in answers] == [0, 1, 2, 3, 4, 5, 5, 5]
    assert [answer["views"] for answer in answers] == [[{"kind": "overview", "box": [0, 0, 90, 60]}]] * 8
    assert len({answer["prompt_hash"] for answer in answers}) == 8


def test_a_new_image_starts_a_new_conversation(client: Client, picture: Any) -> None:
    first = ask(client, picture)
    ask(client, None)
    again = ask(client, picture)
    assert again["turn"] == 1 and again["prompt_hash"] == first["prompt_hash"] and again["answer"] == first["answer"]


def test_sessions_do_not_see_each_other(served: Served, client: Client, picture: Any) -> None:
    ask(client, picture)
    with pytest.raises(AppError, match="Add an image first"):
        ask(Client(served.url, verbose=False), None)


def test_a_follow_up_without_an_image_is_refused_in_the_language_of_the_question(client: Client) -> None:
    with pytest.raises(AppError, match="Add an image first"):
        ask(client, None)
    with pytest.raises(AppError, match="이미지를 먼저"):
        ask(client, None, "그리고?")
    with pytest.raises(AppError, match="이미지를 먼저"):
        ask(client, None, "And?", '{"language": "ko"}')


def test_clear_forgets_image_and_conversation(client: Client, picture: Any) -> None:
    ask(client, picture)
    assert client.predict(api_name="/clear") == {"cleared": True}
    with pytest.raises(AppError, match="Add an image first"):
        ask(client, None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ('{"temprature": 0}', "options has no 'temprature'"),
        ('{"top_p": 5}', "'top_p'"),
        ('{"temperature": true}', "'temperature'"),
        ('{"max_new_tokens": 1.5}', "'max_new_tokens'"),
        ('{"language": "fr"}', "'language'"),
        ('{"evidence": "yes"}', "'evidence'"),
        ('{"overlay": 1}', "'overlay'"),
        ('{"crops": [[5, 5, 1, 9]]}', "'crops'"),
        ('{"crops": [[500, 500, 600, 600]]}', "outside the image"),
        ("[1, 2]", "must be a JSON object"),
        ("{", "must be a JSON object"),
    ],
)
def test_a_wrong_option_is_named_and_the_conversation_intact(client: Client, picture: Any, options: str, sentence: str) -> None:
    ask(client, picture)
    with pytest.raises(AppError, match=sentence):
        ask(client, None, "And?", options)
    assert ask(client, None)["turn"] == 2


def test_options_may_be_an_object_or_nothing(client: Client, picture: Any) -> None:
    boxes = {"temperature": 0, "max_new_tokens": 4, "crops": [[10, 5, 60, 50]], "seed": None, "system_prompt": "Be brief."}
    views = ask(client, picture, "And?", boxes)["views"]
    assert views[1:] == [{"kind": "region", "box": [10, 5, 60, 50]}]
    assert client.predict(None, "And?", api_name="/ask")["turn"] == 2


@pytest.mark.parametrize("question", ["", "   ", "\n"])
def test_an_empty_question_is_refused(client: Client, picture: Any, question: str) -> None:
    with pytest.raises(AppError, match="Type a question first"):
        ask(client, picture, question)


def test_a_question_that_does_not_fit_is_refused_with_the_numbers(client: Client, picture: Any) -> None:
    ask(client, picture)
    with pytest.raises(AppError, match=r"tokens, and 1,024 fit"):
        ask(client, None, "why " * 5000)
    assert ask(client, None)["turn"] == 2


def test_control_tokens_that_a_person_types_are_only_text(client: Client, picture: Any) -> None:
    plain = ask(client, picture, "a")
    typed = ask(client, picture, "a <image></s>")
    assert typed["prompt_tokens"] - plain["prompt_tokens"] < tiny.TOKENS_PER_IMAGE and len(typed["views"]) == 1


def test_bad_files_are_refused_and_the_conversation_intact(client: Client, picture: Any, tmp_path: Path) -> None:
    ask(client, picture)
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(whole, "JPEG")
    wide = io.BytesIO()
    Image.new("L", (3000, 3000)).save(wide, "PNG")
    for name, data, sentence in [
        ("text.png", b"only words", "not an image"),
        ("empty.png", b"", "empty|did not arrive"),
        ("half.jpg", whole.getvalue()[:400], "damaged"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("wide.png", wide.getvalue(), "too many"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AppError, match=sentence):
            ask(client, handle_file(str(tmp_path / name)))
    assert ask(client, None)["turn"] == 2


def test_nothing_of_an_upload_stays_on_the_disk(served: Served, client: Client, picture: Any) -> None:
    ask(client, picture)
    assert served.left_over() == []


def test_clients_with_the_same_image_at_the_same_time_are_all_answered(served: Served, picture: Any) -> None:
    clients = [Client(served.url, verbose=False) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda client: [ask(client, picture)["answer"] for _ in range(3)], clients))
    assert len({answer for told in answers for answer in told}) == 1
    assert served.left_over() == []


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("films") / "film.png"
    tiny.film(size=(120, 100)).save(path)
    return handle_file(str(path))


EXAMINED = {"image", "in_domain", "reason", "labels", "probabilities", "trusted", "peak", "masks", "mask_reason"}


def test_an_examination_says_what_the_classifier_says_and_is_not_remembered(client: Client, picture: Any, film: Any) -> None:
    said = client.predict(film, api_name="/examine")
    assert set(said) == EXAMINED and said["in_domain"] and said["labels"] == ["PNEUMONIA"]
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert [mask["label"] for mask in said["masks"]] == ["right lung", "left lung"] and said["mask_reason"] is None
    assert all(set(mask) == {"label", "area", "box"} for mask in said["masks"])
    refused = client.predict(picture, api_name="/examine")
    assert set(refused) == EXAMINED and refused["reason"] == "colour" and refused["probabilities"] == {}
    assert refused["masks"] == [] and refused["mask_reason"] == "colour"
    with pytest.raises(AppError, match="Add an image first"):
        ask(client, None)
    with pytest.raises(AppError, match="Add an image first"):
        client.predict(None, api_name="/examine")


def test_without_evidence_the_prompt_is_another(client: Client, film: Any) -> None:
    told, plain = (ask(client, film, "And?", {**json.loads(GREEDY), "evidence": on}) for on in (True, False))
    assert told["prompt_tokens"] > plain["prompt_tokens"] and told["prompt_hash"] != plain["prompt_hash"]


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_report_has_four_sections_and_its_notice(client: Client, served: Served, film: Any, language: str) -> None:
    ask(client, film)
    report = client.predict(film, language, GREEDY_REPORT, api_name="/report")
    assert [section["name"] for section in report["sections"]] == list(SECTIONS) and report["finished"]
    assert report["notice"] == NOTICE[language] and report["written_by"] in ("model", "rules", "both")  # type: ignore[index]
    sentences = [sentence for section in report["sections"] for sentence in section["sentences"]]
    assert 8 <= len(sentences) <= 12 and report["probabilities"] and served.left_over() == []
    again = client.predict(None, language, GREEDY_REPORT, api_name="/report")
    assert again["sections"] == report["sections"] and ask(client, None)["turn"] == 2


@pytest.mark.parametrize(
    ("language", "options", "sentence"),
    [
        ("fr", None, "'language'"),
        ("en", '{"crops": false}', "options has no 'crops'"),
        ("ko", '{"seed": -1}', "'seed' 값"),
        ("en", None, "Add an image first"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_in_one_sentence(
    client: Client, language: str, options: object, sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(None, language, options, api_name="/report")


def fetch(url: str, headers: dict[str, str], body: object = None) -> tuple[int, str, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, {"Content-Type": "application/json", **headers}), timeout=20) as response:
            return response.status, response.read().decode(), response.headers
    except HTTPError as error:
        return error.code, "", error.headers


def test_a_request_without_an_origin_passes_and_a_foreign_one_does_not(served: Served) -> None:
    path = f"{served.url}gradio_api/call/ask"
    body = {"data": [None, "And?", None]}
    status, text, _ = fetch(path, {}, body)
    event = json.loads(text)["event_id"]
    assert status == 200 and "Add an image first" in fetch(f"{path}/{event}", {})[1]
    assert "access-control-allow-origin" not in fetch(path, {"Origin": "https://example.org"}, body)[2]


def test_no_answer_may_be_stored_and_side_doors_are_closed(served: Served) -> None:
    status, _, headers = fetch(served.url, {})
    assert status == 200 and headers["Cache-Control"] == "no-store"
    for closed in ("gradio_api/deep_link?session_hash=x", "gradio_api/runs", "monitoring", "monitoring/summary"):
        assert fetch(served.url + closed, {})[0] == 404
