"""The gateway's settings. Each comes from the command line, else the environment, else what stands here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIGABYTE = 1 << 30
MODEL = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
"""What a model's name looks like, as nginx has it: it may become part of an address."""
VERSION = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one gateway."""

    engine: str = "http://127.0.0.1:8080"
    """Address of the engine's predictions."""
    management: str = "http://127.0.0.1:8081"
    """Address of its management."""
    body_bytes: int | None = None
    """Largest body that the engine takes, in bytes; None: the engine says so itself."""
    answer_seconds: float = 180.0
    """Longest time for an answer of the engine: that of a batch, and a minute to wait for it."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0: a free one."""
    grpc_port: int | None = None
    """Port of the Open Inference Protocol over gRPC; None: there is none; 0: a free one."""
    model: str | None = None
    """Model of contracts that name none (SageMaker, Vertex AI's routes, Hugging Face); None: the only one."""
    health_route: str | None = None
    """Route that Vertex AI asks whether the models predict (``AIP_HEALTH_ROUTE``); None: there is none."""
    predict_route: str | None = None
    """Route that Vertex AI sends predictions to (``AIP_PREDICT_ROUTE``); None: there is none."""
    run_dir: Path = Path("run")
    """Folder of jobs, uploads and the SQLite database."""
    tokens: Path | None = None
    """File of tokens, as nginx reads it; None: nobody is asked for one."""
    admins: tuple[str, ...] = ()
    """Names in the tokens file whose token opens what changes the server."""
    fetch: tuple[str, ...] = ()
    """What may be fetched: ``https://clips.example.org/``, ``s3://bucket/prefix/``; empty: nothing."""
    fetch_private: bool = False
    """Whether private and loopback addresses may be fetched from and called back; for closed networks."""
    streams_at_once: int = 4
    """Streams by address that this gateway watches at the same time; each has a process that decodes."""
    database_url: str | None = None
    """PostgreSQL's address for several gateways; None: SQLite in `run_dir`."""
    upload_bytes: int = 4 * GIGABYTE
    """Largest video of a job, in bytes."""
    jobs_per_client: int = 100
    """Jobs of one client that may wait or run."""
    jobs_at_once: int = 2
    """Jobs that this gateway works on at the same time."""
    keep_days: float = 7.0
    """Days that a finished job is kept."""
    keep_bytes: int = 20 * GIGABYTE
    """Bytes that finished jobs may take; the oldest go first."""
    model_store: Path | None = None
    """Folder of the engine's archives, where it is on this host; None: nothing can be learned from the page."""
    wishes: Path | None = None
    """File in which the engine's supervisor is asked to serve one more archive; None: there is none to ask."""
    teach_bytes: int = 20 * GIGABYTE
    """Bytes that the videos may take that one client's labels are learned from."""
    teach_video_bytes: int = GIGABYTE
    """Largest of these videos, in bytes: learning has a whole one in memory."""
    canary: Path | None = None
    """File that says which models have a candidate (`canary`); None: none has."""
    webhook_secret: str | None = None
    """Secret of Standard Webhooks (``whsec_...``) that calls are signed with; None: no job may ask for one."""
