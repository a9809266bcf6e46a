"""The diary: what the log may say about answers and failures.

Knows sizes, durations, token counts and classes of errors. Does not let through anything that was asked, answered or shown.
"""

import logging
import traceback

from chat.assistant import Answer

log = logging.getLogger(__name__)


def log_answer(answer: Answer | None) -> None:
    """How large and how fast an answer was."""
    if answer is None:
        log.info("stopped before the first token")
        return
    log.info(
        "answered: turn %d, %d turns in the prompt, %d + %d tokens, %d views, first token after %.2f s, %.1f tokens/s",
        answer.turn, answer.turns_in_window, answer.prompt.tokens, answer.tokens, len(answer.prompt.views),
        answer.first_token_seconds, answer.tokens_per_second,
    )  # fmt: skip
    if answer.trouble:
        log.info("the writer did not answer: %s", answer.trouble.reason or type(answer.trouble).__name__)


def log_image(size: tuple[int, int], seconds: float) -> None:
    """How large an image was."""
    log.info("read an image of %d x %d pixels in %.2f s", *size, seconds)


def log_refusal(error: Exception) -> None:
    """Which reason a person was given."""
    log.info("refused: %s", getattr(error, "reason", type(error).__name__))


def log_bug(error: Exception) -> None:
    """Where a bug lies, without its message, which may hold what a person wrote."""
    log.error("a bug: %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
