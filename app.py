"""The door: settings -> engine -> assistant -> page or command line.

Knows which parts there are and in which order they start. Does not know how any of them works.
Torch and Gradio are imported late, so that `--help` and a wrong flag are answered at once.
"""

import argparse
import difflib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from chat.settings import Settings, SettingsError, add_flags, flag, flags, is_address, read_settings

if TYPE_CHECKING:
    from pydantic import SecretStr

    from chat.engine.local import LocalEngine
    from chat.engine.remote import RemoteEngine
    from chat.engine.text import TextEngine
    from chat.ui.panels import About
    from chat.wording import Language

ROOT = Path(__file__).parent
ANSWERS_AT_ONCE = 16


class Parser(argparse.ArgumentParser):
    """Refuses with one sentence."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; --help lists every flag.")


def refuse(sentence: object) -> NoReturn:
    """One sentence on stderr, and exit code 2."""
    print(f"hilum: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python app.py [serve]`, `ask IMAGE QUESTION [QUESTION ...] [--json]` or `verify [--quick] [--json] [--out PATH]`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _refuse_unknown_flags(given)
    chosen = vars(_parser().parse_args(given))
    _prepare_environment()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(chosen)
    except SettingsError as error:
        refuse(error)
    if chosen.get("command") == "ask":
        ask(settings, Path(chosen["image"]), chosen["questions"], bool(chosen.get("json")))
    elif chosen.get("command") == "verify":
        verify(settings, chosen["quick"], chosen["out"], chosen["json"])
    else:
        serve(settings)


def _parser() -> Parser:
    parser = Parser(prog="app.py", description="Hilum: a local conversation with an image.", allow_abbrev=False)
    add_flags(parser)
    commands = parser.add_subparsers(dest="command", metavar="serve | ask | verify")
    add_flags(commands.add_parser("serve", help="serve the page (the default)", allow_abbrev=False))
    ask_parser = commands.add_parser("ask", help="ask about one image from the terminal", allow_abbrev=False)
    add_flags(ask_parser)
    ask_parser.add_argument("image", metavar="IMAGE")
    ask_parser.add_argument("questions", metavar="QUESTION", nargs="+")
    ask_parser.add_argument("--json", action="store_true", help="one JSON line per question")
    verify_parser = commands.add_parser("verify", help="measure what a checkpoint is worth on this machine", allow_abbrev=False)
    add_flags(verify_parser)
    verify_parser.add_argument("--quick", action="store_true", help="a minute instead of ten")
    verify_parser.add_argument(
        "--out", type=Path, metavar="PATH", help="the file to write; by default verified.json in its folder"
    )
    verify_parser.add_argument("--json", action="store_true", help="the result as one JSON line; progress goes to stderr")
    return parser


def _refuse_unknown_flags(given: Sequence[str]) -> None:
    """argparse would take what follows an unknown flag for a command, and complain about that."""
    known = [flag(name) for name in flags()] + ["--no-four-bit", "--json", "--quick", "--out", "--help"]
    for name in (part.partition("=")[0] for part in given[: given.index("--") if "--" in given else None]):
        if name.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            refuse(f"{name} is not a flag; " + (f"did you mean {near[0]}?" if near else "--help lists every flag."))


def _prepare_environment() -> None:
    """Before torch, transformers, gradio and openai: nothing calls home, and nobody's variables open a door behind our back."""
    for name in [name for name in os.environ if name.startswith(("GRADIO_", "OPENAI_"))]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def open_engine(settings: Settings) -> "LocalEngine | RemoteEngine":
    """The engine that the settings ask for, ready to answer. Ends the program with a sentence when it is not there."""
    return _reach_engine(settings) if is_address(settings.model) else _load_engine(settings)


def _reach_engine(settings: Settings) -> "RemoteEngine":
    from chat.engine.base import EngineError

    try:
        return _connect(settings.model, settings.remote_name, settings.api_key, settings.remote_images, settings.remote_context)
    except EngineError as error:
        refuse(error)


def _connect(
    address: str, name: str | None, key: "SecretStr | None", max_images: int, context_tokens: int | None = None
) -> "RemoteEngine":
    from chat.engine.address import read_address
    from chat.engine.remote import connect

    return connect(read_address(address), name, key.get_secret_value() if key else "", max_images, context_tokens)


def open_writer(settings: Settings) -> "TextEngine | RemoteEngine | None":
    """The model that writes the answers, where the settings ask for one."""
    if not settings.writer:
        return None
    from chat.engine.base import EngineError
    from chat.writer import for_writer

    try:
        if is_address(settings.writer):
            return _connect(settings.writer, settings.writer_name, settings.writer_key, max_images=0)
        from chat.engine import text

        return text.load(Path(settings.writer), settings.device, settings.four_bit)
    except EngineError as error:
        refuse(for_writer(str(error)))


