"""A model for TorchServe that answers at once."""

import json

REPLY = json.dumps({"predictions": [{"label": "none", "class_index": 0, "score": 1.0}]}).encode()


def handle(data: list[dict[str, bytes]] | None, context: object) -> list[bytes]:  # noqa: ARG001
    """One reply per row."""
    return [REPLY for _ in data or ()]
