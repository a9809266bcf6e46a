"""The house stands as it is drawn: who imports whom, how large things are, and what the README's map says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("app", "chat", "vision", "finetune", "benchmarks")

MAY_IMPORT = {
    "app": {"chat", "vision"},
    "chat": {"chat", "vision"},
    "vision": {"vision"},
    "finetune": {"finetune", "chat", "vision"},
    "benchmarks": {*ROOMS, "tests"},
}
# What only some places may import; a place is a file or a folder.
ONLY_IN = {
    "gradio": ("app.py", "chat/ui"),
    "httpx": ("chat/engine/remote.py", "benchmarks"),
    "httpx2": ("chat/engine/hub.py", "chat/engine/remote.py"),
    "huggingface_hub": ("chat/engine/hub.py",),
    "openai": ("chat/engine/remote.py",),
    "requests": ("chat/engine/remote.py",),
    "aiohttp": ("chat/engine/remote.py",),
    "pydicom": ("vision/dicom.py",),
    "torchvision": (),
}


def sources() -> list[Path]:
    """Every Python file of the product."""
    return sorted(path for room in ROOMS for path in [*ROOT.glob(f"{room}.py"), *ROOT.glob(f"{room}/**/*.py")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(source: str) -> set[str]:
    """The top-level names that a file imports, wherever in it; a relative import counts as "." for want of a name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found |= {alias.name.partition(".")[0] for alias in node.names}
            case ast.ImportFrom():
                found.add("." if node.level or not node.module else node.module.partition(".")[0])
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name.partition(".")[0])
    return found


def offences(file: str, imported: set[str]) -> Iterator[str]:
    """What is wrong with a file of this name importing these."""
    room = file.removesuffix(".py").partition("/")[0]
    for module in sorted(imported):
        if module in {*ROOMS, "tests", "."} and module not in MAY_IMPORT[room]:
            yield f"{file} imports {module}"
        places = ONLY_IN.get(module)
        if places is not None and not any(file == place or file.startswith(f"{place}/") for place in places):
            yield f"{file} imports {module}"


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Each function's name and length, from its `def` to its last line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def tree(text: str) -> set[str]:
    """The paths of the fenced tree in a README: indented names, folders with a slash, a description behind."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not re.search(r"^vision/", block, re.MULTILINE):
            continue
        paths, folders = set(), {0: ""}
        for indent, name in re.findall(r"^( *)(\S+)", block, re.MULTILINE):
            folder = folders[max(deep for deep in folders if deep <= len(indent))]
            paths.add(folder + name)
            if name.endswith("/"):
                folders = {deep: path for deep, path in folders.items() if deep <= len(indent)} | {
                    len(indent) + 1: folder + name
                }
        return paths
    return set()


def test_each_room_imports_only_what_it_may() -> None:
    assert [offence for path in sources() for offence in offences(name_of(path), imports(path.read_text("utf-8")))] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("vision/study.py", "from chat.prompt import compose"),
        ("vision/study.py", "from . import tiling"),
        ("chat/assistant.py", "import finetune.records as records"),
        ("chat/assistant.py", "import app"),
        ("finetune/lora.py", "import tests.tiny"),
        ("finetune/lora.py", "def train():\n    from gradio import Blocks"),
        ("chat/uis.py", "import gradio.blocks"),
        ("chat/engine/local.py", "import torch, httpx"),
        ("chat/cli.py", "import importlib\nimportlib.import_module('openai.types')"),
        ("vision/study.py", "import pydicom"),
        ("app.py", "import torchvision.transforms"),
    ],
)
def test_the_rule_sees_what_breaks_it(file: str, source: str) -> None:
    assert len(list(offences(file, imports(source)))) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("app.py", "import gradio\nfrom chat.ui.page import build\nfrom vision.study import Study"),
        ("chat/ui/page.py", "import gradio as gr\nfrom chat.ui import words"),
        ("chat/engine/remote.py", "import httpx, openai"),
        ("finetune/lora.py", "from chat.prompt import encode\nfrom vision.tiling import Box"),
        ("vision/dicom.py", "import pydicom.pixels"),
    ],
)
def test_the_rule_lets_pass_what_it_should(file: str, source: str) -> None:
    assert list(offences(file, imports(source))) == []


def test_no_file_is_longer_than_300_lines() -> None:
    assert [f"{name_of(path)}: {length(path)}" for path in sources() if length(path) >= 300] == []


def test_no_function_is_longer_than_60_lines() -> None:
    found = [(path, name, lines) for path in sources() for name, lines in functions(path.read_text("utf-8"))]
    assert len(found) > 50
    assert [f"{name_of(path)}: {name}: {lines}" for path, name, lines in found if lines >= 60] == []


@pytest.mark.parametrize(("room", "most"), [("app", 300), ("chat", 10_500), ("vision", 3_350), ("finetune", 10_100)])
def test_no_room_outgrows_its_ceiling(room: str, most: int) -> None:
    """Lines that hold something; a room that needs more first looks for what it can do without."""
    files = [path for path in sources() if path.relative_to(ROOT).parts[0].removesuffix(".py") == room]
    assert sum(bool(line.strip()) for path in files for line in path.read_text("utf-8").splitlines()) < most


def test_no_drawer_is_called_utils() -> None:
    named = [path.relative_to(ROOT) for path in [*sources(), *ROOT.glob("tests/**/*.py")]]
    words = ("util", "utils", "common", "helper", "helpers", "misc")
    assert [str(path) for path in named if {part.strip("_") for part in path.with_suffix("").parts} & {*words}] == []


def test_every_init_is_empty_and_the_tests_have_none() -> None:
    assert [name_of(path) for path in sources() if path.name == "__init__.py" and path.read_bytes()] == []
    assert list(ROOT.glob("tests/**/__init__.py")) == []


def test_every_folder_of_a_room_is_a_package() -> None:
    folders = {path.parent for path in sources()} - {ROOT}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_readme_maps_every_file() -> None:
    files = {name_of(path) for path in sources() if path.name != "__init__.py"}
    drawn = tree((ROOT / "README.md").read_text("utf-8"))
    assert sorted(files - drawn) == []
    assert sorted(path for path in drawn if not path.startswith("weights") and not (ROOT / path).exists()) == []


def test_a_tree_is_read_by_its_indents() -> None:
    rows = (
        "app.py   the door",
        "chat/    talking",
        "  engine/  seam",
        "    base.py  x",
        "  cli.py   y",
        "vision/",
        "  study.py",
    )
    text = "```\nmake run\n```\n\n```text\n" + "\n".join(rows) + "\n```\n"
    files = {"app.py", "chat/engine/base.py", "chat/cli.py", "vision/study.py"}
    assert tree(text) == files | {"chat/", "chat/engine/", "vision/"}


def test_the_architecture_fits_on_120_lines() -> None:
    assert 0 < length(ROOT / "ARCHITECTURE.md") <= 120
