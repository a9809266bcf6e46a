"""Reporting: what happens when a person wants a report, stops it, or takes it along as a file.

Knows desks, reports and Gradio's events. Does not know how a report is written or laid out. A file is made in memory and
handed to the page, which saves it where the person says.
"""

import base64
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, cast

import gradio as gr

from chat.assistant import Assistant, RequestError
from chat.engine.base import EngineError
from chat.line import LineError
from chat.report.export import KINDS, Kind, export
from chat.report.sheet import Weights, overlay_of
from chat.report.write import write_report
from chat.ui import report_panel
from chat.ui.asked import to_sampling
from chat.ui.desk import Desk, Draft
from chat.ui.diary import log_bug
from chat.wording import SECTIONS

SECONDS_BETWEEN_DRAWINGS = 0.1

Value = dict[str, Any]

MIME: dict[Kind, str] = {"md": "text/markdown", "html": "text/html", "pdf": "application/pdf", "json": "application/json"}


class Reporting:
    """The report's events, of all sessions."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant

    def accept(self, desk: Desk) -> tuple[Desk, Value]:
        """A report was asked for: it stands in the line, as any question does; if it cannot, what there was stays."""
        if desk.study and desk.report.state not in ("waiting", "writing"):
            try:
                self.assistant.line.check(desk.session)
                desk.report = Draft("waiting", study=desk.study, evidence=desk.told_evidence)
            except LineError as error:
                desk.report.trouble = error
        return desk, report_panel.report(desk)

    def stop(self, desk: Desk) -> Value:
        """Stop the one that is under way; what there is of it stays."""
        desk.report.is_stopped = True
        if desk.report.state == "waiting":
            desk.report = Draft()
        self.assistant.line.stop(f"{desk.session} report")
        return report_panel.report(desk)

    def write(self, desk: Desk, temperature: float, top_p: float, most: float, seed: str) -> Iterator[Value]:
        """Write the report that waits on the desk, if it still does, in the page's language. Closing this stops the engine."""
        draft, session, drawn = desk.report, f"{desk.session} report", 0.0
        if draft.state != "waiting" or draft.study is None:
            yield report_panel.report(desk)
            return
        draft.state = "writing"
        try:
            sampling = to_sampling(temperature, top_p, most, seed)
            report = write_report(self.assistant, draft.study, draft.evidence, desk.language, sampling, session)
            steps = self.assistant.line.lead(session, cast(Any, report), len(SECTIONS))
            with closing(steps):
                for step in steps:
                    if draft.is_stopped:
                        break
                    draft.ahead, draft.report = (step, None) if isinstance(step, int) else (0, step)
                    if time.perf_counter() - drawn >= SECONDS_BETWEEN_DRAWINGS:
                        yield report_panel.report(desk)
                        drawn = time.perf_counter()
        except (RequestError, EngineError) as error:
            draft.trouble = error
        except Exception as error:
            log_bug(error)
            draft.trouble = error
        finally:
            draft.state = "done" if draft.report and draft.report.is_finished else "stopped"
            self.assistant.engine.forget(session)
        yield report_panel.report(desk)

    def save(self, desk: Desk, event: gr.EventData) -> Value:
        """The report as a file inside the value; the page's script saves it and nothing else keeps it."""
        drawn, draft = report_panel.report(desk), desk.report
        if event.kind not in KINDS or draft.report is None or draft.study is None:
            return drawn
        kind = cast(Kind, event.kind)
        data = export(draft.report, kind, overlay_of(draft.study, draft.evidence), weights_of(self.assistant))
        file = {"name": f"hilum-report.{kind}", "mime": MIME[kind], "data": base64.b64encode(data).decode("ascii")}
        return drawn | {"file": file}


def weights_of(assistant: Assistant) -> list[Weights]:
    """Which models had a part in a report."""
    engines = [Weights(engine.name) for engine in (assistant.engine, assistant.writer) if engine]
    examiner = assistant.examiner
    return engines + ([Weights(*named) for named in examiner.weights] if examiner else [])
