"""What a decoding child gives up before it sees a stranger's bytes. Linux; plain ctypes, no library.

The zygote gives up what it does not need to fork; a child is born without that, and gives up the rest. Each
defence stands alone, and a kernel or a container may refuse some of them: what holds is reported, and shown by
``describe``. What a decoder needs afterwards is memory and the descriptors that it was born with.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

# <linux/prctl.h>, <linux/sched.h>, <linux/capability.h>
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# <linux/seccomp.h>
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
# <linux/landlock.h>; these have the same numbers on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_VERSION = 1

_CPU_GRACE_SECONDS = 5

# What decoding and Python's own loop call: memory, the two descriptors, clocks, the end. Everything else is
# refused: files, sockets, processes, threads, signals to others. A column for each architecture.
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
"""Machine -> its column, its AUDIT_ARCH, and its number of the system call `seccomp`."""
_SYSCALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "futex": (202, 98),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "exit": (60, 93),
    "exit_group": (231, 94),
}


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, whatever ends that.

    Args:
        parent: the parent's process id.

    Raises:
        OSError: the parent is gone already, or the kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        raise ProcessLookupError(f"parent {parent} is gone")


Step = Callable[[], object]

REQUIRED = ("no_new_privileges", "no_capabilities", "resource_limits", "dies_with_parent", "seccomp")
"""Defences that ``sandbox: require`` insists on. The others are a second line: containers often refuse a
network namespace, and old kernels have no Landlock; without system calls for them there is neither network nor
file."""


def confine_zygote(parent: int) -> dict[str, str]:
    """Give up what children are to be born without. Call it when all is imported, and on one thread.

    Args:
        parent: process id of the parent, whose death is this process's.

    Returns:
        defence -> ``on``, or why it could not be had.
    """
    _wait_for_one_thread()
    return _taken(
        {
            "no_new_privileges": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
            "first_out_of_memory": _go_first,
            "network_namespace": _leave_network,
            "no_capabilities": _drop_capabilities,
            "landlock": _no_files,
            # After a change of credentials the kernel forgets it.
            "dies_with_parent": lambda: die_with(parent),
        }
    )


def confine_child(
    parent: int, memory_bytes: int, cpu_seconds: int, start_threads: Step = bool
) -> dict[str, str]:
    """Give up everything else that decoding does not need.

    Args:
        parent: process id of the zygote, whose death is this process's.
        memory_bytes: of address space, in all.
        cpu_seconds: of this process's whole life.
        start_threads: starts the threads that this process is to have; afterwards it can start none.

    Returns:
        defence -> ``on``, or why it could not be had.
    """
    found = _taken(
        {
            "resource_limits": lambda: _limit(memory_bytes, cpu_seconds),
            "dies_with_parent": lambda: die_with(parent),
        }
    )
    # They inherit what was given up so far.
    start_threads()
    return found | _taken({"seccomp": _only_listed_syscalls})


def address_space() -> int:
    """What this process has of it now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _taken(steps: dict[str, Step]) -> dict[str, str]:
    found = {}
    for name, step in steps.items():
        try:
            step()
            found[name] = "on"
        except OSError as error:
            found[name] = error.strerror or str(error)
    return found


def _wait_for_one_thread() -> None:
    """A thread that Python has joined may take a moment more to be gone."""
    for _ in range(1000):
        if len(list(Path("/proc/self/task").iterdir())) == 1:
            return
        time.sleep(0.001)


def _go_first() -> None:
    """Where the machine is out of memory, the kernel ends this process and not the worker."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _leave_network() -> None:
    # A user namespace of its own is what lets an ordinary user have the others.
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC))


def _drop_capabilities() -> None:
    """None are left, also where the worker is root's (as in most containers)."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)))


def _no_files() -> None:
    """No path can be opened, made, removed or run any more; no port, and no socket or signal to outside."""
    abi = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION))
    files = (1 << 13) - 1
    files |= (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0) | (1 << 15 if abi >= 5 else 0)
    # bind and connect; abstract sockets and signals. A kernel refuses the fields that it does not know.
    fields = [files] + ([0b11] if abi >= 4 else []) + ([0b11] if abi >= 6 else [])
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    for limit, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        # At the soft one the kernel sends SIGXCPU, which says what it was for; at the hard one SIGKILL.
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + _CPU_GRACE_SECONDS),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 0, 0),  # no new ones; those that are open stay
    ):
        # Whoever started the server may have set less, and more cannot be had.
        _, most = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(limit, (soft, hard))


def _machine() -> str:
    """What this program is made for: what the kernel says can be another name for it (``setarch``)."""
    with Path(sys.executable).open("rb") as file:
        head = file.read(20)
    number = int.from_bytes(head[18:20], "little")
    return next((name for name, of in _ELF_MACHINES.items() if of == number), f"ELF machine {number}")


_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_MACHINE = _machine()


def _only_listed_syscalls() -> None:
    if _MACHINE not in _MACHINES:
        raise OSError(0, f"no list of system calls for {_MACHINE}")
    column, architecture, seccomp = _MACHINES[_MACHINE]
    allowed = [numbers[column] for numbers in _SYSCALLS.values()]
    # Classic BPF on struct seccomp_data {int nr; u32 arch; ...}: (code, jump if true, jump if false, value).
    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # refuse: EPERM
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    program += [(equal, len(allowed) - i, 0, number) for i, number in enumerate(allowed)]
    program += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    # For all threads, or for none: then it returns the number of one that it cannot be had for.
    if _check(_libc.syscall(seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, header)):
        raise OSError(0, "one of the threads cannot have it")


def _prctl(option: int, *values: int | bytes) -> None:
    arguments = [v if isinstance(v, bytes) else ctypes.c_ulong(v) for v in values]
    arguments += [ctypes.c_ulong(0)] * (4 - len(arguments))
    _check(_libc.prctl(option, *arguments))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
