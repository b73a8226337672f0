"""Requests that nobody would write, and some that somebody did: hypothesis' strategies."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from actionrec.request import VIDEO_FIELDS
from hypothesis import strategies as st

from motion.clips import random_clip

CLIP = random_clip(70, "moving left").data
OPTIONS = (
    *("top_k", "start_seconds", "end_seconds", "views", "crops", "stride_seconds"),
    *("embedding", "explain"),
)

texts = st.text(max_size=12) | st.text(st.characters(codec=None), max_size=4)  # with lone surrogates
names = st.sampled_from([*VIDEO_FIELDS, *OPTIONS, "", "top_k ", "__proto__", "video[]"]) | texts
numbers = st.one_of(
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.sampled_from([0, 1, 3, 0.5, 10**400, -(10**400), 60_000_000_000, 104_857_600]),
)
videos = st.sampled_from([base64.b64encode(CLIP).decode(), "", "AAAA", "====", "data:video/mp4;base64,AAAA"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | videos,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
option_texts = st.one_of(
    numbers.map(str),
    texts,
    st.from_regex(r"[-+ 0]?[0-9_٣５]{0,5}[.,eExX]?[0-9]{0,5}[\n ]?", fullmatch=True),
    st.sampled_from(
        ["9" * 5000, "1" + "0" * 30, "1e400", "-1e-400", "nan", "Infinity", "true", "[3]", "0x10", "json"]
    ),
)


def written(value: object, *, ascii_only: bool) -> bytes:
    """JSON as clients write it, and as careless ones do, who send lone surrogates as they are."""
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


json_bodies = st.one_of(
    st.builds(written, values, ascii_only=st.booleans()),
    st.builds(written, st.dictionaries(names, values, max_size=6), ascii_only=st.booleans()),
    st.sampled_from(
        [
            *(
                b"1.5",
                b"[300]",
                b'[{"data":"x"}]',
                b'"\\ud800"',
                b"60000000000",
                b"1" + b"0" * 30,
                b"null",
                b"true",
            ),
            *(
                b"NaN",
                b"-Infinity",
                b"104857600",
                b'{"video":1,"video":"AAAA"}',
                b"1" * 5000,
                b'{"top_k":1e999}',
            ),
            *(
                b"[" * 5000,
                b"[" * 5000 + b"]" * 5000,
                b'{"a":' * 5000,
                b"[" + b"[]," * 5000 + b"1]",
                b'{"video":"',
            ),
            *(b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"{}x", b"{", b"[", b"-", b"--"),
        ]
    ),
)


@dataclass(frozen=True)
class Part:
    """One of a form's."""

    headers: bytes
    value: bytes


def disposition(name: str, rest: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{rest}'.encode("utf-8", "surrogatepass")


part_headers = st.one_of(
    st.builds(
        disposition,
        st.sampled_from([*VIDEO_FIELDS, *OPTIONS]) | names,
        st.sampled_from(
            [
                *(
                    "",
                    '; filename="a.mp4"',
                    '; filename=""',
                    "; filename*=nope''%ff",
                    "; filename*=x",
                    "; size=abc",
                ),
                *(
                    f"\r\nContent-Type: {kind}"
                    for kind in (
                        *(
                            "application/json",
                            "text/plain; charset=nope",
                            "text/plain; charset=utf-16",
                            "x" * 3000,
                        ),
                        *(
                            "multipart/mixed",
                            "multipart/mixed; boundary=YY",
                            "multipart/form-data; boundary=XX",
                        ),
                    )
                ),
                *(f"\r\nContent-Transfer-Encoding: {kind}" for kind in ("base64", "zip", "quoted-printable")),
                "\r\nContent-Length: -5",
            ]
        ),
    ),
    st.sampled_from(
        [b"", b"Content-Disposition: form-data", b"Content-Disposition: attachment; name=a", b"X: y"]
    ),
    st.binary(max_size=20),
)
part_values = st.one_of(
    st.just(CLIP),
    option_texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    json_bodies,
    st.binary(max_size=20),
    st.sampled_from([b"\r\n--XX", b"--XX--\r\n"]),
)


def form(boundary: bytes, parts: list[Part], end: bytes) -> bytes:
    """Parts with a boundary between them."""
    lines = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, part.headers, part.value) for part in parts)
    return lines + end


form_bodies = st.builds(
    form,
    st.sampled_from([b"XX", b"", b"X" * 70, b"X" * 200, b'"', b"X Y", b"\xff"]),
    st.lists(st.builds(Part, part_headers, part_values), max_size=4),
    st.sampled_from([b"--XX--\r\n", b"--XX--", b"--XX", b"", b"\r\n--XX--\r\n"]),
)
urlencoded_bodies = st.one_of(
    st.lists(st.tuples(names, option_texts)).map(
        lambda pairs: b"&".join(f"{k}={v}".encode("utf-8", "surrogatepass") for k, v in pairs)
    ),
    st.sampled_from([b"=x", b"a", b"&", b"a=%", b"a=%zz", b"%=1", b"a=1\rb", b"video=%00%01", b"a=&" * 2000]),
)
bodies = st.one_of(
    json_bodies,
    form_bodies,
    urlencoded_bodies,
    st.binary(max_size=200),
    st.sampled_from([b"", CLIP, CLIP[:2000], b"--" + CLIP, b"{" + CLIP]),
)
content_types = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                ";",
                "/",
                "application/json",
                "Application/JSON; charset=utf-8",
                "application/json;charset=nope",
            ),
            *(
                "text",
                "text/plain",
                "text/plain; charset=nope",
                "application/octet-stream",
                "video/mp4",
                "x" * 4000,
            ),
            *("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="'),
            *("multipart/form-data; boundary=XX", 'multipart/form-data; boundary="XX"; boundary=YY'),
            *("multipart/form-data; boundary=XX; charset=nope", "multipart/mixed; boundary=XX"),
            *("multipart/form-data; boundary=" + "X" * 70, "multipart/form-data; charset=utf-8"),
            *("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=nope"),
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
)
headers = st.dictionaries(
    st.sampled_from(
        [
            *(
                "explain",
                "X-Request-Id",
                "ts_stream_next",
                "ts_request_sequence_id",
                "X-Actionrec-Client",
                "Cookie",
            ),
            *(
                "Content-Encoding",
                "Accept",
                "Accept-Encoding",
                "Range",
                "If-Match",
                "Origin",
                "X-Forwarded-For",
            ),
            *(
                "body",
                "video",
                "content-type",
                "url_path",
                "X-Actionrec",
                "X-Accel-Redirect",
                "X-HTTP-Method-Override",
            ),
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20) | st.just("True"),
    max_size=3,
)
