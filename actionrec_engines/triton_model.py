"""The archive in Triton's Python backend: this file is ``<repository>/<model>/1/model.py``.

One input, ``body``, BYTES [1]: what is sent to ``/predictions/<model>``: a video, a form or JSON. Two outputs:
``reply``, BYTES [1], the JSON, and ``status``, INT32 [1], that of HTTP. ``config/triton.pbtxt`` goes beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton's, only there
from actionrec.service import Row

from actionrec_engines.archive import Archive


class TritonPythonModel:
    """One instance of a model, as Triton calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the archive that the parameter ``archive`` of the configuration names."""
        config = json.loads(args["model_config"])
        archive = Archive.open(Path(config["parameters"]["archive"]["string_value"]))
        gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        self._service = archive.load(device, config["max_batch_size"] or None)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of a batch in one call. An error of a row is that row's reply."""
        bodies = [pb_utils.get_input_tensor_by_name(each, "body").as_numpy() for each in requests]
        rows = [Row({"body": body}) for each in bodies for body in each.ravel()]
        replies = iter(self._service.answer(rows))
        responses = []
        for each in bodies:
            found = [next(replies) for _ in each.ravel()]
            reply = np.array([one.body for one in found], dtype=object).reshape(each.shape)
            status = np.array([int(one.status) for one in found], dtype=np.int32).reshape(each.shape)
            tensors = [pb_utils.Tensor("reply", reply), pb_utils.Tensor("status", status)]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses

    def finalize(self) -> None:
        """End the model's child processes."""
        self._service.close()
