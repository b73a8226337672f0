"""The tables of jobs, beside those of dbos in one database: SQLite on one machine, PostgreSQL for several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

_META = sa.MetaData()

JOBS = sa.Table(
    "actionrec_jobs",
    _META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("fingerprint", sa.Text, nullable=False),  # of what was asked for
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("options", sa.Text, nullable=False),  # JSON
    sa.Column("source", sa.Text, nullable=False),  # JSON: what clients see of the video
    sa.Column("url", sa.Text),  # of a video that is fetched; one with a query lies in a file
    sa.Column("store", sa.Text),  # the run_dir that has the video; null: any
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("queued", sa.Boolean, nullable=False),  # whether dbos knows of it
    sa.Column("runner", sa.Text),  # the executor that works on it
    sa.Column("created", sa.Float, nullable=False),  # seconds of the epoch, as all times here
    sa.Column("started", sa.Float),
    sa.Column("finished", sa.Float),
    sa.Column("done", sa.Integer, nullable=False),  # windows
    sa.Column("total", sa.Integer),
    sa.Column("seconds_left", sa.Float),  # as of `progressed`
    sa.Column("progressed", sa.Float),
    sa.Column("note", sa.Text),
    sa.Column("error", sa.Text),  # JSON
    sa.Column("result_bytes", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),  # counts what clients can see changing
    sa.Column("webhook", sa.Text),
    sa.Column("call_at", sa.Float),  # when to call it; null: not, or no more
    sa.Column("calls", sa.Integer, nullable=False),
    sa.UniqueConstraint("client", "idempotency_key"),
    sa.Index("actionrec_jobs_listed", "client", "created"),
    sa.Index("actionrec_jobs_states", "state"),
)

PARTS = sa.Table(
    "actionrec_parts",
    _META,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),  # of the part's options and bytes
    sa.Column("reply", sa.LargeBinary, nullable=False),  # gzip of JSON
)

RESULTS = sa.Table(
    "actionrec_results",
    _META,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("reply", sa.LargeBinary, nullable=False),  # gzip of JSON
)

GATEWAYS = sa.Table(
    "actionrec_gateways",
    _META,
    sa.Column("executor", sa.Text, primary_key=True),  # of one life of one gateway, never used again
    sa.Column("store", sa.Text, nullable=False),  # its run_dir
    sa.Column("machine", sa.Text, nullable=False),  # its boot
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("gone", sa.Boolean, nullable=False),  # ended in order
)


def address(database_url: str | None, run_dir: Path) -> str:
    """The database's address as SQLAlchemy has it.

    Args:
        database_url: of PostgreSQL; None: SQLite.
        run_dir: where SQLite's file lies.

    Raises:
        ValueError: it is another kind of database, or no address.
    """
    if not database_url:
        return f"sqlite:///{(run_dir / 'jobs.sqlite').absolute()}"
    try:
        url = sa.make_url(database_url.replace("postgres://", "postgresql://", 1))
    except sa.exc.ArgumentError:
        # Without the address, which has a password in it.
        raise ValueError("DATABASE_URL is no address; write postgresql://user@host/database") from None
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"DATABASE_URL is of {url.get_backend_name()}; only PostgreSQL is known here")
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def connect(url: str) -> sa.Engine:
    """Open the database, and make the tables that are not there.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be opened.
    """
    if not url.startswith("sqlite"):
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20)
        with engine.begin() as connection:
            # Several gateways may start at once.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7203411)"))
            _META.create_all(connection)
        return engine
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:  # noqa: ANN401  # of the driver
        connection.isolation_level = (
            "IMMEDIATE"  # a transaction waits for its turn at its begin, not at its end
        )
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA journal_mode=WAL")

    _META.create_all(engine)
    return engine