def _load_engine(settings: Settings) -> "LocalEngine":
    from chat.engine import checkpoint
    from chat.engine.base import EngineError
    from chat.engine.local import LocalEngine

    try:
        engine = LocalEngine(checkpoint.load(_find_checkpoint(settings), settings.device, settings.four_bit))
        engine.warm_up()
    except EngineError as error:
        refuse(error)
    return engine


def _find_checkpoint(settings: Settings) -> Path:
    from chat.engine.checkpoint import find_default

    return find_default(ROOT / "models", ROOT / "weights") if settings.model == "auto" else Path(settings.model)


def verify(settings: Settings, is_quick: bool, out: Path | None, as_json: bool) -> NoReturn:
    """Measure the checkpoint and end with 0, or with 1 when something is off."""
    if is_address(settings.model):
        refuse(f"verify measures a checkpoint on this machine; name its folder with {flag('model')}, not an address.")
    from chat import verify as verification
    from chat.engine.base import EngineError

    try:
        code = verification.run(_find_checkpoint(settings), settings.device, settings.four_bit, is_quick, out, as_json)
    except EngineError as error:
        refuse(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(code)


def ask(settings: Settings, image: Path, questions: Sequence[str], as_json: bool) -> None:
    """Answer on the terminal. The image is read first: a wrong path is cheaper to find out than a model is to load."""
    from chat import cli
    from chat.assistant import Assistant, RequestError
    from chat.engine.base import EngineError, Sampling
    from chat.ui.words import explain
    from vision.study import StudyError

    language: Language = "ko" if settings.language == "ko" else "en"
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed)
    try:
        study = cli.read_image(image, settings.max_pixels)
        engine = open_engine(settings)
        assistant = Assistant(engine, engine.input_side, open_writer(settings))
        cli.ask(assistant, study, questions, sampling, settings.turns, as_json)
    except OSError as error:
        refuse(f"{image} cannot be read: {error.strerror or error}.")
    except (StudyError, RequestError) as error:
        refuse(explain(error, language))
    except EngineError as error:
        refuse(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def serve(settings: Settings) -> None:
    """Serve the page until somebody stops it."""
    logging.getLogger("chat").setLevel(logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    _refuse_taken_port(settings.host, settings.port)
    try:
        # Uploads pass through this folder; it is nobody else's, and it goes when Hilum goes.
        with tempfile.TemporaryDirectory(prefix="hilum-") as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder
            engine = open_engine(settings)
            url = _open_page(settings, engine, open_writer(settings))
            print(f"Hilum is ready: {url}", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        # An answer may be under way on another thread, and torch aborts when the interpreter goes from under it.
        os._exit(0)


def _leave(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _open_page(settings: Settings, engine: "LocalEngine | RemoteEngine", writer: "TextEngine | RemoteEngine | None") -> str:
    from chat.assistant import Assistant
    from chat.engine.base import Sampling
    from chat.ui import page

    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed)
    language = None if settings.language == "auto" else settings.language
    is_elsewhere = is_address(settings.model) and (not settings.writer or is_address(settings.writer))
    at_once = ANSWERS_AT_ONCE if is_elsewhere else 1  # a device of our own answers one after another
    blocks = page.build(
        Assistant(engine, engine.input_side, writer), _about(engine, writer),
        sampling, language, settings.max_pixels, settings.turns, at_once,
    )  # fmt: skip
    try:
        return page.launch(blocks, settings.host, settings.port)
    except OSError:
        refuse(_taken(settings.port))


def _about(engine: "LocalEngine | RemoteEngine", writer: "TextEngine | RemoteEngine | None") -> "About":
    from chat.engine.remote import RemoteEngine
    from chat.ui.panels import About

    context = engine.limits.context_tokens
    second = (writer.name if writer else "", writer.address if isinstance(writer, RemoteEngine) else None)
    if isinstance(engine, RemoteEngine):
        return About(engine.name, engine.address.host, "", False, context, engine.address, *second)
    from chat.engine.checkpoint import EMBEDDED

    device, weights = engine.description["device"], engine.description["weights"]
    return About(engine.name, device, weights, engine.name == EMBEDDED, context, None, *second)


def _taken(port: int) -> str:
    return f"port {port} is in use by another program; stop that one, or choose another with {flag('port')}."


def _refuse_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except PermissionError:
            refuse(f"port {port} needs more rights than this user has; choose one above 1023 with {flag('port')}.")
        except OSError:
            refuse(_taken(port))


if __name__ == "__main__":
    main()
