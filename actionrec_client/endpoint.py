"""A server and the model that is asked there: requests as they are, and questions to the server itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack
from urllib.parse import quote

from . import job_data
from .address import parse
from .errors import BadReply, NoReply, Refused, ServerError, Unreachable
from .job_data import JobOptions
from .jobs import Job, listed
from .management import ANSWER_SECONDS, Management
from .options import form_of, views_of
from .results import ServedModel
from .transport import Body, Transport
from .video import Video

TIMEOUT_SECONDS = 120.0
"""For a request of one window, with all its retries."""
LONG_TIMEOUT_SECONDS = 300.0
"""For one of several: two tries, each longer than a worker may take (``responseTimeout``, 120 s)."""


def deadline(options: Mapping[str, Any]) -> float:
    """Seconds for a request with these options and all its retries."""
    several = options.get("stride_seconds") or views_of(options) > 1
    return LONG_TIMEOUT_SECONDS if several else TIMEOUT_SECONDS


def prediction(reply: object) -> dict[str, Any]:
    """A reply that is an object.

    Raises:
        BadReply: it is none.
    """
    if not isinstance(reply, dict):
        raise BadReply("BAD_REPLY", 200, f"The reply is of another kind of server: {str(reply)[:200]}.")
    return reply


def only_model(models: Sequence[ServedModel]) -> str:
    """The name of the one model that there is.

    Raises:
        Refused: ``WHICH_MODEL``.
    """
    names = [model.name for model in models]
    if len(names) != 1:
        message = f"The server has {len(names)} models: {', '.join(names) or 'none'}."
        hint = "Name one with model." if names else "Start it with an archive."
        raise Refused("WHICH_MODEL", 0, message, hint)
    return names[0]


class Endpoint:
    """A served model. `ActionClient` has the arguments, and what to ask."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        token: str | None = None,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        management_url: str | None = None,
        insecure_token: bool = False,
    ) -> None:
        place = parse(url, management_url)
        self._inference = place.inference
        self._model = model or place.model
        self._timeout = timeout
        limit = TIMEOUT_SECONDS if timeout is None else timeout
        self._transport = Transport(token, limit, attempt_timeout, insecure_token=insecure_token)
        self._transport.bearer.check(place.inference)
        self._management = Management(self._transport, place.management, place.inference)

    @property
    def model(self) -> str:
        """Name of the model; asks the server where it was not given.

        Raises:
            Refused: ``WHICH_MODEL``: there are several, or none.
            ServerError: the management address does not answer.
        """
        if self._model is None:
            self._model = only_model(self.models())
        return self._model

    @property
    def url(self) -> str:
        """Where clips are sent."""
        return f"{self._inference}/predictions/{quote(self.model, safe='')}"

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a file and return the reply's JSON as it is.

        Args:
            data: of a video file.
            options: by the server's names for them; those that are None are left out.
            timeout: seconds for the request with all its retries. Default: the client's.

        Raises:
            ServerError: there is no answer, and why.
        """
        limit = self._deadline(options) if timeout is None else timeout
        reply = self._transport.call("POST", self.url, Body(form_of(options), data), limit)
        return prediction(reply)

    def submit(
        self,
        clip: Video | None = None,
        *,
        url: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Have a gateway look at a video for as long as it takes. The work goes on when this process ends.

        Args:
            clip: a path, whose file is streamed, the bytes of a video file, or `Frames`.
            url: where the gateway fetches the video from, in the place of `clip`: ``https://``, ``s3://``,
                ``gs://``, as far as it is allowed there.
            idempotency_key: the same key with the same video and options makes one job, however often it is
                sent. Default: a new one.
            timeout: seconds for sending it, with all its retries. Default: 3600.
            options: those of `classify`, or with `stride_seconds` those of `timeline`; ``version`` of the
                model; ``webhook``, an address that is called when the job has ended.

        Raises:
            ServerError: there is no job, and why.
            ValueError: a clip and an address are given, or neither.
        """
        sent = job_data.submission(clip, url, self._model, options, idempotency_key)
        address = self._inference + sent.path
        limit = timeout or job_data.UPLOAD_SECONDS
        found = self._transport.call("POST", address, sent.body, limit, own_error=False)
        return Job(self._transport, self._inference, job_data.JobState.from_dict(found))

    def job(self, job_id: str) -> Job:
        """A job of a gateway, by its id.

        Raises:
            ServerError: there is no such job.
        """
        address = self._inference + job_data.job_path(job_id)
        found = self._transport.call("GET", address, own_error=False)
        return Job(self._transport, self._inference, job_data.JobState.from_dict(found))

    def jobs(self, state: job_data.State | None = None) -> Iterator[Job]:
        """Your jobs at a gateway, the newest first.

        Args:
            state: only those that are in it. Default: all.

        Raises:
            ServerError: there is no list.
        """
        return listed(self._transport, self._inference, state)

    def has_jobs(self) -> bool:
        """Whether the server takes jobs: a gateway does, TorchServe does not.

        Raises:
            ServerError: it does not answer.
        """
        try:
            job_data.views(self._transport.once("GET", f"{self._inference}/jobs?limit=1", own_error=False))
        except (BadReply, Refused):  # what is refused here, a request will show
            return False
        return True

    @property
    def knows_model(self) -> bool:
        """Whether the model was named, or asked for already."""
        return self._model is not None

    def _deadline(self, options: Mapping[str, Any]) -> float:
        return deadline(options) if self._timeout is None else self._timeout

    def models(self) -> list[ServedModel]:
        """What the server has loaded, by name.

        Raises:
            ServerError: the management address does not answer.
        """
        return self._management.models()

    def describe(self) -> dict[str, Any]:
        """What the archive says about itself, as it came: recipe, labels' count, runtime, weights, parity,
        versions. `Description.from_dict` makes fields of it.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        return self._management.describe(self.model)

    def ready(self) -> bool:
        """Whether the model has all its workers, and every one is READY. Only `classify` shows that they
        answer.

        Raises:
            ServerError: the server does not answer, or the model is not there.
        """
        return self._management.model(self.model).ready

    def reach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Try once whether anything answers at the address, whatever it says.

        Args:
            timeout: seconds.

        Raises:
            Unreachable, NoReply: nothing does.
        """
        try:
            self._transport.once("GET", f"{self._inference}/ping", timeout_seconds=timeout)
        except (Unreachable, NoReply):
            raise
        except ServerError:
            return

    def scale(self, workers: int, *, timeout: float | None = None) -> None:
        """Set the number of worker processes; returns when so many are READY.

        Args:
            workers: how many, at least 0.
            timeout: seconds until they must be READY; default: the client's.

        Raises:
            ServerError: the server refuses, does not answer, or is not done in time.
        """
        self._management.scale(self.model, workers, timeout or self._transport.timeout_seconds)
