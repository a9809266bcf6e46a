"""Uploads: a file that a person gave, as bytes; it is gone from the disk before anything looks at it.

Knows Gradio's upload folder. Does not know images, sessions or file names.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from anyio import from_thread
from gradio.data_classes import FileData, ListFiles
from gradio.utils import get_upload_folder

from chat.assistant import RequestError

MOST_MEGABYTES = 1024


def upload(label: str) -> gr.File:
    """A file component that hands over bytes and keeps nothing.

    Not a subclass: Gradio writes a stub file beside the source of every subclass of its components.
    """
    file = gr.File(label=label)
    file.preprocess = _bytes_of  # type: ignore[method-assign]
    return file


def _bytes_of(payload: ListFiles | FileData | None) -> Any:
    if not isinstance(payload, FileData):
        return None
    try:
        return take(payload.path)
    except RequestError as error:
        raise gr.Error(str(error), print_exception=False) from None


def take(path: str) -> bytes:
    """The bytes of an uploaded file, which is then removed. Raises RequestError when it is not there.

    Gradio names a file by its content, so the same image from two clients is one file: it goes with the last of them.
    Nothing outside Gradio's upload folder is ever touched.
    """
    file = Path(path).resolve()
    if file.parent.parent != Path(get_upload_folder()).resolve():
        raise RequestError("upload_lost", "The file did not arrive. Please send it again.")
    try:
        return file.read_bytes()
    except OSError:
        raise RequestError("upload_lost", "The file did not arrive. Please send it again.") from None
    finally:
        from_thread.run_sync(_release, file)


_expected: Counter[Path] = Counter()
"""How many will still take each file. Only the server's event loop touches it, so that an upload and a removal cannot meet."""


def expect(paths: Sequence[str]) -> None:
    """These have just been uploaded, and somebody will take each."""
    _expected.update(Path(path).resolve() for path in paths)


def _release(file: Path) -> None:
    _expected[file] -= 1
    if _expected[file] <= 0:
        del _expected[file]
        shutil.rmtree(file.parent, ignore_errors=True)
