"""Bytes that cannot be opened as a video -> the error that says what they are."""

from __future__ import annotations

from .errors import ClipError

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


def unreadable(data: bytes, error: Exception) -> ClipError:
    """The error for bytes that FFmpeg cannot open or read: 422 for a damaged video, 415 for anything else."""
    if (kind := _recognise(data, _VIDEO)) is not None:
        return ClipError(
            "UNREADABLE_VIDEO",
            422,
            f"The {kind} file of {len(data):,} bytes cannot be read: {_reason(error)}.",
            REENCODE,
        )
    if (kind := _recognise(data, _AUDIO)) is not None:
        return no_video(f"The {len(data):,} bytes received are {kind}, which has no video stream.")
    kind = _recognise(data[:64].lstrip(), _NOT_VIDEO)
    return ClipError(
        "NOT_A_VIDEO",
        415,
        f"The {len(data):,} bytes received are {kind or 'in no video format that is known here'}.",
        "Send a video file: MP4, MOV, MKV, WebM, AVI, MPEG-TS, FLV, WMV, Ogg or GIF.",
    )


def no_video(message: str) -> ClipError:
    """The error for a file without a video stream."""
    return ClipError("NO_VIDEO_STREAM", 422, message, "Send a file with a video track.")


def _recognise(data: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for offset, magic, name in table if data[offset : offset + len(magic)] == magic), None)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:].rstrip(".")
