"""What can go wrong while an archive is built, as one line for the person who builds it and one hint."""

from __future__ import annotations


class ExportError(Exception):
    """A build that cannot go on.

    Args:
        message: what was found, with the names and numbers that are wrong; one line.
        hint: what to do about it; one line, or empty.
    """

    code = "CANNOT_BUILD"
    """Of the kind of error, for programs."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WeightsError(ExportError):
    """Weights that are there and cannot be used: truncated, of another model, of another checksum."""

    code = "BAD_WEIGHTS"


class WeightsChangedError(WeightsError):
    """Published weights that are not those that an earlier build saw."""

    code = "WEIGHTS_CHANGED"


class WeightsUnavailableError(WeightsError):
    """Weights that could not be had at all: no network, no such file on the server."""

    code = "WEIGHTS_UNAVAILABLE"


class ParityError(ExportError):
    """The exported model does not give the eager model's scores."""

    code = "NO_PARITY"


class ArchiveError(ExportError):
    """The archive could not be written."""

    code = "NO_ARCHIVE"
