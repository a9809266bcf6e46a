"""Settings: which source is stronger, and what is said about a wrong one."""

import argparse
from pathlib import Path

import pytest

from chat.settings import Settings, SettingsError, add_flags, flag, flags, is_address, read_settings, variable

NOWHERE = Path("/nowhere/.env")


def test_defaults_are_those_of_the_readme() -> None:
    settings = read_settings({}, NOWHERE)
    assert (settings.host, settings.port, settings.model, settings.turns) == ("127.0.0.1", 7860, "auto", 5)
    assert (settings.temperature, settings.top_p, settings.max_pixels) == (0.1, 0.8, 200_000_000)


def test_a_flag_is_stronger_than_the_environment_and_that_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("HILUM_TURNS=2\nHILUM_PORT=7001\nHILUM_TOP_P=0.5\nOTHER=1\n")
    monkeypatch.setenv("HILUM_PORT", "7002")
    monkeypatch.setenv("HILUM_TOP_P", "0.6")
    settings = read_settings({"top_p": "0.7"}, dotenv)
    assert (settings.turns, settings.port, settings.top_p) == (2, 7002, 0.7)


@pytest.mark.parametrize(("written", "read"), [("1", True), ("false", False), ("", None), ("auto", None)])
def test_four_bit_is_yes_no_or_left_to_hilum(written: str, read: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_FOUR_BIT", written)
    assert read_settings({}, NOWHERE).four_bit is read


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_misspelt_variable_is_refused_with_a_suggestion(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv = tmp_path / ".env"
    if where == "file":
        dotenv.write_text("HILUM_MAX_PIXEL=5\n")
    else:
        monkeypatch.setenv("HILUM_MAX_PIXEL", "5")
    with pytest.raises(SettingsError, match=r"HILUM_MAX_PIXEL is not a setting of Hilum; did you mean HILUM_MAX_PIXELS\?"):
        read_settings({}, dotenv)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("turns", "21"),
        ("turns", "0"),
        ("temperature", "-1"),
        ("temperature", "nan"),
        ("top_p", "0"),
        ("seed", "-3"),
        ("device", "tpu"),
        ("language", "fr"),
        ("max_pixels", "0"),
        ("max_new_tokens", "0"),
        ("remote_images", "0"),
        ("remote_context", "12"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_flag_and_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value}, NOWHERE)
    sentence = str(caught.value)
    assert sentence.startswith(f"{flag(name)}={value} cannot be used: it ") and "\n" not in sentence


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_only_a_container_opens_the_door_to_others(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="HILUM_CONTAINER"):
        read_settings({"host": host}, NOWHERE)
    monkeypatch.setenv("HILUM_CONTAINER", "0")
    with pytest.raises(SettingsError):
        read_settings({"host": host}, NOWHERE)
    monkeypatch.setenv("HILUM_CONTAINER", "1")
    assert read_settings({"host": host}, NOWHERE).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_is_always_allowed(host: str) -> None:
    assert read_settings({"host": host}, NOWHERE).host == host


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings({}, NOWHERE).port = 1  # type: ignore[misc]


def test_every_setting_is_in_the_example_file() -> None:
    example = (Path(__file__).parents[1] / ".env.example").read_text("utf-8")
    assert [variable(name) for name in Settings.model_fields if variable(name) not in example] == []


def test_a_key_comes_from_environment_or_file_and_is_never_a_flag_nor_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("HILUM_API_KEY=sk-from-file\n")
    from_file = read_settings({"api_key": "sk-from-flag"}, dotenv)
    assert from_file.api_key is not None and from_file.api_key.get_secret_value() == "sk-from-file"
    monkeypatch.setenv("HILUM_API_KEY", "sk-from-environment")
    settings = read_settings({}, dotenv)
    assert settings.api_key is not None and settings.api_key.get_secret_value() == "sk-from-environment"
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert all("sk-from" not in shown for shown in (repr(settings), str(settings), parser.format_help()))
    assert "api_key" not in flags() and "--api-key" not in parser.format_help()


@pytest.mark.parametrize(
    ("model", "is_remote"),
    [("http://127.0.0.1:8000/v1", True), (" HTTPS://x", True), ("auto", False), ("weights/http", False), ("", False)],
)
def test_an_address_is_told_from_a_folder(model: str, is_remote: bool) -> None:
    assert is_address(model) is is_remote
