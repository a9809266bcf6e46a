"""Uploads: a file that a person sends, from the request into a file of the vault, and out of it as bytes; then it is gone.

Knows multipart, Gradio's upload folder and how much it may hold. Does not know images, sessions, cookies or what a file was
called: below the folder of its owner it gets a random name.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles
from gradio.utils import get_upload_folder
from python_multipart.exceptions import ParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from chat.assistant import RequestError

MOST_MEGABYTES = 1024
MOST_HELD = 2 << 30
"""Bytes of all uploads that nobody has taken yet."""

ROOM_LEFT = 16 << 20
"""Bytes that stay free where the folder lies: others need memory too."""

MOST_FILES = 8
"""Files in one request."""


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


def folder() -> Path:
    """Where uploads lie: a folder for each owner, and in it files without a name that says anything."""
    return Path(get_upload_folder()).resolve()


def take(path: str) -> bytes:
    """The bytes of an uploaded file, which is then removed. Raises RequestError when it is not there.

    Nothing outside the upload folder is ever touched: a path that leads there by another way (..., /proc/self/fd) is none.
    """
    with _found(path) as file:
        return file.read_bytes()


def drop(path: str) -> None:
    """Remove an uploaded file that nobody will read; a path of anything else is passed over."""
    with suppress(RequestError), _found(path):
        pass


@contextmanager
def _found(path: str) -> Iterator[Path]:
    """An uploaded file, until the end of the block; `path` is whatever a client wrote."""
    try:
        file = Path(path)
        if file.parent.parent != folder() or file != file.resolve() or not file.is_file():
            raise FileNotFoundError
        try:
            yield file
        finally:
            discard(file)
    except (OSError, ValueError):  # ValueError: what is no path, such as one with a null character
        raise RequestError("upload_lost", "The file did not arrive. Please send it again.") from None


_held: dict[Path, int] = {}
"""How large each upload is that nobody has taken yet."""


def held(owner: str) -> tuple[int, int]:
    """How many files lie in an owner's folder, and their bytes."""
    sizes = [file.stat().st_size for file in (folder() / owner).glob("*")]
    return len(sizes), sum(sizes)


def discard(file: Path) -> None:
    """Remove an upload, taken or not."""
    file.unlink(missing_ok=True)
    _held.pop(file, None)


def forget(owner: str) -> None:
    """Remove whatever lies in an owner's folder."""
    for file in (folder() / owner).glob("*"):
        discard(file)


class Refused(Exception):
    """An upload that is not taken in: the status of the answer, and a key of `kept_words`."""

    def __init__(self, status: int, key: str) -> None:
        super().__init__(key)
        self.status, self.key = status, key


class Intake:
    """One multipart request on its way into files: its parts named "files"; whatever else it holds is passed over.

    At the end of the block nothing stays of a request that was refused or broke off.
    """

    def __init__(self, content_type: str, owner: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refused(400, "bad_upload")
        self.files: list[Path] = []
        self._place = folder() / owner
        self._file: FileIO | None = None
        self._header, self._value, self._disposition = b"", b"", b""
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin_part, "on_header_field": self._read_field, "on_header_value": self._read_value,
                "on_header_end": self._end_header, "on_headers_finished": self._open, "on_part_data": self._write,
                "on_part_end": self._close,
            },
        )  # fmt: skip

    def __enter__(self) -> "Intake":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._close()
        if kind is not None:
            for file in self.files:
                discard(file)

    def feed(self, data: bytes) -> None:
        """Raises Refused."""
        try:
            self._parser.write(data)
        except ParseError:
            raise Refused(400, "bad_upload") from None
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)  # ENOENT: the vault has been closed
            raise Refused(507 if full else 500, "vault_full") from None

    def finish(self) -> list[Path]:
        """The files. Raises Refused where the request broke off within one, or held none."""
        if self._file or not self.files:
            raise Refused(400, "bad_upload")
        return self.files

    def _begin_part(self) -> None:
        self._header, self._value, self._disposition = b"", b"", b""

    def _read_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"files" or b"filename" not in options:
            return
        if len(self.files) == MOST_FILES:
            raise Refused(400, "bad_upload")
        self._place.mkdir(mode=0o700, exist_ok=True)
        path = self._place / token_hex(16)
        self._file = path.open("xb", buffering=0)  # so that what does not fit is known here
        self.files.append(path)
        _held[path] = 0

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            return
        path, size = self.files[-1], end - start
        if _held.get(path, 0) + size > MOST_MEGABYTES << 20:
            raise Refused(413, "upload_too_large")
        if sum(list(_held.values())) + size > MOST_HELD or shutil.disk_usage(self._place).free < ROOM_LEFT + size:
            raise Refused(507, "vault_full")
        _held[path] = _held.get(path, 0) + size
        if self._file.write(data[start:end]) != size:
            raise Refused(507, "vault_full")

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
