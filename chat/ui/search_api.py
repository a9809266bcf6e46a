"""The API's `/find` and `/inspect`: a search in a large image, and the odd one out in a row of like parts.

Knows desks, uploads and Gradio's endpoints. Does not know how anything is found, or the page.
"""

from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from chat.acceptance import Acceptance
from chat.assistant import RequestError
from chat.finding import Wanted, check, find, read_budget
from chat.pair import leader
from chat.ui.api import Api, last_heard, told
from chat.ui.desk import Desk
from chat.ui.searching import learn
from chat.ui.upload import take, upload
from chat.wording import Language, language_of
from vision.anomaly import inspect
from vision.study import Study, read_study


class SearchApi:
    """The two endpoints. An image that comes with a call is forgotten again; null is the session's own."""

    def __init__(self, api: Api, acceptance: Acceptance) -> None:
        self.api = api
        self.acceptance = acceptance

    def find(
        self, image: bytes | None, reference: bytes | None, text: str | None, budget: object, desk: Desk, caller: gr.Request
    ) -> dict[str, object]:
        """The search's end; `budget` is a number of looks, 24 where null, or seconds as "30s", or both as "24 30s"."""
        language: Language = language_of(text or "")
        self.api.meet(desk, caller)
        with told(lambda: language), self.api.alone(desk):
            study = self._study(image, desk)
            shown = read_study(reference, self.api.max_pixels).image if reference else None
            wanted = Wanted(shown, text or "", *read_budget(None if budget is None else str(budget)))
            check(study, wanted)
            return last_heard(find(leader(self.api.assistant), study, wanted, self.acceptance, desk.session)).result()

    def inspect(
        self, image: bytes | None, desk: Desk, normal: list[str] | None = None, caller: gr.Request | None = None
    ) -> dict[str, object]:
        """The odd places of an image, best first; `repeating` is false where there is nothing to compare.

        `normal` are files of images without a defect, to compare with too.
        """
        if caller is not None:
            self.api.meet(desk, caller)
        with told(lambda: "en"), self.api.alone(desk):
            files = [take(path) for path in normal or ()]
            study = self._study(image, desk)
            if study is None:
                raise RequestError("no_image", "Add an image first.")
            return inspect(study.image, learn(files, self.api.max_pixels).memory if files else None).result()

    def _study(self, image: bytes | None, desk: Desk) -> Study | None:
        return desk.study if image is None else read_study(image, self.api.max_pixels)


def _files_of(payload: ListFiles | FileData | None) -> list[str]:
    """Where they lie in the vault, from which they are taken by whoever is called."""
    return [file.path for file in payload.root if isinstance(file, FileData)] if isinstance(payload, ListFiles) else []


def add_endpoints(api: Api, desk: gr.State, at_engine: dict[str, Any], acceptance: Acceptance) -> None:
    """`/find` and `/inspect`, on components that are never shown."""
    search = SearchApi(api, acceptance)
    with gr.Column(visible=False):
        image, reference = upload("image"), upload("reference")
        text, budget = gr.Textbox(label="text"), gr.JSON(label="budget")
        normal = gr.File(label="normal", file_count="multiple")
        normal.preprocess = _files_of  # type: ignore[method-assign]
        result, find_button, inspect_button = gr.JSON(label="result"), gr.Button(), gr.Button()
    find_button.click(
        search.find, [image, reference, text, budget, desk], result, api_name="find", **at_engine,
        api_description="Where something stands in an image: by a reference picture or a description, within a budget.",
    )  # fmt: skip
    inspect_button.click(
        search.inspect, [image, desk, normal], result, api_name="inspect",
        api_description="The odd one out in rows of like parts, such as a broken insulator disc.",
    )  # fmt: skip
