"""The command line, from outside: what it prints, where, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from served import build_checkpoint, free_port

ROOT = Path(__file__).parents[1]
KEYS = {
    "answer", "observations", "writer_error", "model", "turn", "turns_in_window", "prompt_tokens", "views",
    "prompt_hash", "first_token_seconds", "tokens_per_second",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    tiny.picture(1, (200, 120)).save(path)
    return path


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "app.py", *map(str, arguments)]
    own = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=100, check=False)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One sentence on stderr, nothing on stdout, exit code 2."""
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_ask_prints_one_json_line_per_question_and_nothing_else(checkpoint: Path, image: Path) -> None:
    done = run(
        "ask", image, "Is it red?", "어디에 있나요?", "--json", "--model", checkpoint, "--max-new-tokens", 6, "--seed", 1
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first.keys() == second.keys() == KEYS
    assert (first["turn"], first["turns_in_window"], second["turn"], second["turns_in_window"]) == (1, 0, 2, 1)
    assert first["views"][0] == {"kind": "overview", "box": [0, 0, 200, 120]} and len(first["views"]) > 1


@pytest.mark.slow
def test_ask_prints_the_bare_answer_and_listens_to_the_environment(checkpoint: Path, image: Path) -> None:
    done = run("ask", "--temperature=0", image, "Is it red?", HILUM_MODEL=str(checkpoint), HILUM_MAX_NEW_TOKENS="6")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() and not done.stdout.startswith("{")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prot", "1"], ["--prot", "--port"]),
        (["--temperature", "hot"], ["--temperature=hot"]),
        (["bake"], ["bake", "serve"]),
        (["ask", "only-an-image.png"], ["QUESTION"]),
        (["ask", "no-such-image.png", "What?"], ["no-such-image.png", "No such file"]),
        (["ask", "README.md", "What?"], ["not an image"]),
        (["ask", "README.md", "뭐지?", "--language", "ko"], ["이미지 파일이 아닙니다"]),
        (["--host", "0.0.0.0"], ["HILUM_CONTAINER"]),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(arguments: list[str], words: list[str]) -> None:
    assert_refused(run(*arguments), *words)


def test_a_misspelt_variable_is_one_sentence_and_exit_code_2() -> None:
    assert_refused(run("serve", HILUM_PROT="1"), "HILUM_PROT", "HILUM_PORT")


def test_a_port_in_use_is_one_sentence_and_exit_code_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert_refused(run("--port", taken.getsockname()[1]), str(taken.getsockname()[1]), "in use", "--port")


def test_a_model_that_is_not_there_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    assert_refused(run("serve", "--port", free_port(), "--model", tmp_path / "nothing"), "no checkpoint", "nothing")


def test_help_is_quick_and_names_every_flag() -> None:
    started = time.perf_counter()
    done = run("--help")
    assert done.returncode == 0 and "--max-new-tokens" in done.stdout
    assert time.perf_counter() - started < 5


def test_serving_shares_nothing_logs_nothing_private_and_leaves_no_folder(checkpoint: Path, tmp_path: Path) -> None:
    """Gradio's own variables are not heard, and SIGTERM ends in good order."""
    wishes = {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/", "TMPDIR": str(tmp_path)}
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--model", str(checkpoint)]
    own = {**os.environ, **wishes}
    with subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        said = server.stdout.readline()
        held = [Path(file).resolve() for file in Path(f"/proc/{server.pid}/fd").iterdir()]
        served = [path for path in held if path.name.startswith("hilum-vault-")]
        server.send_signal(signal.SIGTERM)
        rest, logged = server.communicate(timeout=30)
    assert said == f"Hilum is ready: http://127.0.0.1:{port}/\n" and rest == ""
    assert server.returncode == 0
    assert "'device': 'cpu'" in logged and "gradio.live" not in logged
    assert served and not any(path.exists() for path in served)
