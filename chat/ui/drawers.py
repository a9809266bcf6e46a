"""The drawers under the image: what was seen, the window, the settings of an answer, the prompt, the model.

Knows Gradio's components and their labels. Does not know events or handlers.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from chat.engine.base import Sampling
from chat.prompt import SYSTEM
from chat.ui import panels
from chat.ui.desk import Desk
from chat.ui.panels import About
from chat.ui.theme import style
from chat.ui.words import word
from chat.wording import Language


@dataclass(frozen=True)
class Controls:
    """Gradio's own components, whose labels follow the language."""

    temperature: gr.Slider
    top_p: gr.Slider
    most: gr.Slider
    seed: gr.Textbox
    crops: gr.Checkbox
    system: gr.Textbox
    drawers: tuple[gr.Accordion, ...]

    @property
    def inputs(self) -> list[Any]:
        return [self.temperature, self.top_p, self.most, self.seed, self.crops, self.system]

    @property
    def all(self) -> list[Any]:
        return [*self.inputs, *self.drawers]


DRAWERS = ("views", "window", "settings", "prompt", "about")


def drawers(desk: Desk, about: About, sampling: Sampling) -> tuple[Controls, gr.HTML, gr.HTML, gr.HTML, gr.HTML]:
    language = desk.language
    shelves = {name: gr.Accordion(word(name, language), open=name == "views", elem_classes="drawer") for name in DRAWERS}
    with shelves["views"]:
        views = gr.HTML(panels.views(desk), css_template=style("lens"))
    with shelves["window"]:
        window = gr.HTML(panels.window(desk, about))
    with shelves["settings"]:
        temperature = gr.Slider(0, 2, sampling.temperature, step=0.05, label=word("temperature", language))
        top_p = gr.Slider(0.05, 1, sampling.top_p, step=0.05, label=word("top_p", language))
        longest = max(2048, sampling.max_new_tokens)
        most = gr.Slider(1, longest, sampling.max_new_tokens, step=1, label=word("max_new_tokens", language))
        seed = gr.Textbox("" if sampling.seed is None else str(sampling.seed), max_lines=1, label=word("seed", language))
        crops = gr.Checkbox(True, label=word("crops", language))
        system = gr.Textbox(SYSTEM, lines=3, max_lines=8, label=word("system_prompt", language))
    with shelves["prompt"]:
        prompt = gr.HTML(panels.prompt(desk))
    with shelves["about"]:
        model = gr.HTML(panels.about(desk, about))
    return Controls(temperature, top_p, most, seed, crops, system, tuple(shelves.values())), views, window, prompt, model


def labels(language: Language) -> list[Any]:
    """The labels of `Controls.all`, in its order."""

    def field(name: str, is_told: bool) -> Any:
        return gr.update(label=word(name, language), info=word(f"{name}_info", language) if is_told else None)

    fields = [field(name, is_told=True) for name in ("temperature", "top_p")] + [field("max_new_tokens", is_told=False)]
    fields += [field(name, is_told=True) for name in ("seed", "crops")] + [field("system_prompt", is_told=False)]
    return [*fields, *(gr.update(label=word(name, language)) for name in DRAWERS)]
