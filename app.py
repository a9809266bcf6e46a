"""The door: settings -> engine -> assistant -> page or command line.

Knows which parts there are and in which order they start. Does not know how any of them works.
Torch and Gradio are imported late, so that `--help` and a wrong flag are answered at once.
"""

import argparse
import difflib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chat import search_cli
from chat.settings import Settings, SettingsError, add_flags, flag, flags, is_address, is_contained, read_settings

if TYPE_CHECKING:
    from chat.assistant import Assistant
    from chat.engine.base import Sampling
    from chat.ui.lan import Access
    from chat.ui.panels import About
    from chat.wording import Language

ANSWERS_AT_ONCE = 16
LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a supervisor, a terminal that closes


class Parser(argparse.ArgumentParser):
    """Refuses with one sentence."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; --help lists every flag.")


def refuse(sentence: object) -> NoReturn:
    """One sentence on stderr, and exit code 2."""
    print(f"hilum: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python app.py [serve]`, `ask IMAGE QUESTION ...`, `examine PATH ...`, `report IMAGE` or `verify`; --help lists flags."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _refuse_unknown_flags(given)
    chosen = vars(_parser().parse_args(given))
    _prepare_environment()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(chosen)
    except SettingsError as error:
        refuse(error)
    from chat.engine.base import EngineError
    from vision.evidence import CheckpointError

    try:
        run(settings, chosen)
    except CheckpointError as error:
        refuse(_explained(error, settings) if error.reason else error)
    except (EngineError, SettingsError) as error:
        refuse(error)


def _explained(error: Exception, settings: Settings) -> str:
    from chat.ui.words import explain

    return explain(error, "ko" if settings.language == "ko" else "en")


def run(settings: Settings, chosen: Mapping[str, Any]) -> None:
    """The command that was chosen. Raises EngineError and CheckpointError."""
    if chosen.get("command") == "ask":
        ask(settings, Path(chosen["image"]), chosen["questions"], bool(chosen.get("json")))
    elif chosen.get("command") == "examine":
        examine(settings, [Path(path) for path in chosen["paths"]], chosen["json"], chosen["csv"])
    elif chosen.get("command") == "report":
        report(settings, Path(chosen["image"]), chosen["lang"], chosen["out"])
    elif chosen.get("command") == "verify":
        verify(settings, chosen["quick"], chosen["out"], chosen["json"])
    elif chosen.get("command") in search_cli.NAMES:
        with _mended_by_a_person("ko" if settings.language == "ko" else "en"):
            raise SystemExit(search_cli.run(settings, chosen))
    else:
        serve(settings)


def _parser() -> Parser:
    parser = Parser(prog="app.py", description="Hilum: a local conversation with an image.", allow_abbrev=False)
    add_flags(parser)
    commands = parser.add_subparsers(dest="command", metavar="serve | ask | examine | report | find | inspect | verify")
    add_flags(commands.add_parser("serve", help="serve the page (the default)", allow_abbrev=False))
    ask_parser = commands.add_parser("ask", help="ask about one image from the terminal", allow_abbrev=False)
    add_flags(ask_parser)
    ask_parser.add_argument("image", metavar="IMAGE")
    ask_parser.add_argument("questions", metavar="QUESTION", nargs="+")
    ask_parser.add_argument("--json", action="store_true", help="one JSON line per question")
    examine_parser = commands.add_parser("examine", help="what the classifier says about images", allow_abbrev=False)
    add_flags(examine_parser)
    examine_parser.add_argument("paths", metavar="PATH", nargs="+", help="an image, or a folder of them")
    examine_parser.add_argument("--json", action="store_true", help="one JSON line per image")
    examine_parser.add_argument("--csv", type=Path, metavar="OUT", help="a table with a row per image, as a file")
    report_parser = commands.add_parser("report", help="a report about one image, as a file", allow_abbrev=False)
    add_flags(report_parser)
    report_parser.add_argument("image", metavar="IMAGE")
    report_parser.add_argument("--lang", choices=("ko", "en"), help="its language; by default --language, else ko")
    report_parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".md, .html, .pdf or .json")
    verify_parser = commands.add_parser("verify", help="measure what a checkpoint is worth on this machine", allow_abbrev=False)
    add_flags(verify_parser)
    verify_parser.add_argument("--quick", action="store_true", help="a minute instead of ten")
    verify_parser.add_argument(
        "--out", type=Path, metavar="PATH", help="the file to write; by default verified.json in its folder"
    )
    verify_parser.add_argument("--json", action="store_true", help="the result as one JSON line; progress goes to stderr")
    search_cli.add_commands(commands, add_flags)
    return parser


def _refuse_unknown_flags(given: Sequence[str]) -> None:
    """argparse would take what follows an unknown flag for a command, and complain about that."""
    known = [flag(name) for name in flags()] + ["--no-four-bit", "--json", "--quick", "--out", "--csv", "--lang", "--help"]
    known += ["--no-lan", *search_cli.FLAGS]
    for name in (part.partition("=")[0] for part in given[: given.index("--") if "--" in given else None]):
        if name.startswith("--") and name not in known:
            if name == "--share":
                refuse("Hilum opens no share link; --lan opens the page to your own network, with a login.")
            near = difflib.get_close_matches(name, known, n=1)
            refuse(f"{name} is not a flag; " + (f"did you mean {near[0]}?" if near else "--help lists every flag."))


def _prepare_environment() -> None:
    """Before torch, transformers, gradio and openai: nothing calls home, and nobody's variables open a door behind our back."""
    for name in [name for name in os.environ if name.startswith(("GRADIO_", "OPENAI_", "FORWARDED_ALLOW_"))]:
        del os.environ[name]
    # Gradio tables every event (whose, when, how long) and reckons over all of them after each one.
    os.environ |= {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000"}
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def verify(settings: Settings, is_quick: bool, out: Path | None, as_json: bool) -> NoReturn:
    """Measure the checkpoint and end with 0, or with 1 when something is off."""
    if is_address(settings.model):
        refuse(f"verify measures a checkpoint on this machine; name its folder with {flag('model')}, not an address.")
    from chat import loading
    from chat import verify as verification

    folder = loading.find_checkpoint(settings)
    try:
        code = verification.run(folder, settings.device, settings.four_bit, is_quick, out, as_json)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(code)


@contextmanager
def _mended_by_a_person(language: "Language") -> Iterator[None]:
    """What a person can mend ends the program with one sentence in their language; Ctrl-C ends it without any."""
    from chat.assistant import RequestError
    from chat.ui.words import explain
    from vision.study import StudyError

    try:
        yield
    except OSError as error:
        refuse(f"{error.filename} cannot be read or written: {error.strerror or error}.")
    except (StudyError, RequestError) as error:
        refuse(explain(error, language))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _sampling(settings: Settings) -> "Sampling":
    from chat.engine.base import Sampling

    return Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, settings.seed)


