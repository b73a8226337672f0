"""Lets a server finish its requests before it is stopped.

TorchServe cannot do this: SIGTERM drops what is in flight, and nothing makes it stop listening. So its
listening socket is closed from outside. Linux lends a process's socket to another that may trace it
(``pidfd_getfd``), and a shutdown of the shared socket holds for its owner too: from then on new connections are
refused at once, so that clients and proxies turn elsewhere, while open connections get their answers.

The kernel also tells whether a connection waits for an answer (``TCP_INFO``): data arrived after the last data
was sent. TorchServe's own figures do not: ``pendingRequests`` leaves out the requests that a worker has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_POLL_SECONDS = 0.1
_QUIET_POLLS = 3  # in a row: at one poll a request may be between two sockets
_SYS_PIDFD_GETFD = 438  # the same on every architecture of Linux; Python 3.11 has no wrapper
# Offsets in struct tcp_info (linux/tcp.h), in bytes.
_UNACKED, _LAST_SENT, _LAST_RECEIVED, _BYTES_RECEIVED = 24, 44, 52, 128
_TCP_INFO_BYTES = 136

_libc = ctypes.CDLL(None, use_errno=True)


def drain(pid: int, port: int, limit_seconds: float) -> int:
    """Close a server's port to new connections, and wait until every open one has its answer.

    Args:
        pid: process id of the JVM.
        port: the inference port.
        limit_seconds: the longest wait.

    Returns:
        Connections that still wait for an answer; 0 is a clean end. Where the system does not lend sockets
        (another user's server, or Yama's ``ptrace_scope`` for users other than root), every open connection
        counts, and new ones are not refused.
    """
    deadline = time.monotonic() + limit_seconds
    quiet = 0
    while True:
        try:
            owed = _look(pid, port)
        except (ProcessLookupError, FileNotFoundError):
            return 0  # the process is gone
        except OSError:
            owed = _open_connections(port)
        quiet = 0 if owed else quiet + 1
        if quiet == _QUIET_POLLS or time.monotonic() > deadline:
            return owed
        time.sleep(_POLL_SECONDS)


def _look(pid: int, port: int) -> int:
    """Close the listening socket if it still listens; return how many connections wait for an answer."""
    owed = 0
    for connection in _sockets(pid, port):
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            connection.shutdown(socket.SHUT_RDWR)
        else:
            owed += _is_owed(connection)
    return owed


def _sockets(pid: int, port: int) -> Iterator[socket.socket]:
    """The TCP sockets of a process with this local port, each lent for one turn of the loop."""
    with _pidfd(pid) as process:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if not str(descriptor.readlink()).startswith("socket:"):
                    continue
                lent = _lend(process, int(descriptor.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # closed since the list was made
            if lent is None:
                continue
            with socket.socket(fileno=lent) as found:
                is_tcp = found.type == socket.SOCK_STREAM and found.family in (socket.AF_INET, socket.AF_INET6)
                if is_tcp and found.getsockname()[1] == port:
                    yield found


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        os.close(process)


def _lend(process: int, number: int) -> int | None:
    """A descriptor of this process for another process's socket; None where that was closed meanwhile.

    Raises:
        OSError: the system does not allow it.
    """
    lent = int(_libc.syscall(_SYS_PIDFD_GETFD, process, number, 0))
    if lent >= 0:
        return lent
    error = ctypes.get_errno()
    if error == errno.EBADF:
        return None
    raise OSError(error, os.strerror(error))


def _is_owed(connection: socket.socket) -> bool:
    """Whether a request has arrived, wholly or in part, and its answer has not been sent."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(info) < _TCP_INFO_BYTES:  # a kernel before 4.1
        return True
    unacked, sent_ago, received_ago = (
        struct.unpack_from("=I", info, offset)[0] for offset in (_UNACKED, _LAST_SENT, _LAST_RECEIVED)
    )
    (bytes_received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
    # Times are in milliseconds, of a coarse clock. With equal times the request was just read or just answered;
    # the connection then counts as waiting, so that no request is lost.
    return bool(unacked or (bytes_received and received_ago <= sent_ago))


def _open_connections(port: int) -> int:
    """Connections to this port, including idle ones."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return 0
    return sum(
        c.status == psutil.CONN_ESTABLISHED and getattr(c.laddr, "port", None) == port for c in connections
    )
