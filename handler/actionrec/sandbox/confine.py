"""The rights that a decoding child gives up before it sees a stranger's bytes. Linux; ctypes alone.

The zygote gives up what it does not need to fork; a child is born without that, and gives up the rest. The
defences are independent, and a kernel or a container may refuse some of them: those that hold are reported, and
shown by ``describe``. Afterwards a decoder has memory and the descriptors that it was born with.
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
# <linux/landlock.h>; these numbers are the same on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_VERSION = 1

_CPU_GRACE_SECONDS = 5

# The system calls of decoding and of Python's own loop: memory, the two descriptors, clocks, the end. All
# others are refused: files, sockets, processes, threads, signals to others. One column per architecture.
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
"""Machine -> its column, its AUDIT_ARCH, and the number of the system call `seccomp`."""
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
    """Have the kernel kill this process when its parent ends, for whatever reason.

    Args:
        parent: the parent's process id.

    Raises:
        OSError: the parent is gone already, or the kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        raise ProcessLookupError(f"parent {parent} is gone")


Step = Callable[[], object]

REQUIRED = ("no_new_privileges", "no_capabilities", "resource_limits", "dies_with_parent", "seccomp")
"""Defences without which ``sandbox: require`` does not start. The others are a second line: containers often
refuse a network namespace, and old kernels have no Landlock. Seccomp alone leaves no system calls for networks
and files."""


def confine_zygote(parent: int) -> dict[str, str]:
    """Give up all rights that children are to be born without. Call it on one thread, when all is imported.

    Args:
        parent: process id of the worker; this process dies with it.

    Returns:
        defence -> ``on``, or the reason why it does not hold.
    """
    _wait_for_one_thread()
    return _taken(
        {
            "no_new_privileges": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
            "first_out_of_memory": _go_first,
            "network_namespace": _leave_network,
            "no_capabilities": _drop_capabilities,
            "landlock": _no_files,
            # After the rest: the kernel forgets it at a change of credentials.
            "dies_with_parent": lambda: die_with(parent),
        }
    )


def confine_child(
    parent: int, memory_bytes: int, cpu_seconds: int, start_threads: Step = bool
) -> dict[str, str]:
    """Give up all other rights that decoding does not need.

    Args:
        parent: process id of the zygote; this process dies with it.
        memory_bytes: the most address space.
        cpu_seconds: the most CPU time of this process's whole life.
        start_threads: starts all threads that this process needs; afterwards it can start none.

    Returns:
        defence -> ``on``, or the reason why it does not hold.
    """
    found = _taken(
        {
            "resource_limits": lambda: _limit(memory_bytes, cpu_seconds),
            "dies_with_parent": lambda: die_with(parent),
        }
    )
    # Threads inherit what was given up so far.
    start_threads()
    return found | _taken({"seccomp": _only_listed_syscalls})


def address_space() -> int:
    """The address space of this process now, in bytes."""
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
    """A joined thread may need a moment more to disappear."""
    for _ in range(1000):
        if len(list(Path("/proc/self/task").iterdir())) == 1:
            return
        time.sleep(0.001)


def _go_first() -> None:
    """When the machine runs out of memory, the kernel ends this process before the worker."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _leave_network() -> None:
    # An ordinary user may make the other namespaces only inside a user namespace.
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC))


def _drop_capabilities() -> None:
    """Drop all capabilities, also where the worker is root (as in most containers)."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)))


def _no_files() -> None:
    """Forbid to open, make, remove or run any path, to use ports, and to reach outside sockets and
    processes.
    """
    abi = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION))
    files = (1 << 13) - 1
    files |= (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0) | (1 << 15 if abi >= 5 else 0)
    # bind and connect; abstract sockets and signals. A kernel refuses fields that it does not know.
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
        # At the soft limit the kernel sends SIGXCPU, which names the reason; at the hard one SIGKILL.
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + _CPU_GRACE_SECONDS),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 0, 0),  # no new ones; those that are open stay
    ):
        # The server may have been started with lower limits, which cannot be raised.
        _, most = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(limit, (soft, hard))


def _machine() -> str:
    """The machine that this program is compiled for; the kernel may report another name (``setarch``)."""
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
    # The filter holds for all threads, or for none: then the call returns the number of a thread that refused
    # it.
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
