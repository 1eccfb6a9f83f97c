"""systemd: readiness, status line, watchdog, and the journal's structured fields.

The import is of the submodule on purpose: the repository's own folder `systemd/` would satisfy
`import systemd` as an empty namespace when the library is missing.
"""

import logging
import os
import sys
from typing import Any, Final

# Attributes of a log record that become journal fields: `logger.info("…", extra={"peripheral": …})`.
FIELDS: Final = ("peripheral", "code", "topic", "reason", "kind", "layer", "verb", "attempt")


def notify(state: str) -> None:
    """Tell the service manager (sd_notify(3)); does nothing where there is none."""
    if "NOTIFY_SOCKET" not in os.environ:
        return
    try:
        from systemd import daemon  # noqa: PLC0415 - libsystemd costs 0.3 MiB that only a managed process needs

        daemon.notify(state)
    except OSError as error:  # the manager's socket is gone: it will not hear of it either
        logging.getLogger(__name__).warning("service manager not reached: %s", error)


def watchdog_interval_s() -> float | None:
    """How often the watchdog wants to be fed (half its deadline, sd_watchdog_enabled(3)); None where there is none."""
    deadline_us = os.environ.get("WATCHDOG_USEC", "")
    if not deadline_us.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(deadline_us) / 2_000_000


def log_to_journal_or_stderr(verbose: bool = False) -> None:
    """Log to the journal with fields where stderr is the journal's, else to stderr as lines."""
    handler: logging.Handler
    if "JOURNAL_STREAM" in os.environ:
        handler = _JournalHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))  # the journal has the rest in fields
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)


class _JournalHandler(logging.Handler):
    """A log record as a journal entry: `BOOTH_PERIPHERAL=…` and so on, to be asked for with journalctl."""

    _PRIORITIES: Final = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}

    def __init__(self) -> None:
        super().__init__()
        from systemd import journal  # noqa: PLC0415 - 0.2 MiB that only a booth under systemd needs

        self._send = journal.send

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {
            f"BOOTH_{name.upper()}": str(value) for name in FIELDS if (value := getattr(record, name, None)) is not None
        }
        # The text of our source with its gaps, which names nobody: a diagnostics bundle takes this, never the message.
        fields["BOOTH_TEMPLATE"] = str(record.msg)
        where = {"CODE_FILE": record.pathname, "CODE_LINE": record.lineno, "CODE_FUNC": record.funcName}
        try:
            self._send(
                self.format(record),
                PRIORITY=self._PRIORITIES.get(record.levelname, 6),
                LOGGER=record.name,
                SYSLOG_IDENTIFIER="booth-agent",
                **where,
                **fields,
            )
        except OSError:
            self.handleError(record)
