"""The errors of a build: each has one line that says what is wrong, and one hint."""

from __future__ import annotations


class ExportError(Exception):
    """A build that cannot go on.

    Args:
        message: what is wrong, with names and numbers; one line.
        hint: what to do about it; one line, or empty.
    """

    code = "CANNOT_BUILD"
    """Name of the kind of error, for programs."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WeightsError(ExportError):
    """Weights that exist but cannot be used: truncated, of another model, or with another checksum."""

    code = "BAD_WEIGHTS"


class WeightsChangedError(WeightsError):
    """Published weights that differ from those of an earlier build."""

    code = "WEIGHTS_CHANGED"


class WeightsUnavailableError(WeightsError):
    """Weights that could not be downloaded: no network, or no such file on the server."""

    code = "WEIGHTS_UNAVAILABLE"


class ParityError(ExportError):
    """The exported model does not give the eager model's scores."""

    code = "NO_PARITY"


class ArchiveError(ExportError):
    """The archive could not be written."""

    code = "NO_ARCHIVE"


class DataError(ExportError):
    """Labelled videos that cannot be learned from."""

    code = "BAD_DATA"
