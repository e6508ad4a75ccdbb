"""The tree of errors that a person may see. Each one knows its exit code and what to do next.

    SweepError              1   the sweep ended without a completed trial, or failed
      UsageError            2   bad arguments, a bad file
        ConfigError         2   a mistake in space.yaml, with its place
        DeviceError         2   a device that is not there
      NotFoundError         3   no such sweep or trial
      JournalError          1   the journal cannot be read; says how to go on
      BusyError             1   somebody else holds it (another controller, every slot)
      StorageError          1   disk, study storage or tracking store refuse
    IllegalEvent                a bug or a broken journal: the core refuses and stays as it was

`IllegalEvent` is not for people: the controller logs it, and a replay turns it into a JournalError.
"""

from __future__ import annotations


class SweepError(Exception):
    """What happened, and in `hint` what to type or change next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(SweepError):
    exit_code = 2


class ConfigError(UsageError):
    """A mistake in a file: `where` is `file:line`, `key` the path of the key, such as `space.lr.low`."""

    def __init__(
        self, message: str, *, where: str | None = None, key: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(": ".join(part for part in (where, key, message) if part), hint=hint)
        self.where = where
        self.key = key
        self.problem = message


class DeviceError(UsageError):
    pass


class NotFoundError(SweepError):
    exit_code = 3


class JournalError(SweepError):
    pass


class BusyError(SweepError):
    pass


class StorageError(SweepError):
    pass


class IllegalEvent(Exception):
    """The event does not fit the state. The state is as it was before."""
