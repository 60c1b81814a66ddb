"""Logs: lines for people on a terminal, JSON for programs. No secret, no citizen's name, no content is ever logged."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog


def configure(form: Literal["auto", "text", "json"], level: str) -> None:
    """Sets up logging to standard error for this process."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    finish: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *finish,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # The broker library reports every lost connection with a trace of its own; ours says it in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
