"""A request as it is seen from outside: a line in the log, metrics and, where asked for, a trace."""

from .requests import Observed, record_of

__all__ = ["Observed", "record_of"]
