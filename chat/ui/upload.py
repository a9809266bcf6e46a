"""Uploads: a file that a person gave, as bytes; it is gone from the disk before anything looks at it.

Knows Gradio's upload folder. Does not know images, sessions or file names.
"""

import shutil
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, ListFiles
from gradio.utils import get_upload_folder

from chat.assistant import RequestError

MOST_MEGABYTES = 1024


class Upload(gr.File):
    """A file component that hands over bytes and keeps nothing."""

    def get_block_name(self) -> str:
        return "file"

    def preprocess(self, payload: ListFiles | FileData | None) -> bytes | None:
        if not isinstance(payload, FileData):
            return None
        try:
            return take(payload.path)
        except RequestError as error:
            raise gr.Error(str(error), print_exception=False) from None


def take(path: str) -> bytes:
    """The bytes of an uploaded file, which is removed with its folder. Raises RequestError when it is not there.

    Gradio puts each upload into a folder of its own, named by its content; nothing outside of it is ever touched.
    """
    folder = Path(path).resolve().parent
    if folder.parent != Path(get_upload_folder()).resolve():
        raise RequestError("upload_lost", "The file did not arrive. Please send it again.")
    try:
        return Path(path).read_bytes()
    except OSError:
        raise RequestError("upload_lost", "The file did not arrive. Please send it again.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
