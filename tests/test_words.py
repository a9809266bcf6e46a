"""Words: both languages say everything, and every error has its sentence."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from chat.assistant import RequestError
from chat.engine.base import DoesNotFit, EngineError, EngineRefused, EngineUnavailable, OutOfMemory
from chat.ui.words import ERRORS, WORDS, explain, word
from chat.wording import LANGUAGES, Language, evidence_lines
from vision.evidence import Evidence
from vision.study import Reason, StudyError

ROOT = Path(__file__).parents[1]
UI = ROOT / "chat" / "ui"


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def raised(name: str) -> Iterator[tuple[str, set[str]]]:
    """The reason and the fields of every `raise name(...)` in our code."""
    for path in [*ROOT.glob("chat/**/*.py"), *ROOT.glob("vision/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                reason = node.args[0]
                assert isinstance(reason, ast.Constant), f"{path}:{node.lineno} hides its reason"
                yield str(reason.value), {keyword.arg or "" for keyword in node.keywords}


@pytest.mark.parametrize("table", [WORDS, ERRORS])
def test_both_languages_have_the_same_keys_and_the_same_fields(table: dict[str, dict[str, str]]) -> None:
    assert table["ko"].keys() == table["en"].keys()
    assert [key for key in table["ko"] if fields(table["ko"][key]) != fields(table["en"][key])] == []


def test_korean_is_korean_and_english_is_not() -> None:
    hangul = re.compile("[가-힣]")
    universal = {"formats", "top_p", "prompt_hash"}
    assert [key for key, text in {**WORDS["ko"], **ERRORS["ko"]}.items() if not hangul.search(text)] == sorted(universal)
    assert [key for key, text in {**WORDS["en"], **ERRORS["en"]}.items() if hangul.search(text)] == []


def test_every_reason_to_refuse_a_file_is_worded() -> None:
    assert {f"study.{reason}" for reason in get_args(Reason)} == {key for key in ERRORS["en"] if key.startswith("study.")}


def test_every_reason_to_refuse_a_question_is_worded() -> None:
    assert {f"request.{reason}" for reason, _ in raised("RequestError")} == {
        key for key in ERRORS["en"] if key.startswith("request.")
    }


@pytest.mark.parametrize(("name", "prefix"), [("StudyError", "study"), ("RequestError", "request")])
def test_every_error_brings_the_fields_of_its_sentence(name: str, prefix: str) -> None:
    found = [(reason, given) for reason, given in raised(name)]
    assert len(found) > 5
    assert [reason for reason, given in found if not fields(ERRORS["ko"][f"{prefix}.{reason}"]) <= given] == []


ENGINE_ERRORS = [DoesNotFit(5000, 4096), OutOfMemory("x"), EngineRefused("x"), EngineUnavailable("x"), EngineError("x")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_engine_error_is_a_sentence_of_its_own(language: str) -> None:
    sentences = {explain(error, language) for error in [*ENGINE_ERRORS, ZeroDivisionError("x")]}  # type: ignore[arg-type]
    assert len(sentences) == 6
    assert all("{" not in sentence and sentence.endswith(".") for sentence in sentences)


def test_an_error_is_worded_by_its_fields_and_not_by_its_text() -> None:
    error = StudyError("too_many_pixels", "nothing of this", width=30000, height=30000, limit=200_000_000)
    assert "30,000 × 30,000" in explain(error, "ko") and "200,000,000" in explain(error, "en")
    assert "nothing" not in explain(error, "en")
    error = RequestError("empty_question", "x")
    assert [explain(error, language) for language in LANGUAGES] == ["질문을 먼저 적어 주세요.", "Type a question first."]


def test_numbers_are_written_with_separators() -> None:
    assert word("token_use", "en", used=1234, limit=4096) == "1,234 / 4,096 tokens"


def test_every_word_is_used_and_every_used_word_is_there() -> None:
    code = "\n".join(path.read_text("utf-8") for path in [*UI.glob("*.py"), *UI.glob("*.js")] if path.name != "words.py")
    built = {f"view_{kind}" for kind in ("overview", "tile", "region")} | {f"{name}_info" for name in ("temperature", "top_p")}
    built |= {"seed_info", "crops_info"}
    unused = [key for key in WORDS["en"] if key not in built and not re.search(rf"""["'.]{key}\b""", code)]
    assert unused == []
    asked = set(re.findall(r"words\.([a-z_]+)", code)) - {"too_large", "upload_lost", "split", "py"}
    assert sorted(asked - WORDS["en"].keys()) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_a_picture_that_is_no_film_the_model_is_told_nothing_by_the_classifier(language: Language) -> None:
    refused, adult = (Evidence(notes=(note,)) for note in ("not_a_radiograph", "outside_population"))
    assert evidence_lines(refused, language) == [] and len(evidence_lines(adult, language)) == 2
