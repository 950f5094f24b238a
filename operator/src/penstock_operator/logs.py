"""Logs for machines (a JSON object per line) or for people; the fields of `extra` are kept in both."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, Final

from penstock_operator.tracing.current import current_pass

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))
# Libraries whose INFO is about themselves. kopf's verbose level prints whole objects, with what is secret in them.
# What OpenTelemetry's says of every batch that fails, `tracing.exporting` says once.
_QUIET: Final = {
    "kopf": logging.WARNING,
    "kopf.objects": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "opentelemetry": logging.ERROR,
}


def set_up_logging(*, as_json: bool, level: int = logging.INFO) -> None:
    """Send all logs to stderr in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    handler.addFilter(add_trace_id)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, quiet))


def add_trace_id(record: logging.LogRecord) -> bool:
    """Say to which trace a line belongs, when a traced pass logs it."""
    trace_id = current_pass().trace_id
    if trace_id:
        record.trace_id = trace_id
    return True


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller put into `extra`."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {name: value for name, value in fields.items() if name not in ("message", "asctime", "settings")}


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extra_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`time level message key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={value}" for name, value in extra_fields(record).items())
        line = f"{time} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
