"""Zygotes on a kernel, or in a container, that refuses one defence."""

import errno
import os

from actionrec.sandbox import confine, zygote


def without(step: str) -> None:
    """Run a zygote for which one step of the confinement is refused.

    Args:
        step: name of a function of `confine`.
    """

    def refuse() -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    setattr(confine, step, refuse)
    zygote.main()