def examine(settings: Settings, paths: Sequence[Path], as_json: bool, table: Path | None) -> NoReturn:
    """Say what vision vouches for about each image; ends with 1 when a file could not be read."""
    from chat import cli
    from chat.loading import open_examiner

    with _mended_by_a_person("en"):
        examiner = open_examiner(settings)
        if examiner is None:
            refuse(f"examine needs a classifier; leave out {flag('classifier')}=none.")
        raise SystemExit(1 if cli.examine(examiner, paths, settings.max_pixels, as_json, table) else 0)


def ask(settings: Settings, image: Path, questions: Sequence[str], as_json: bool) -> None:
    """Answer on the terminal. The image is read first: a wrong path is cheaper to find out than a model is to load."""
    from chat import cli
    from chat.loading import open_assistant

    with _mended_by_a_person("ko" if settings.language == "ko" else "en"):
        study = cli.read_image(image, settings.max_pixels)
        cli.ask(open_assistant(settings), study, questions, _sampling(settings), settings.turns, as_json)


def report(settings: Settings, image: Path, lang: "Language | None", out: Path) -> None:
    """Write a report about an image to a file. What cannot be read or written is found out before a model is loaded."""
    from chat import cli
    from chat.loading import open_assistant, weights_in_use
    from chat.report import terminal
    from chat.report.export import kind_of

    language: Language = lang or ("en" if settings.language == "en" else "ko")
    with _mended_by_a_person(language):
        kind_of(out)
        study = cli.read_image(image, settings.max_pixels)
        assistant = open_assistant(settings)
        terminal.report(assistant, study, language, _sampling(settings), out, weights_in_use(settings, assistant))


