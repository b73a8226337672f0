"""The protocol's JSON, as the OpenAPI document describes it. `codec` checks requests by kserve's own models,
which take 90 MB to load.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .tensors import Kind

Parameter = bool | int | float | str


class Live(BaseModel):
    """Whether the gateway lives."""

    live: bool


class Ready(BaseModel):
    """Whether every model answers a real prediction."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model answers a real prediction."""

    name: str
    ready: bool


class Models(BaseModel):
    """Names of what is served."""

    models: list[str]


class ServerMetadata(BaseModel):
    """What answers."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 in its shape is any number."""

    name: str
    datatype: str
    shape: list[int]

    @classmethod
    def of(cls, kind: Kind) -> TensorMetadata:
        """Of a tensor of ours."""
        return cls(name=kind.name, datatype=kind.datatype, shape=list(kind.shape))


class ModelMetadata(BaseModel):
    """A model's tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InputTensor(BaseModel):
    """The videos of a request."""

    name: str = Field(examples=["video"])
    datatype: str = Field(examples=["BYTES"])
    shape: list[int] = Field(examples=[[1]])
    parameters: dict[str, Parameter] | None = Field(
        None, description="`binary_data_size` in place of `data`: that many bytes follow the JSON."
    )
    data: list[str] | None = Field(None, description="Files in base64.")


class RequestedOutput(BaseModel):
    """An output that is wanted."""

    name: str = Field(examples=["label"])
    parameters: dict[str, Parameter] | None = Field(
        None, description="`binary_data`: whether it follows the JSON in the binary form."
    )


class InferRequest(BaseModel):
    """Some videos. Options of a request stand in `parameters` and hold for all of them."""

    id: str | None = None
    parameters: dict[str, Parameter] | None = Field(None, examples=[{"top_k": 3}])
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = Field(None, description="Default: all.")


class OutputTensor(BaseModel):
    """Something about each video."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Parameter] | None = None
    data: list[str] | list[float] | list[int] | None = None


class InferReply(BaseModel):
    """What was found in the videos."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    model_name: str
    model_version: str | None = None
    outputs: list[OutputTensor]
