"""One run of learning, as the page sees it and as it is kept."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from actionrec.errors import ClipError
from pydantic import BaseModel, Field

from .. import whole

_MOST_STEPS = 200
"""Lines that are kept: a folder of broken videos tells one for each."""


Method = Literal["head", "finetune"]
"""What learns: a new last layer, or the network."""
_NEWEST_ONLY = ("epoch",)
"""Lines of which there is one an epoch."""


class Trouble(BaseModel):
    """Why something was not done."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: ClipError) -> Trouble:
        """The same as an error."""
        return cls(code=error.code, message=error.message, hint=error.hint)


class Step(BaseModel):
    """A line of what is told; what is counted is one line."""

    event: str
    text: str
    done: int | None = None
    total: int | None = None


class Result(BaseModel):
    """How good the model is, on videos that it has not learned from."""

    words: str
    accuracy: float
    interval: tuple[float, float]


class Serving(BaseModel):
    """Whether the engine has the archive."""

    state: Literal["no", "asked", "yes", "failed"] = "no"
    error: Trouble | None = None


class Learning(BaseModel):
    """A run."""

    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    name: str = Field(description="Of the archive and the endpoint.")
    model: str = Field(description="That it is learned on.")
    method: Method = "head"
    state: Literal["running", "done", "failed", "cancelled", "stopped"] = Field(
        default="running", description="`stopped`: the gateway ended meanwhile; begun again, it goes on."
    )
    started: float = Field(default_factory=time.time, description="Seconds since 1970.")
    finished: float | None = None
    steps: list[Step] = []
    error: Trouble | None = None
    result: Result | None = None
    report: str | None = Field(default=None, description="Its address, with a secret.")
    serving: Serving = Serving()

    def tell(self, said: Mapping[str, Any]) -> None:
        """Take up what the run says of itself: a line of ``python -m export learn --json``.

        Raises:
            KeyError, ValueError: it is no such line.
        """
        event, text = str(said["event"]), str(said["message"])
        if event == "error":
            self.error = Trouble(code=str(said.get("code", "")), message=text, hint=str(said.get("hint") or ""))
        elif event == "learned":
            low, high = said["interval"]
            words = text.partition("\n")[0]
            self.result = Result(
                words=words, accuracy=float(said["accuracy"]), interval=(float(low), float(high))
            )
        else:
            step = Step(event=event, text=text, done=said.get("done"), total=said.get("total"))
            if step.total is not None or event in _NEWEST_ONLY:
                self.steps = [one for one in self.steps if one.event != event]
            if len(self.steps) < _MOST_STEPS:
                # What is counted goes on: it stays the last.
                goes_on = event in _NEWEST_ONLY and bool(self.steps) and self.steps[-1].total is not None
                self.steps.insert(len(self.steps) - goes_on, step)

    def end(self, state: Literal["done", "failed", "cancelled", "stopped"]) -> None:
        """It is over."""
        self.state, self.finished = state, time.time()

    def give_report(self, key: str) -> None:
        """Give the report an address that nobody can guess, for a frame or a tab, which send no token."""
        self.report = f"page/teach/report?of={key}&ticket={secrets.token_urlsafe(32)}"

    def is_ticket(self, ticket: str) -> bool:
        """Whether this is the report's secret."""
        known = (self.report or "").rpartition("ticket=")[2]
        return bool(known) and secrets.compare_digest(known.encode(), ticket.encode())

    def save(self, home: Path) -> None:
        """Keep it in a client's folder."""
        whole.write(home / "learning.json", self.model_dump_json())

    @classmethod
    def load(cls, home: Path) -> Learning | None:
        """The last one of a client; None: there was none."""
        try:
            return cls(**json.loads((home / "learning.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None
