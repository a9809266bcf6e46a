"""The report panel: the report about a desk's image as it grows, by whom it was written, and what the evidence contradicts.

Knows desks, reports and words. Does not know components or how a report is written; what is text is set as text there.
"""

import time
from typing import Any

from chat.report.export import KINDS
from chat.report.sheet import lay_out
from chat.report.write import Report
from chat.ui.desk import Desk
from chat.ui.words import explain, word, words
from chat.wording import SECTIONS

Value = dict[str, Any]


def report(desk: Desk) -> Value:
    """The panel; `can_write` is False without an image, and for one that the classifier refused to call a film."""
    draft, language = desk.report, desk.language
    written = draft.report
    done = min(len(written.sections), len(SECTIONS) - 1) + 1 if written else 1
    writing = word("report_writing", language, done=done, all=len(SECTIONS))
    writing = word("in_line", language, ahead=draft.ahead) if draft.ahead else writing
    return {
        "words": words(language),
        "drawn": time.time_ns() // 1000,
        "can_write": desk.study is not None and (desk.evidence is None or desk.evidence.is_in_domain),
        "state": draft.state,
        "progress": word("queued", language) if draft.state == "waiting" else writing,
        "trouble": explain(draft.trouble, language) if draft.trouble else "",
        "kinds": list(KINDS),
        "sheet": _sheet(written, desk) if written else None,
    }


def _sheet(written: Report, desk: Desk) -> Value:
    """What an exported report says too, in the report's own language."""
    sheet, language = lay_out(written), desk.language
    troubled = word("report_rules", language, why=explain(written.trouble, language)) if written.trouble else ""
    is_ended = desk.report.state in ("done", "stopped")
    return {
        "language": sheet.language,
        "title": sheet.words["report"],
        "notice": sheet.notice,
        "trouble": troubled,
        "facts": [list(fact) for fact in sheet.facts] if is_ended else [],
        "ending": sheet.ending if is_ended else "",
        "parts": [
            {
                "title": part.title,
                "note": part.note,
                "lines": [
                    {"text": line.text, "beside": line.beside, "is_marked": bool(sentence.marks)}
                    for line, sentence in zip(part.lines, section.sentences, strict=True)
                ],
            }
            for part, section in zip(sheet.parts, written.sections, strict=True)
        ],
    }
