"""The OpenAPI document: FastAPI's, with the way through, which is no route of it, and one form of errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from .settings import MODEL, VERSION

_ERROR = {
    "type": "object",
    "required": ["error", "request_id"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "status", "message", "hint"],
            "properties": {
                "code": {"type": "string", "description": "Stable, for programs."},
                "status": {"type": "integer"},
                "message": {"type": "string", "description": "What was received, and what is wrong with it."},
                "hint": {"type": "string", "description": "What to do."},
            },
        },
        "request_id": {"type": "string"},
    },
}
_REFUSED = {
    "description": "An error, in the one form that all have.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}},
}
_NAMES = {
    "model": {"type": "string", "pattern": f"^{MODEL}$"},
    "version": {"type": "string", "pattern": f"^{VERSION}$"},
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "top_k": {"type": "integer", "minimum": 1},
    "start_seconds": {"type": "number", "minimum": 0},
    "end_seconds": {"type": "number", "minimum": 0},
    "views": {"type": "integer", "minimum": 1},
    "crops": {"type": "integer", "enum": [1, 3]},
    "stride_seconds": {"type": "number", "minimum": 0},
    "embedding": {"type": "string", "enum": ["json", "base64"]},
    "explain": {"type": "string", "description": "`true`, or a label."},
}
_REPLY = {
    "type": "object",
    "required": ["predictions", "clip", "model", "timings_ms", "warnings"],
    "properties": {
        "predictions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "class_index", "score"],
                "properties": {
                    "label": {"type": "string"},
                    "class_index": {"type": "integer"},
                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
        },
        "clip": {"type": "object"},
        "model": {"type": "object"},
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        "warnings": {"type": "array", "items": {"type": "object"}},
    },
}


def complete(api: FastAPI, *, tokens: bool) -> None:
    """Make the application's document whole.

    Args:
        api: the application, with all its routes.
        tokens: whether requests need a token.
    """
    make = api.openapi

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _completed(make(), tokens=tokens)
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _completed(document: dict[str, Any], *, tokens: bool) -> dict[str, Any]:
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= {"ErrorReply": _ERROR, "PredictionReply": _REPLY}
    through = {}
    for what, text in (("predictions", "Classify a video"), ("explanations", "Classify and explain a video")):
        through[f"/{what}/{{model}}"] = _path(text, versioned=False)
        through[f"/{what}/{{model}}/{{version}}"] = _path(text, versioned=True)
    document["paths"] = through | document["paths"]
    for path in document["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            if "HTTPValidationError" in str(responses.get("422", "")):
                del responses["422"]
            responses.setdefault("default", _REFUSED)
    if tokens:
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _path(text: str, *, versioned: bool) -> dict[str, Any]:
    names = ["model", "version"] if versioned else ["model"]
    parameters = [{"name": name, "in": "path", "required": True, "schema": _NAMES[name]} for name in names]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in _OPTIONS.items()]
    form = {
        "type": "object",
        "required": ["video"],
        "properties": {"video": {"type": "string", "format": "binary"}, **_OPTIONS},
    }
    encoded = {**form, "properties": {**_OPTIONS, "video": {"type": "string", "description": "base64"}}}
    content = {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": encoded},
    }
    answered = {
        "description": "The best labels.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionReply"}}},
    }
    operation = {
        "summary": text,
        "description": "Options may stand in the address, in the form or in the JSON.",
        "tags": ["predictions"],
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answered},
    }
    return {"post": operation, "put": {**operation, "responses": {"200": answered}}}
