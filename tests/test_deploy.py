"""The compose file and the image: what they lock, and that they fit each other and the settings."""

import copy
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from chat.engine.store import SIXTEEN_BIT_LLAVA
from chat.settings import CONTAINER, Settings, is_address, read_settings, variable

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SOURCE = (DEPLOY / "compose.yaml").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
EVERYTHING = re.sub(r"#\+ ", "", SOURCE)

Compose = dict[str, Any]
SILENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
LOOSE = ("privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode", "volumes_from", "extra_hosts")


def offences(compose: Compose) -> Iterator[str]:
    """What stands open in a compose file that should not."""
    for name, service in compose["services"].items():
        if service.get("read_only") is not True or not service.get("tmpfs"):
            yield f"{name} can write"
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name} has rights"
        yield from (f"{name} has {key}" for key in LOOSE if key in service)
        yield from (f"{name} mounts {mount}" for mount in service.get("volumes", []) if not is_read_only(mount))
        if not re.search(r":v?\d+\.\d+\.\d+$", service["image"]):
            yield f"{name} is not pinned"
        ports = service.get("ports", [])
        if name != "hilum" and (ports or not all(compose["networks"][each].get("internal") for each in service["networks"])):
            yield f"{name} can be reached"
        if [port for port in ports if not str(port).startswith("127.0.0.1:")]:
            yield f"{name} is published"
        if name != "hilum" and not SILENT.items() <= service["environment"].items():
            yield f"{name} calls home"
        if name != "vllm" and "deploy" in service:
            yield f"{name} takes the GPU"
        known = {variable(field) for field in Settings.model_fields} | {CONTAINER}
        yield from (f"{key} is no setting" for key in service["environment"] if key.startswith("HILUM_") and key not in known)


def is_read_only(mount: object) -> bool:
    return isinstance(mount, dict) and mount["read_only"] is True and mount["bind"]["create_host_path"] is False


@pytest.fixture(params=[SOURCE, EVERYTHING], ids=["as it is", "with what is for choice"])
def compose(request: pytest.FixtureRequest) -> Compose:
    read: Compose = yaml.safe_load(request.param)
    return read


def flags(compose: Compose) -> dict[str, str]:
    command = compose["services"]["vllm"]["command"]
    return {name: value for name, _, value in (each.partition("=") for each in command[1:])}


def mounts(compose: Compose) -> dict[str, str]:
    """Sources by target, with the defaults of what a person may name otherwise."""
    volumes = compose["services"]["vllm"]["volumes"]
    return {mount["target"]: re.sub(r"\$\{\w+:-(.*)\}", r"\1", mount["source"]) for mount in volumes}


def test_nothing_stands_open(compose: Compose) -> None:
    assert list(offences(compose)) == []


def change(service: str, **values: object) -> Callable[[Compose], None]:
    return lambda compose: compose["services"][service].update(values)


@pytest.mark.parametrize(
    "loosen",
    [
        change("hilum", read_only=False),
        change("hilum", ports=["7860:7860"]),
        change("hilum", image="hilum"),
        change("hilum", deploy={}),
        change("hilum", environment={"HILUM_MODLE": "x"}),
        change("vllm", image="vllm/vllm-openai:latest"),
        change("vllm", cap_drop=[]),
        change("vllm", security_opt=["seccomp:unconfined"]),
        change("vllm", ipc="host"),
        change("vllm", volumes=["../weights:/models"]),
        change("vllm", ports=["127.0.0.1:8000:8000"]),
        change("vllm", networks=["model", "page"]),
        change("vllm", environment={"DO_NOT_TRACK": "1"}),
        lambda compose: compose["networks"]["model"].clear(),
    ],
)
def test_whatever_is_opened_is_seen(loosen: Callable[[Compose], None]) -> None:
    compose = copy.deepcopy(yaml.safe_load(SOURCE))
    loosen(compose)
    assert len(list(offences(compose))) == 1


def test_the_page_has_no_way_out_but_its_published_port(compose: Compose) -> None:
    page, model = compose["networks"]["page"], compose["networks"]["model"]
    assert page["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"} and model["internal"] is True
    assert compose["services"]["hilum"]["networks"] == ["page", "model"]


def test_hilum_starts_with_these_settings_and_asks_for_what_vllm_serves(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in compose["services"]["hilum"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings, served = read_settings({}, tmp_path / ".env"), flags(compose)
    address = urlsplit(settings.model)
    assert is_address(settings.model) and address.path == "/v1"
    assert address.hostname in compose["services"] and str(address.port) == served["--port"]
    assert settings.remote_name == served["--served-model-name"]
    assert served["--limit-mm-per-prompt"] == f'{{"image":{settings.remote_images}}}'


def test_what_vllm_reads_is_mounted_and_there(compose: Compose) -> None:
    mounted, served = mounts(compose), flags(compose)
    template = DEPLOY / mounted[served["--chat-template"]]
    assert "ASSISTANT:" in template.read_text("utf-8")
    weights = mounted[compose["services"]["vllm"]["command"][0]]
    assert (DEPLOY / weights).resolve() == ROOT / "weights" / SIXTEEN_BIT_LLAVA
    adapter = served.get("--lora-modules", "").partition("=")[2]
    assert not adapter or ("--enable-lora" in served and str(Path(adapter).parent) in mounted)


def test_the_choices_are_other_lines_than_the_comments() -> None:
    assert (
        len(yaml.safe_load(EVERYTHING)["services"]["vllm"]["command"])
        == len(yaml.safe_load(SOURCE)["services"]["vllm"]["command"]) + 4
    )


def test_hilums_image_is_built_here_under_this_version(compose: Compose) -> None:
    hilum = compose["services"]["hilum"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert hilum["image"] == f"hilum:{version}" and hilum["pull_policy"] == "build"
    assert (DEPLOY / hilum["build"]["context"]).resolve() == ROOT
    assert hilum["depends_on"] == {"vllm": {"condition": "service_healthy"}}


def test_hilums_image_runs_without_rights_and_holds_what_it_copies() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "hilum"
    kept = (ROOT / ".dockerignore").read_text("utf-8").split()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert {"app.py", "chat", "vision", "models"} <= set(copied)
    assert [name for name in copied if f"!{name}" not in kept or not (ROOT / name).exists()] == []


@contextmanager
def server(status: int) -> Iterator[int]:
    """Answers every request with this status; yields its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running.server_port
        running.shutdown()


def checks() -> dict[str, list[str]]:
    """The command of each container's health check."""
    own = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert own
    return {"hilum": yaml.safe_load(own[1]), "vllm": yaml.safe_load(SOURCE)["services"]["vllm"]["healthcheck"]["test"][1:]}


@pytest.mark.parametrize("name", ["hilum", "vllm"])
@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_a_health_check_knows_health_from_illness(name: str, status: int, is_healthy: bool) -> None:
    program, flag, code = checks()[name]
    assert program.startswith("python") and flag == "-c"
    with server(status) as port:
        here = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", code)
        run = subprocess.run([sys.executable, "-c", here], capture_output=True, timeout=60, check=False)
    assert here != code and (run.returncode == 0) is is_healthy
