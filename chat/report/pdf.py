"""The PDF of a report: A4, with a Korean font embedded, so that its text can be selected and searched.

Knows fpdf2 and the sheet. Does not know reports, engines or where the bytes go.
"""

import logging
import unicodedata
from pathlib import Path
from typing import Any, cast

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import TextMode

from chat.report.sheet import Part, Sheet

FONT = Path(__file__).parent / "fonts" / "HilumGothic.ttf"
MARGIN = 19.0
PICTURE = 66.0
LEADING = 0.58  # millimetres from line to line, per point
MOST_BARS = 8
MISSING = "□"

INK, SOFT, LINE, TINT, DEEP, WARN = (28, 35, 38), (91, 103, 108), (221, 227, 229), (238, 246, 245), (15, 118, 110), (140, 84, 0)

logging.getLogger("fontTools").setLevel(logging.ERROR)  # it reports every table of every subset at INFO


class _Page(FPDF):
    """A4 with the notice and the page's number at its foot. Lengths are in millimetres, type sizes in points."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__()
        self.sheet = sheet
        self.set_margin(MARGIN)
        self.c_margin = 0.0  # text begins where pictures and rules do
        self.set_auto_page_break(True, MARGIN + 6)
        self.add_font("Hilum", fname=FONT)
        self.letters = frozenset(TTFont(FONT, lazy=True).getBestCmap())
        self.set_lang(sheet.language)
        self.set_title(sheet.words["report"])
        self.set_creator("Hilum")
        self.add_page()

    def footer(self) -> None:
        words = self.sheet.words
        self.set_y(-MARGIN)
        number = words["page"].format(page=self.page_no(), pages="{nb}")
        self.write_lines(f"{words['short_notice']}  ·  {number}", 8, SOFT)

    def write_lines(
        self, text: str, size: float, colour: tuple[int, int, int] = INK, width: float = 0, align: str = "L", **more: Any
    ) -> None:
        """A paragraph from the cursor on; the cursor goes below it, to where its lines began."""
        self.set_font("Hilum", size=size)
        self.set_text_color(colour)
        self.multi_cell(width, size * LEADING, self.spell(text), align=align, new_x="LEFT", new_y="NEXT", **more)

    def write_bold(self, text: str, size: float, colour: tuple[int, int, int] = INK, width: float = 0) -> None:
        """A heading: the one weight that is embedded, thickened by an outline."""
        with self.local_context(text_mode=TextMode.FILL_STROKE, line_width=size * 0.007, draw_color=colour):
            self.write_lines(text, size, colour, width)

    def height_of(self, text: str, size: float) -> float:
        """How much of the page `write_lines` would take."""
        self.set_font("Hilum", size=size)
        height = self.multi_cell(0, size * LEADING, self.spell(text), align="L", dry_run=True, output="HEIGHT")
        return cast(float, height) if text else 0.0

    def spell(self, text: str) -> str:
        """Text in letters that the font has: others by what they are compatible with, else as an empty box."""
        spelt = (letter if ord(letter) in self.letters else unicodedata.normalize("NFKC", letter) for letter in text)
        return "".join(letter if ord(letter) in self.letters else MISSING for piece in spelt for letter in piece)


def to_pdf(sheet: Sheet) -> bytes:
    """The sheet as one PDF file."""
    page = _Page(sheet)
    page.write_bold(sheet.words["report"], 22)
    page.ln(3)
    _write_notice(page, sheet.notice)
    _write_seen(page, sheet)
    for number, part in enumerate(sheet.parts, start=1):
        _write_part(page, number, part)
    if sheet.ending:
        page.write_bold(sheet.ending, 10, WARN)
        page.ln(3)
    _rule(page)
    page.write_lines(sheet.words["made"], 9, SOFT)
    for name, value in sheet.facts:
        page.write_lines(f"{name}: {value}", 8, SOFT)
    return bytes(page.output())


def _write_notice(page: _Page, notice: str) -> None:
    page.set_fill_color(TINT)
    top = page.y
    page.write_lines(notice, 10.5, fill=True, padding=(3, 4, 3, 5))
    page.set_fill_color(DEEP)
    page.rect(page.l_margin, top, 1.2, page.y - top, style="F")
    page.ln(5)


def _write_seen(page: _Page, sheet: Sheet) -> None:
    """The picture on the left and the probabilities beside it, or either alone."""
    top, left = page.y, page.l_margin
    bottom = top
    if sheet.picture:
        width, height = sheet.picture.size
        scale = PICTURE / max(width, height)
        page.image(sheet.picture, left, top, width * scale, height * scale, alt_text=sheet.words["overlay"])
        page.set_xy(left, top + height * scale + 1.5)
        page.write_lines(sheet.words["overlay"], 8, SOFT, PICTURE)
        bottom, left = page.y, left + PICTURE + 10
    if sheet.bars:
        room = page.w - page.r_margin - left
        page.set_xy(left, top)
        page.write_lines(sheet.words["probabilities"], 9, SOFT, room)
        page.ln(2)
        for bar in sheet.bars[:MOST_BARS]:
            row = page.y
            page.set_xy(left, row)
            page.write_lines(bar.told, 10.5, width=room, align="R")
            page.set_xy(left, row)
            page.write_lines(bar.label, 10.5, width=room - 24)
            for colour, share in ((LINE, 1.0), (DEEP, bar.share)):
                page.set_fill_color(colour)
                page.rect(left, page.y + 0.5, room * share, 2.2, style="F")
            page.set_y(page.y + 6.0)
    page.set_xy(page.l_margin, max(bottom, page.y))
    page.ln(3 if sheet.picture or sheet.bars else 0)


def _write_part(page: _Page, number: int, part: Part) -> None:
    sizes = [(line.text, 10.5) for line in part.lines] + [(line.beside, 8.5) for line in part.lines] + [(part.note, 8.5)]
    height = 16 + sum(page.height_of(text, size) for text, size in sizes)
    if page.will_page_break(height if height < page.eph else 34):
        page.add_page()
    _rule(page)
    page.write_bold(f"{number}. {part.title}", 13)
    page.ln(1.5)
    for line in part.lines:
        page.write_lines(line.text, 10.5)
        if line.beside:
            page.write_lines(line.beside, 8.5, WARN)
        page.ln(0.8)
    if part.note:
        page.write_lines(part.note, 8.5, SOFT)
    page.ln(3)


def _rule(page: _Page) -> None:
    page.set_draw_color(LINE)
    page.set_line_width(0.2)
    page.line(page.l_margin, page.y, page.w - page.r_margin, page.y)
    page.ln(4)
