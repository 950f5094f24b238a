"""Structured log lines on stderr: for people as `time level message key=value …`, for machines as JSON.

A log line is a constant message, which can be searched for, and fields:
`log.info("listening", extra=fields(listener="kafka", address="127.0.0.1:9092"))`. Values are quoted where they hold
anything that could be mistaken for the line's own structure, so a client cannot write lines of its own. Each JSON line
also says whose it is (cluster, broker, shard, and the epoch at that moment), as `describe_process` was told.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LogFormat = Literal["console", "json"]

_FIELDS: Final = "penstock_fields"
VALUE_LENGTH_MAX: Final = 2000
"""Characters of one value in a line; the rest is cut off and said so."""


def fields(**values: object) -> Mapping[str, Any]:
    """The `extra` of a log call: what belongs to the message, by name."""
    return {_FIELDS: values}


def configure_logging(form: LogFormat = "console", level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends all log records to stderr (or `stream`) in one format, in place of what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def describe_process(source: Callable[[], Mapping[str, object]]) -> None:
    """What every JSON line says of its process from now on, asked for when a line is written, by any thread."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.process = source


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    values: Mapping[str, object] = getattr(record, _FIELDS, {})
    return values


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ConsoleFormatter(logging.Formatter):
    """`2026-11-21T08:30:00.123Z INFO listening listener=kafka address=127.0.0.1:9092`"""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback's lines under it where there is one."""
        parts = [_timestamp(record), record.levelname, _one_line(record.getMessage())]
        parts += [f"{name}={_value(value)}" for name, value in _fields_of(record).items()]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, the fields, what is known of the process, and exception where
    there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.process: Callable[[], Mapping[str, object]] = dict

    def format(self, record: logging.LogRecord) -> str:
        """The line. A field cannot take the name of what every line has; it can say otherwise than the process."""
        values = {**self.process(), **_fields_of(record)}
        document: dict[str, object] = {name: _plain(value) for name, value in values.items()}
        document |= {
            "time": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[:VALUE_LENGTH_MAX]}… ({len(text)} characters)"


def _one_line(text: str) -> str:
    """A message with its control characters written out, so that it stays one line."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=True)


def _value(value: object) -> str:
    text = _cut(str(value))
    if text and text.isprintable() and not any(character in text for character in ' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
