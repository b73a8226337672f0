"""What happens when in a video of any length, as subtitles: players load ``video.srt`` beside ``video.mp4``.

python examples/timeline_to_subtitles.py video.mp4 --stride 0.5
"""

import argparse
import sys
from pathlib import Path

from actionrec_client import ActionClient, ServerError
from actionrec_client.files.subtitles import clock, srt


def main() -> None:
    """Ask for the timeline, write the subtitles, and print the spans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="a video file; a long one is sent in parts")
    parser.add_argument("--stride", type=float, default=1.0, help="seconds from one look to the next")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the server")
    options = parser.parse_args()

    def show(done: int, total: int) -> None:
        """Called while a long video is under way."""
        print(f"\r{done} of {total} windows", end="\n" * (done == total), file=sys.stderr)

    try:
        timeline = ActionClient(options.url).timeline(
            options.video, stride_seconds=options.stride, on_progress=show
        )
    except ServerError as error:
        sys.exit(f"error: {error}")

    subtitles = options.video.with_suffix(".srt")
    subtitles.write_text(srt(timeline), encoding="utf-8")
    for segment in timeline.segments:
        span = f"{clock(segment.start_seconds):>9} to {clock(segment.end_seconds):>9}"
        print(f"{span}  {segment.label} ({segment.score:.2f})")
    missing = sum(not window.predictions for window in timeline.windows)
    if missing:
        print(f"{missing} of {len(timeline.windows)} windows could not be decoded")
    print(f"wrote {subtitles}")


if __name__ == "__main__":
    main()
