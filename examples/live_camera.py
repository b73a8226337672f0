"""What is being done in front of a camera now, with a line when it changes. Ctrl-C ends it.

python examples/live_camera.py 0                               # the camera /dev/video0
python examples/live_camera.py rtsp://camera/live --alarm "falling off chair"
python examples/live_camera.py clip.mp4                        # a file, played at its own speed
"""

import argparse
import sys

from actionrec_client import ActionClient, ServerError
from actionrec_client.live.events import Answered, Event, Failed, Lost
from actionrec_client.live.reader import Reader
from actionrec_client.live.run import LiveRun, Plan
from actionrec_client.live.server import Server
from actionrec_client.live.source import Source, SourceError


def main() -> None:
    """Send window after window to the model, and say what changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="0 or /dev/video0, rtsp://..., http://..., or a file")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds from one window to the next")
    parser.add_argument("--alarm", default="", help="a label that is worth more than a line")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the server")
    options = parser.parse_args()
    before = ""

    def show(event: Event) -> None:
        """Called with everything that happens, in order."""
        nonlocal before
        if isinstance(event, Answered) and (best := event.predictions[0])["label"] != before:
            before = best["label"]
            alarm = "  <-- ALARM" if before == options.alarm else ""
            print(f"{event.end_seconds:7.1f} s  {before} ({best['score']:.2f}){alarm}", flush=True)
        elif isinstance(event, Failed | Lost):
            print(event.to_dict(), file=sys.stderr)

    try:
        server = Server(ActionClient(options.url, timeout=10))
        described = server.describe()
        plan = Plan(described.spec, described.labels, top_k=1)
        with Reader(Source(options.source), plan.spec, options.interval, give_up_seconds=30) as reader:
            run = LiveRun(reader, server, plan, show)
            try:
                reason = run.run()
            except KeyboardInterrupt:
                reason = "Ctrl-C"
        print(f"{run.results} windows were answered. The end: {reason}.")
    except (ServerError, SourceError) as error:
        sys.exit(f"error: {error}")
    if reader.error is not None:
        sys.exit(f"error: {reader.error}")


if __name__ == "__main__":
    main()
