"""Ahead: what can be computed before the next question exists, while nobody waits.

Knows how a question will be asked. Does not know pages, or when there is time.
"""

from contextlib import suppress

from chat.assistant import Assistant, Request
from chat.conversation import Conversation
from chat.engine.base import EngineError
from chat.prompt import compose
from chat.wording import evidence_lines
from chat.writer import OBSERVATION_TOKENS, as_seen
from vision.evidence import Evidence
from vision.study import Study


def prepare(
    assistant: Assistant, request: Request, study: Study, conversation: Conversation, session: str, evidence: Evidence | None
) -> None:
    """Read the prompt that the next question would end: image, evidence and the turns that will stand in the window.

    The request's question is not looked at. Others who ask come first; whatever goes wrong, the question itself will say so.
    """
    engine, language, most = assistant.engine, request.language or "en", request.sampling.max_new_tokens
    if assistant.writer:
        conversation, language, most = as_seen(conversation), "en", min(OBSERVATION_TOKENS, most)
    told = request.lets_through(evidence)
    lines = evidence_lines(told, language) if told else []
    views = assistant.views(study, request, told)
    with suppress(EngineError):
        prompt = compose(
            "", conversation, views if engine.limits.max_images > 1 else views[:1], lines, (), language,
            engine.limits, engine.count, most, request.system_prompt,
        )  # fmt: skip
        engine.prepare(prompt.messages, session)
