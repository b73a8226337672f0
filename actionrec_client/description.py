"""What a server says of its model, as far as this client needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from actionrec.spec import ClipSpec

from .errors import BadReply


@dataclass(frozen=True, slots=True)
class Description:
    """A served model. Fields that a newer server adds, in its recipe too, stay in `raw` and break nothing."""

    spec: ClipSpec
    """What the model eats."""
    labels: int | None
    """How many there are; None where that is not known."""
    name: str = ""
    version: str = ""
    weights: str = ""
    """``sha256:<hex>`` of the weights file, or ``random``."""
    runtime: str = ""
    """What runs the model: ``torchscript``, ``aoti``, ``compile``."""
    precision: str = ""
    """``fp32``, ``fp16``, ``bf16``."""
    device: str = ""
    """``cpu``, ``cuda:0``."""
    score_difference: float | None = None
    """The most by which a score differed from the eager model's when the archive was built; None: not told."""
    rejected: tuple[str, ...] = ()
    """Why each artifact that would have been better is not served on this host."""
    built_with: Mapping[str, str] = field(default_factory=dict)
    """Versions of what the archive was built with."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """All of it, as it came."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `ActionClient.describe` returns.

        Raises:
            BadReply: it has no recipe that this client understands, or does not say how many labels there are.
        """
        try:
            serving = values.get("serving", {})
            served = [
                artifact
                for artifact in values.get("forms", ())
                if all(artifact[name] == serving.get(name) for name in ("runtime", "precision"))
            ]
            parity = served[0].get("parity", {}) if served else {}
            return cls(
                spec=ClipSpec.from_description(values["spec"]),
                labels=int(values["labels"]),
                name=str(values.get("name", "")),
                version=str(values.get("version", "")),
                weights=str(values.get("weights", "")),
                runtime=str(serving.get("runtime", "")),
                precision=str(serving.get("precision", "")),
                device=str(serving.get("device", "")),
                score_difference=parity.get("max_abs_score_difference"),
                rejected=tuple(str(reason) for reason in serving.get("passed_over") or ()),
                built_with={k: v for k, v in values.get("built_with", {}).items() if isinstance(v, str)},
                raw=values,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"The model is described in a way that this client does not know: {error!r}."
            hint = "Is the server of another version of this project?"
            raise BadReply("BAD_REPLY", 200, message, hint) from error
