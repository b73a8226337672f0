"""Promise: a stream in segments (HLS) is watched, and its list leads nowhere but where the settings allow."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path

import av
import pytest
from actionrec.errors import ClipError

from actionrec_gateway.fetch.place import Place
from actionrec_gateway.live import hls
from actionrec_gateway.live.hls import Variant
from tests.helpers_http import FileServer, serve
from tests.helpers_live import Watching, refused, watched
from tests.helpers_slow import LiveHls
from tests.streams import motion_video

pytest_plugins = ("tests.fixtures_gateway", "tests.fixtures_live")

PLACE = Place.parse("http://camera.example.org/hall/live.m3u8?key=secret")
_LIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of two lists of four seconds: segments of MPEG-TS, and of MP4 with a head of their own."""
    files: dict[str, bytes] = {}
    video = motion_video("moving up", seconds_each=4)
    for name, more in (("ts", {}), ("mp4", {"hls_segment_type": "fmp4"})):
        folder = tmp_path_factory.mktemp(name)
        options = {"hls_time": "1", "hls_playlist_type": "vod", **more}
        with (
            av.open(str(folder / "list.m3u8"), "w", format="hls", options=options) as output,
            av.open(io.BytesIO(video), "r") as file,
        ):
            stream = output.add_stream_from_template(file.streams.video[0])
            for packet in file.demux(file.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
        files |= {f"{name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return files


def test_what_a_list_says() -> None:
    """Segments with their addresses, their head, the number of the first, and whether more will come."""
    text = f'{_LIST}#EXT-X-MAP:URI="/head.mp4"\n#EXTINF:2,\na.m4s\n#EXTINF:1.5,\nhttps://other.org/b.m4s?x=1\n'
    found = hls.parse(text, PLACE)
    head = "http://camera.example.org/head.mp4"
    assert found.segments == (
        hls.Segment("http://camera.example.org/hall/a.m4s", head),
        hls.Segment("https://other.org/b.m4s?x=1", head),
    )
    assert (found.first, found.target_seconds, found.ends) == (7, 2, False)
    assert hls.parse(text + "#EXT-X-ENDLIST\n", PLACE).ends


def test_the_size_that_suits_the_model() -> None:
    """The cheapest one that is not smaller than what the model sees; sound alone is none."""
    text = (
        "#EXTM3U\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"\nsound.m3u8\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=300000,RESOLUTION=320x180\nsmall.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360\nmiddle.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=360x640\nupright.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=1920x1080\nlarge.m3u8\n"
    )
    variants = hls.parse(text, PLACE).variants
    assert len(variants) == 5
    chosen = [hls.suited(variants, edge).address.rsplit("/")[-1] for edge in (128, 256, 500, 2000)]
    assert chosen == ["small.m3u8", "upright.m3u8", "large.m3u8", "large.m3u8"]
    unsaid = (Variant("http://a/1", 0, 5), Variant("http://a/2", 0, 9))
    assert hls.suited(unsaid, 256) == unsaid[1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'{_LIST}#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXTINF:2,\na.ts\n', "encrypted"),
        (f"{_LIST}#EXT-X-BYTERANGE:100@0\n#EXTINF:2,\na.ts\n", "ranges of one file"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:x\n", "cannot be read"),
        ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:\n#EXTINF:,\n", "cannot be read"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=a,RESOLUTION=b\nx\n", "cannot be read"),
    ],
)
def test_lists_that_are_refused(text: str, why: str) -> None:
    """The message says why, and does not show what the address hides."""
    with pytest.raises(ClipError, match=why) as error:
        hls.parse(text, PLACE)
    assert (error.value.code, error.value.status) == ("NO_STREAM", 422)
    assert "secret" not in error.value.message


def test_a_long_list_is_read_at_once() -> None:
    """The largest list that is fetched takes no time of the gateway's that others would notice."""
    text = _LIST + "#EXTINF:1,\na\n" * ((hls.LIST_BYTES - len(_LIST)) // 13)
    began = time.process_time()
    assert len(hls.parse(text, PLACE).segments) > 20_000
    assert time.process_time() - began < 5


@pytest.mark.server
def test_a_live_list(watching: Watching, tmp_path: Path) -> None:
    """Results come all the time, not once a segment; while the list is away that is told, then it goes on."""
    video = motion_video("moving up", seconds_each=4)
    with LiveHls(video, tmp_path) as camera, watched(watching, camera.url) as (_, found):
        assert next(found) == ("opened", {"width": 320, "height": 240})
        results = [data for _, data in zip(range(5), found, strict=False)]
        assert {name for name, _ in results} == {"result"}
        labels = [data["predictions"][0]["label"] for _, data in results]
        assert labels.count("moving up") >= 4  # a window over the end of the video sees it jump
        starts = [data["start_seconds"] for _, data in results]
        assert max(b - a for a, b in pairwise(starts)) <= 1.01
        camera.hide()
        names: list[str] = []
        while "lost" not in names:
            names.append(next(found)[0])
        camera.show()
        while "result" not in names[names.index("lost") :]:
            names.append(next(found)[0])


@pytest.mark.server
@pytest.mark.parametrize("form", ["ts", "mp4"])
def test_a_list_that_ends(watching: Watching, recorded: dict[str, bytes], form: str) -> None:
    """A recorded one is played from its beginning, at its own speed, and ends; so through a list of sizes."""
    sizes = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=320x240\n{form}/list.m3u8\n"
    began = time.monotonic()
    with (
        serve(FileServer({**recorded, "sizes.m3u8": sizes.encode()})) as web,
        watched(watching, web.url + "sizes.m3u8") as (_, found),
    ):
        said = list(found)
    assert time.monotonic() - began > 3.5
    assert said[0][0] == "opened"
    assert said[-1][0] == "ended"
    results = [data for name, data in said if name == "result"]
    assert {data["predictions"][0]["label"] for data in results} == {"moving up"}
    assert results[-1]["end_seconds"] == pytest.approx(4, abs=0.6)


@pytest.mark.server
def test_a_list_leads_nowhere_else(watching: Watching) -> None:
    """Its segments, heads and other lists are asked for where the settings allow it only."""
    inside = "http://169.254.169.254/latest"
    lists = {
        "segment": f"{_LIST}#EXTINF:2,\n{inside}\n",
        "head": f'{_LIST}#EXT-X-MAP:URI="{inside}"\n#EXTINF:2,\na.m4s\n',
        "sizes": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{inside}\n",
        "file": f"{_LIST}#EXTINF:2,\nfile:///etc/passwd\n",
        "nothing": f"{_LIST}#EXT-X-ENDLIST\n",
        "itself": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nitself\n",
        "long": _LIST + "#" * hls.LIST_BYTES,
        "empty": f"{_LIST}#EXTINF:2,\nnone.ts\n#EXT-X-ENDLIST\n",
    }
    with serve(FileServer({name: text.encode() for name, text in lists.items()} | {"none.ts": b""})) as web:
        gateway = watching(web.url)
        codes = {name: refused(gateway, web.url + name)["code"] for name in lists}
    assert codes == {
        "segment": "FETCH_NOT_ALLOWED",
        "head": "FETCH_NOT_ALLOWED",
        "sizes": "FETCH_NOT_ALLOWED",
        "file": "BAD_URL",
        "nothing": "NO_STREAM",
        "itself": "NO_STREAM",
        "long": "TOO_LARGE",
        "empty": "EMPTY_BODY",
    }
