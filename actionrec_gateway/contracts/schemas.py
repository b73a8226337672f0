"""Replies and options as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Options of a request; a newer archive may have more."""

    model_config = ConfigDict(extra="allow")

    top_k: int | None = Field(None, description="How many labels, best first.", examples=[5])
    start_seconds: float | None = Field(None, description="Where to look, from the first frame.")
    end_seconds: float | None = Field(None, description="Where to stop looking.")
    views: int | None = Field(None, description="Windows spread over the range; their scores are averaged.")
    crops: int | None = Field(None, description="1: the centre of the picture; 3: both ends too.")
    stride_seconds: float | None = Field(None, description="A timeline: a window every so many seconds.")
    embedding: str | None = Field(None, description="`json` or `base64`: the reply gets the embedding.")
    explain: bool | str | None = Field(None, description="true, or a label: the reply gets an explanation.")


class Best(BaseModel):
    """One label."""

    label: str
    class_index: int
    score: float = Field(description="A probability, the mean of all views.")


class Reply(BaseModel):
    """The reply to one video, as `/predictions/<model>` gives it."""

    model_config = ConfigDict(extra="allow")

    predictions: list[Best] = Field(description="The best labels, best first.")
    clip: dict[str, Any] = Field(description="What was looked at.")
    model: dict[str, Any] = Field(description="What answered.")
    timings_ms: dict[str, float]
    warnings: list[dict[str, str]]


class Problem(BaseModel):
    """What is wrong, in the project's form."""

    code: str = Field(examples=["NOT_A_VIDEO"])
    status: int = Field(examples=[415])
    message: str
    hint: str


class Failed(BaseModel):
    """One video without an answer."""

    error: Problem


class ErrorText(BaseModel):
    """A request without an answer, in the form of contracts whose errors are text."""

    error: str = Field(examples=["NOT_A_VIDEO: The bytes are no video. Send the file itself."])
