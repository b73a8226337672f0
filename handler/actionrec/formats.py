"""Names for bytes that cannot be opened as a video, and for why a file cannot be read, out of closed sets."""

from __future__ import annotations

import av

ACCEPTED = "MP4, MOV, MKV, WebM, AVI, MPEG-TS, FLV, WMV, Ogg or GIF"
FFMPEG_LINE = "ffmpeg -i input -c:v libx264 output.mp4"
REENCODE = f"It is damaged or cut short. Send it again, or re-encode it: {FFMPEG_LINE}"

# (offset, bytes, name) of files that people send by mistake, and of containers.
_AUDIO = (
    (0, b"ID3", "an MP3 file"),
    (0, b"\xff\xfb", "an MP3 file"),
    (0, b"\xff\xf3", "an MP3 file"),
    (0, b"\xff\xf1", "an AAC file"),
    (0, b"fLaC", "a FLAC file"),
    (8, b"WAVE", "a WAV file"),
)
_NOT_VIDEO = (
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"#EXTM3U", "a playlist"),
    (0, b"ffconcat", "a playlist"),
    (0, b"v=0", "a session description"),
    (0, b"<", "XML or HTML"),
    (0, b"{", "JSON"),
)
_VIDEO = (
    (4, b"ftyp", "MP4"),
    (4, b"moov", "MP4"),
    (4, b"mdat", "MP4"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV", "FLV"),
    (0, b"OggS", "Ogg"),
    (0, b"\x30\x26\xb2\x75", "ASF (WMV)"),
    (0, b"\x00\x00\x01\xba", "MPEG"),
    (0, b"GIF8", "GIF"),
    (0, b"DKIF", "IVF"),
)


_UNKNOWN = "in no video format that is known here"
_REASONS: dict[type[Exception], str] = {
    av.InvalidDataError: "invalid data found when processing input",
    av.EOFError: "end of file",
    MemoryError: "it takes more memory than a video may",
    av.PatchWelcomeError: "not yet implemented in FFmpeg",
}
_OTHER_REASON = "it cannot be taken apart"

KINDS = frozenset(name for table in (_AUDIO, _NOT_VIDEO, _VIDEO) for _, _, name in table) | {_UNKNOWN}
"""All names that this module gives to bytes."""
REASONS = frozenset({*_REASONS.values(), _OTHER_REASON})
"""All reasons that this module gives."""


def video_kind(data: bytes) -> str | None:
    """The video format that the first bytes name; None where they name none."""
    return _sniff(data, _VIDEO)


def sound_kind(data: bytes) -> str | None:
    """The sound format that the first bytes name; None where they name none."""
    return _sniff(data, _AUDIO)


def other_kind(data: bytes) -> str:
    """The name of any other kind of file, or that it is not known."""
    return _sniff(data[:64].lstrip(), _NOT_VIDEO) or _UNKNOWN


def reason(error: Exception) -> str:
    """Why a file cannot be read: one of the `REASONS`."""
    return next((text for kind, text in _REASONS.items() if isinstance(error, kind)), _OTHER_REASON)


def _sniff(data: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for offset, magic, name in table if data[offset : offset + len(magic)] == magic), None)