def serve(settings: Settings) -> None:
    """Serve the page until somebody stops it."""
    logging.getLogger("chat").setLevel(logging.INFO)
    for number in LEAVING:
        signal.signal(number, _leave)
    from chat.loading import open_assistant
    from chat.ui.lan import check_port, open_access
    from chat.ui.vault import VaultError, open_vault

    access = open_access(
        settings.hosts, settings.login, settings.login_file, settings.tls_certificate, settings.tls_key, is_contained()
    )
    check_port(settings.listen, settings.port)
    try:
        with open_vault():
            assistant = open_assistant(settings, offers=True)
            url = _open_page(settings, assistant, access)
            print(f"Hilum is ready: {url}", flush=True)
            if assistant.examiner:
                threading.Thread(target=assistant.examiner.warm_up, daemon=True).start()
            with closing(assistant.line):
                while True:  # a signal that another thread happens to get is handled when this one wakes
                    time.sleep(1)
    except VaultError as error:
        refuse(error)
    except KeyboardInterrupt:
        # An answer may be under way on another thread, and torch aborts when the interpreter goes from under it.
        os._exit(0)


def _leave(*_: object) -> NoReturn:
    for number in LEAVING:
        signal.signal(number, signal.SIG_IGN)  # a second one must not break off the leaving, which is soon over
    raise KeyboardInterrupt


def _open_page(settings: Settings, assistant: "Assistant", access: "Access") -> str:
    from chat.loading import acceptance_of
    from chat.ui import page
    from chat.ui.lan import check_port
    from vision.decode import pool

    pool().warm()

    language = None if settings.language == "auto" else settings.language
    is_elsewhere = is_address(settings.model) and (not settings.writer or is_address(settings.writer))
    at_once = ANSWERS_AT_ONCE if is_elsewhere else 1  # a device of our own answers one after another
    blocks = page.build(
        assistant, _about(settings, assistant), _sampling(settings), language, settings.max_pixels, settings.turns, at_once,
        acceptance_of(settings),
    )  # fmt: skip
    try:
        return page.launch(blocks, settings.listen, settings.port, access)
    except OSError:
        check_port(settings.listen, settings.port)  # somebody has taken it meanwhile
        raise


def _about(settings: Settings, assistant: "Assistant") -> "About":
    from chat.engine.local import LocalEngine
    from chat.engine.remote import RemoteEngine
    from chat.ui.panels import About

    engine, writer = assistant.engine, assistant.writer
    context = engine.limits.context_tokens
    second = (writer.name if writer else "", writer.address if isinstance(writer, RemoteEngine) else None)
    if isinstance(engine, RemoteEngine):
        return About(engine.name, engine.address.host, "", False, context, engine.address, *second)
    assert isinstance(engine, LocalEngine)
    from chat.engine.checkpoint import EMBEDDED
    from chat.loading import find_checkpoint

    said, is_embedded = engine.description, find_checkpoint(settings).name == EMBEDDED
    return About(engine.name, said["device"], said["weights"], is_embedded, context, None, *second, fit=engine.fit)


if __name__ == "__main__":
    main()
