"""Exporting a report: Markdown, HTML, PDF and JSON as bytes, each whole in one file and each with the notice.

Knows reports and file formats. Does not know engines, pages or where the bytes go. Whatever a model wrote, and whatever a
checkpoint calls its labels, stays text: nothing in it becomes markup.
"""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from chat.assistant import RequestError
from chat.report.check import clean
from chat.report.pdf import to_pdf
from chat.report.rules import shown_labels, shown_probabilities, trusted_peaks
from chat.report.sheet import Line, Part, Sheet, Weights, lay_out, used
from chat.report.write import Report

Kind = Literal["md", "html", "pdf", "json"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_MARKDOWN = re.compile(r"([\\`*_\[\]#|~$>])")
_LINK = re.compile(r":(?=//)|@|(?<=[Ww]{3})\.")

_STYLE = (Path(__file__).parent / "report.css").read_text("utf-8")


def kind_of(path: Path) -> Kind:
    """The format that a file's name asks for. Raises RequestError for any but `KINDS`."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        formats = ", ".join(f".{kind}" for kind in KINDS)
        raise RequestError("report_format", f"A report is written as {formats}; give the file one of these.", formats=formats)
    return kind


def export(report: Report, kind: Kind, overlay: Image.Image | None = None, weights: Sequence[Weights] = ()) -> bytes:
    """The report as one file. `overlay` is the map on the image, if there is one to show."""
    sheet = lay_out(report, overlay, weights)
    match kind:
        case "md":
            return to_markdown(sheet).encode()
        case "html":
            return to_html(sheet).encode()
        case "pdf":
            return to_pdf(sheet)
        case "json":
            return json.dumps(as_object(report, sheet, weights), ensure_ascii=False, indent=1).encode(errors="replace")


def as_object(report: Report, sheet: Sheet, weights: Sequence[Weights] = ()) -> dict[str, object]:
    """The report as plain values; the keys are a promise to others. Boxes are in the pixels of the study's image."""
    sections = [
        {
            "name": section.name, "title": part.title, "text": clean(section.text), "mark": section.mark, "note": part.note,
            "sentences": [
                {"text": line.text, "marks": list(sentence.marks), "by_rule": sentence.by_rule}
                for sentence, line in zip(section.sentences, part.lines, strict=True)
            ],
        }
        for section, part in zip(report.sections, sheet.parts, strict=True)
    ]  # fmt: skip
    peaks = [
        {
            "label": label,
            "side": peak.side,
            "zone": peak.zone,
            "box": peak.box.corners,
        }
        for label, peak in trusted_peaks(report.evidence)
    ]
    return {
        "language": report.language,
        "notice": report.notice,
        "finished": report.is_finished,
        "written_by": report.written_by,
        "trouble": type(report.trouble).__name__ if report.trouble else None,
        "sections": sections,
        "labels": list(shown_labels(report.evidence)),
        "probabilities": shown_probabilities(report.evidence),
        "peaks": peaks,
        "notes": list(report.evidence.notes) if report.evidence else [],
        "models": [{"name": weight.name, "sha256": weight.sha256} for weight in used(report, weights)],
        "seed": report.seed,
        "overlay": _png(sheet.picture) if sheet.picture else None,
    }


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def to_markdown(sheet: Sheet) -> str:
    """CommonMark; the picture is a data URI."""
    words = sheet.words
    blocks = [f"# {words['report']}", f"> **{sheet.notice}**"]
    if sheet.picture:
        blocks += [f"![{words['overlay']}](data:image/png;base64,{_png(sheet.picture)})", f"*{words['overlay']}*"]
    if sheet.bars:
        bars = "\n".join(f"- {_plain(bar.label)}: {bar.told}" for bar in sheet.bars)
        blocks += [f"## {words['probabilities']}", bars]
    for number, part in enumerate(sheet.parts, start=1):
        blocks += [f"## {number}. {part.title}", " ".join(_plain_line(line) for line in part.lines)]
        blocks += [f"*{part.note}*"] if part.note else []
    blocks += [f"**{sheet.ending}**"] if sheet.ending else []
    blocks += [f"## {words['made']}", "\n".join(f"- {name}: {_plain(value)}" for name, value in sheet.facts)]
    return "\n\n".join(blocks) + "\n"


def _plain_line(line: Line) -> str:
    return _plain(line.text) + (f" **{_plain(line.beside)}**" if line.beside else "")


def _plain(text: str) -> str:
    """Text that no reader of Markdown takes for markup, HTML or a link, wherever it stands in a line."""
    quiet = _MARKDOWN.sub(r"\\\1", html.escape(text, quote=False).replace("&gt;", ">"))
    quiet = re.sub(r"^(\d+)([.)])|^([-+=])", r"\1\\\2\3", quiet)
    return _LINK.sub(lambda link: f"&#{ord(link[0])};", quiet)


def to_html(sheet: Sheet) -> str:
    """One file without scripts or outside references, for light, dark and paper."""
    words = {name: html.escape(word) for name, word in sheet.words.items()}
    figure = ""
    if sheet.picture:
        width, height = sheet.picture.size
        source = f"data:image/png;base64,{_png(sheet.picture)}"
        figure = f'<figure><img src="{source}" width="{width}" height="{height}" alt="{words["overlay"]}">'
        figure += f"<figcaption>{words['overlay']}</figcaption></figure>"
    bars = "".join(
        f'<li><span>{html.escape(bar.label)}</span><b>{html.escape(bar.told)}</b><i style="--share:{bar.share:.4f}"></i></li>'
        for bar in sheet.bars
    )
    chances = f"<section><h2>{words['probabilities']}</h2><ul>{bars}</ul></section>" if bars else ""
    seen = f'<div class="seen">{figure}{chances}</div>' if figure or chances else ""
    parts = "".join(_section(part) for part in sheet.parts)
    facts = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in sheet.facts)
    ending = f'<p class="note">{html.escape(sheet.ending)}</p>' if sheet.ending else ""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="{sheet.language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{words['report']}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{words['report']}</h1>\n"
        f'<p class="notice" role="note">{html.escape(sheet.notice)}</p>\n{seen}\n<ol>{parts}</ol>\n{ending}\n'
        f"<footer><h2>{words['made']}</h2><dl>{facts}</dl></footer>\n</main>\n</body>\n</html>\n"
    )


def _section(part: Part) -> str:
    lines = " ".join(
        f"<mark>{html.escape(line.text)}</mark> <small>{html.escape(line.beside)}</small>"
        if line.beside
        else html.escape(line.text)
        for line in part.lines
    )
    note = f'<p class="note">{html.escape(part.note)}</p>' if part.note else ""
    return f"<li><h2>{html.escape(part.title)}</h2><p>{lines}</p>{note}</li>\n"
