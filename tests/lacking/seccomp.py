"""Without `seccomp`."""

from tests.lacking import without

if __name__ == "__main__":
    without("_only_listed_syscalls")
