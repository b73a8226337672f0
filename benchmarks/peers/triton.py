"""Triton through pytriton. Clips are arrays of bytes; ``POST /v2/models/clips/infer``.

pytriton 0.7 needs the Python that its Triton was built for, and with NumPy 2 it passes on other bytes than were
sent; `scripts/setup-bench` makes an environment for it. All clips of one batch must have the same size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers import Answerer, options

Bytes = npt.NDArray[np.uint8]


def main() -> None:
    given = options()
    answer = Answerer(given.archive, given.batch_size)

    @batch  # type: ignore[untyped-decorator,unused-ignore]
    def infer(clip: Bytes) -> dict[str, Bytes]:
        replies = answer([row.tobytes() for row in clip])
        width = max(map(len, replies))
        padded = b"".join(reply.ljust(width) for reply in replies)
        return {"reply": np.frombuffer(padded, np.uint8).reshape(len(replies), width)}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=given.port,
        grpc_address="127.0.0.1",
        grpc_port=given.port + 1,
        metrics_address="127.0.0.1",
        metrics_port=given.port + 2,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="clips",
            infer_func=infer,
            inputs=[Tensor(name="clip", dtype=np.uint8, shape=(-1,))],
            outputs=[Tensor(name="reply", dtype=np.uint8, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=given.batch_size,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(given.batch_delay * 1e3)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
