"""Clients in a process of their own: each sends its next clip when it has its answer.

Several such processes make the load of many clients, since one Python process cannot make that of a GPU.
"""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.gpu.child import Answer, serve

DEADLINE_SECONDS = 60.0
CLIENT = "X-Actionrec-Client"
"""The header in which a front names a client."""
_MOST_ERRORS = 3


def load(url: str, clip: str, clients: int, named: bool, warm_up: float, seconds: float, first: int) -> Answer:
    """Send a clip again and again.

    Args:
        url: where to.
        clip: path of a file.
        clients: how many send at once.
        named: whether each says who it is, as behind the front; then it keeps its decoding child.
        warm_up: seconds before anything counts.
        seconds: that count.
        first: number of the first client.

    Returns:
        ``ms`` of each request that was answered in these seconds, ``failed`` and the first ``errors``, and
        ``cpu``: seconds of CPU time of this process.
    """
    data, parts = Path(clip).read_bytes(), urlsplit(url)
    begin = time.perf_counter() + warm_up
    end = begin + seconds

    def client(number: int) -> tuple[list[float], list[str]]:
        taken: list[float] = []
        errors: list[str] = []
        headers = {CLIENT: f"client-{number}"} if named else {}
        assert parts.hostname
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=DEADLINE_SECONDS)
        while (begun := time.perf_counter()) < end and len(errors) < _MOST_ERRORS:
            try:
                connection.request("POST", parts.path, data, headers)
                reply = connection.getresponse()
                said = reply.read()
                if reply.status != 200 or b'"predictions"' not in said:
                    errors.append(f"{reply.status}: {said[:200].decode(errors='replace')}")
                    continue
            except (OSError, http.client.HTTPException) as error:
                errors.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            if begin <= (now := time.perf_counter()) < end:
                taken.append((now - begun) * 1e3)
        connection.close()
        return taken, errors

    cpu = time.process_time()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(client, range(first, first + clients)))
    errors = [error for _, some in done for error in some]
    return {
        "ms": [round(ms, 2) for some, _ in done for ms in some],
        "failed": len(errors),
        "errors": errors[:3],
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    serve({"load": load})
