"""Settings: what a person can choose before Hilum starts, as one frozen object.

Knows defaults, `.env`, HILUM_* variables and command-line flags, in that order of strength. Does not know what they set
in motion: values are read once, in `app.py`, and handed down as plain arguments.
"""

import argparse
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chat.conversation import DEFAULT_TURNS, MOST_TURNS

PREFIX = "HILUM_"
CONTAINER = "HILUM_CONTAINER"
DOTENV = Path(".env")


class SettingsError(Exception):
    """A setting cannot be used; the message says which one, why, and what to write instead."""


class Settings(BaseSettings):
    """Every setting is a variable (`HILUM_MAX_PIXELS`) and, unless it is secret, a flag (`--max-pixels`)."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    port: int = Field(7860, ge=1, le=65535, description="port of the page")
    login: SecretStr | None = Field(
        None, description="user:password of who may come in; in .env or the environment, never a flag"
    )
    login_file: Path | None = Field(None, description="a file with a user:password on each line, readable for you alone")
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain; the page then speaks https")
    tls_key: Path | None = Field(None, description="PEM file with its key, without a passphrase")
    hosts: str = Field(
        "", description="names, with commas, that others reach the page by, such as a proxy's: hilum.example.org"
    )
    lan: bool = Field(False, description="open the page to the network; needs a login and a certificate")
    host: str = Field(
        "127.0.0.1", description="address to listen on: this machine alone; with --lan 0.0.0.0, all of its networks"
    )
    model: str = Field(
        "auto", description="folder of a LLaVA checkpoint, or an http(s) address; auto: weights/, else the embedded"
    )
    remote_name: str | None = Field(None, description="the model's name at that address; by default the only one there")
    remote_images: int = Field(1, ge=1, le=32, description="images that it reads in one prompt")
    remote_context: int | None = Field(None, ge=256, description="its context in tokens; by default what it says, else 4096")
    api_key: SecretStr | None = Field(None, description="its key; in .env or the environment, never a flag")
    writer: str | None = Field(
        None, description="a second model that writes the answers: folder of a text model, or an http(s) address"
    )
    writer_name: str | None = Field(None, description="the writer's name at its address; by default the only one there")
    writer_key: SecretStr | None = Field(None, description="the writer's key; in .env or the environment, never a flag")
    classifier: str = Field(
        "auto", description="folder of an image classifier, or a ResNet34 .pth; auto: the one that ships; none: without"
    )
    segmenter: str = Field(
        "auto", description="folder of a segmenter of films; auto: the one that ships, for lungs; none: no masks"
    )
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="where the model runs")
    four_bit: bool | None = Field(None, description="load in 4 bits; by default only where it helps")
    adapter: str = Field(
        "auto",
        description="folder of an adapter of the model; auto: the page offers MODEL-radiology, if it is beside; none: without",
    )
    language: Literal["auto", "ko", "en"] = Field("auto", description="language of the page; auto follows the browser")
    turns: int = Field(DEFAULT_TURNS, ge=1, le=MOST_TURNS, description="earlier turns that the model sees")
    max_pixels: int = Field(200_000_000, ge=1, description="largest image that is read; larger ones are refused")
    seed: int | None = Field(None, ge=0, lt=2**63, description="seed of the sampling; none: different every time")
    temperature: float = Field(0.1, ge=0, le=2, description="0 always takes the likeliest token")
    top_p: float = Field(0.8, gt=0, le=1, description="sample among the likeliest tokens up to this probability")
    max_new_tokens: int = Field(512, ge=1, le=4096, description="longest answer in tokens")

    @field_validator("four_bit", "seed", "remote_context", mode="before")
    @classmethod
    def _nothing_written(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "none", "auto") else value

    @field_validator("hosts")
    @classmethod
    def _only_names(cls, hosts: str) -> str:
        for name in hosts.replace(",", " ").split():
            if not re.fullmatch(r"[\w-]+(\.[\w-]+)*|\[?[\da-fA-F:]+\]?", name, re.ASCII):
                raise ValueError("must be names alone, such as hilum.example.org, without https:// and port; * is not one")
        return hosts

    @field_validator("lan")
    @classmethod
    def _only_locked(cls, lan: bool, info: ValidationInfo) -> bool:
        given = info.data
        if lan and not (
            (given.get("login") or given.get("login_file")) and given.get("tls_certificate") and given.get("tls_key")
        ):
            raise ValueError(
                "needs --tls-certificate and --tls-key, and user:password in HILUM_LOGIN or --login-file; without them "
                "everybody on the network could read along"
            )
        return lan

    @field_validator("host")
    @classmethod
    def _stay_inside(cls, host: str, info: ValidationInfo) -> str:
        if not (is_loopback(host) or info.data.get("lan") or is_contained()):
            raise ValueError(f"must be this machine alone, such as 127.0.0.1; only --lan or {CONTAINER}=1 allows others")
        return host

    @property
    def listen(self) -> str:
        """The address to listen on: `host`, or every network of this machine where --lan came without one."""
        return "0.0.0.0" if self.lan and "host" not in self.model_fields_set else self.host


def is_contained() -> bool:
    """Whether this is a container, which nobody reaches but through the port that is published."""
    return os.environ.get(CONTAINER) == "1"


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_address(model: str) -> bool:
    """Whether a model is somewhere else: behind an http(s) address rather than in a folder."""
    return model.strip().lower().startswith(("http://", "https://"))


def flags() -> list[str]:
    """The settings that may stand on a command line, which every program on the machine can read: none that is secret."""
    return [name for name, field in Settings.model_fields.items() if field.annotation != SecretStr | None]


def flag(name: str) -> str:
    """The flag of a setting: `max_pixels` is `--max-pixels`."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Every setting as a flag; a flag that is not given stays out of the namespace. Values are checked by Settings."""
    for name in flags():
        field = Settings.model_fields[name]
        shown = "" if field.default is None else f" (default {field.default})"
        text = f"{field.description}{shown}".replace("%", "%%")
        if field.annotation in (bool, bool | None):
            parser.add_argument(flag(name), action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        else:
            parser.add_argument(flag(name), metavar=name.upper(), default=argparse.SUPPRESS, help=text)


def read_settings(given: Mapping[str, Any], dotenv: Path = DOTENV) -> Settings:
    """Defaults, then `dotenv`, then the environment, then `given` flags. Raises SettingsError with one sentence."""
    _refuse_misspelt([*os.environ, *dotenv_values(dotenv)])
    chosen = {name: given[name] for name in flags() if name in given}
    try:
        return Settings(_env_file=dotenv, **chosen)
    except ValidationError as error:
        raise SettingsError(_sentence(error, chosen)) from None


def _refuse_misspelt(names: Sequence[str]) -> None:
    known = [variable(name) for name in Settings.model_fields] + [CONTAINER]
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else "the settings are: " + ", ".join(known) + "."
            raise SettingsError(f"{name} is not a setting of Hilum; {hint}")


def _sentence(error: ValidationError, given: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    shown = flag(name) if name in given else variable(name)
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{shown}={first['input']} cannot be used: it {reason}."
