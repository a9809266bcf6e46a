"""The theme: paper and ink, one accent, in light and dark, for Gradio's own components and ours.

Knows colours and Gradio's variables. Does not know what is on the page; the rest of its looks are the .css files beside.
"""

from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent
STYLES = ("tones.css", "frame.css", "stage.css", "talk.css", "panels.css", "evidence.css", "report_panel.css")
FONTS = (
    "Pretendard", "-apple-system", "BlinkMacSystemFont", "Apple SD Gothic Neo", "Segoe UI",
    "Noto Sans KR", "Noto Sans CJK KR", "Malgun Gothic", "system-ui", "sans-serif",
)  # fmt: skip
MONOSPACE = ("ui-monospace", "SF Mono", "Cascadia Mono", "D2Coding", "Noto Sans Mono CJK KR", "monospace")


def theme() -> gr.themes.Base:
    """Gradio's variables set to ours, which `tones.css` defines once for light and once for dark."""
    base = gr.themes.Base(font=FONTS, font_mono=MONOSPACE, radius_size="md", text_size="md")
    same = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--faint)",
        "background_fill_primary": "var(--sheet)",
        "background_fill_secondary": "var(--paper)",
        "border_color_primary": "var(--line)",
        "border_color_accent": "var(--accent)",
        "color_accent": "var(--accent)",
        "color_accent_soft": "var(--wash)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_shadow": "none",
        "block_label_text_color": "var(--faint)",
        "block_title_text_color": "var(--ink)",
        "block_title_text_weight": "500",
        "block_info_text_color": "var(--faint)",
        "input_background_fill": "var(--sheet)",
        "input_border_color": "var(--line)",
        "input_border_color_focus": "var(--accent)",
        "input_border_width": "1px",
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "slider_color": "var(--accent)",
        "checkbox_background_color": "var(--sheet)",
        "checkbox_background_color_selected": "var(--accent)",
        "checkbox_border_color": "var(--edge)",
        "checkbox_border_color_selected": "var(--accent)",
        "checkbox_label_background_fill": "transparent",
        "checkbox_label_border_width": "0px",
        "accordion_text_color": "var(--ink)",
        "loader_color": "var(--accent)",
    }
    both = same | {f"{name}_dark": value for name, value in same.items() if hasattr(base, f"{name}_dark")}
    return base.set(**both)


def css() -> str:
    """All of our style sheets."""
    return "\n".join((HERE / name).read_text("utf-8") for name in STYLES)


def script(name: str) -> str:
    """The script of one part of the page, on the lines that all of them stand on."""
    return (HERE / "dom.js").read_text("utf-8") + (HERE / f"{name}.js").read_text("utf-8")


def style(name: str) -> str:
    """The style sheet of one part alone, where it has one; Gradio keeps it to that part."""
    own = HERE / f"{name}_part.css"
    return own.read_text("utf-8") if own.is_file() else ""
