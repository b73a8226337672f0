"""Every answer that a request can get, (status, code): the list that replies and documents are held to."""

from actionrec.refusals import REFUSALS

from deploy.nginx import ERRORS

HANDLER = frozenset(
    {
        *(
            (400, code)
            for code in ("EMPTY_BODY", "NO_VIDEO", "TWO_VIDEOS", "BAD_BASE64", "BAD_BODY", "BAD_FORM")
        ),
        *(
            (400, code)
            for code in ("UNKNOWN_OPTION", "BAD_OPTION", "OPTION_OUT_OF_RANGE", "CONFLICTING_OPTIONS")
        ),
        *((400, code) for code in ("START_BEYOND_END", "TOO_MANY_WINDOWS", "NOT_EXPLAINABLE")),
        *((413, code) for code in ("BODY_TOO_LARGE", "TOO_MANY_PIXELS", "TOO_MANY_FRAMES")),
        *((415, code) for code in ("NOT_A_VIDEO", "UNSUPPORTED_CODEC")),
        *((422, code) for code in ("UNREADABLE_VIDEO", "NO_VIDEO_STREAM", "NO_FRAMES", "CORRUPT_VIDEO")),
        *((422, code) for code in ("TOO_MANY_STREAMS", "UNUSUAL_SHAPE", "DECODE_TIMEOUT", "DECODER_CRASHED")),
        *((422, code) for code in ("UNSUPPORTED_COLOR_SPACE", "BAD_TIMESTAMPS")),
        (500, "INTERNAL"),
        *((503, code) for code in ("DECODER_UNAVAILABLE", "OUT_OF_TIME", "STILL_WORKING")),
    }
)
"""Of ours, through every engine and door."""

FRONT = frozenset((REFUSALS[code].status, code) for code, _ in ERRORS.values())
"""Of nginx, where it stands in front."""

TORCHSERVE = frozenset(
    {
        (404, "ModelNotFoundException"),
        (404, "ModelVersionNotFoundException"),
        (503, "ServiceUnavailableException"),
    }
)
"""Of TorchServe by itself, for those who reach it: status and ``type``..."""

TORCHSERVE_FORMS = frozenset({403, 500})
"""... and its statuses for a form that Netty cannot take apart, with the name of whatever was thrown."""
