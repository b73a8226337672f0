"""What the Open Inference Protocol says of the server and its models, over REST and gRPC."""

from __future__ import annotations

from importlib import metadata

from ..calls import Call
from . import tensors
from .schemas import ModelMetadata, ServerMetadata, TensorMetadata

NAME = "actionrec"
_PACKAGE = "slowfast-torchserve"
_EXTENSIONS = ("binary_tensor_data",)


def server() -> ServerMetadata:
    """What answers."""
    return ServerMetadata(name=NAME, version=metadata.version(_PACKAGE), extensions=list(_EXTENSIONS))


async def model(call: Call) -> ModelMetadata:
    """A model's tensors.

    Raises:
        ClipError: 404, there is no such model or version; 503, the engine does not answer.
    """
    said = await call.engine.describe(call.model, call.version)
    return ModelMetadata(
        name=call.model,
        versions=[call.version or str(said["version"])],
        platform=tensors.PLATFORM,
        inputs=[TensorMetadata.of(kind) for kind in tensors.INPUTS],
        outputs=[TensorMetadata.of(kind) for kind in tensors.OUTPUTS],
    )


async def ready(call: Call) -> bool:
    """Whether a model answers a real prediction, or answered one in the last seconds.

    Raises:
        ClipError: 404, there is no such model or version; 503, the engine does not answer.
    """
    await call.engine.describe(call.model, call.version)
    return await call.engine.ready(call.model)
