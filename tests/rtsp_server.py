"""A real RTSP server, GStreamer's. Debian's Python runs it: the project's own has no binding to GStreamer.

Usage: /usr/bin/python3 rtsp_server.py PORT [FRAMES_A_SECOND] [WIDTHxHEIGHT]

Plays a moving test picture as H.264 at rtsp://127.0.0.1:PORT/live to everyone who asks, for ever. PORT 0 is a
free one. The line that it prints when it is ready has the port.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    port = sys.argv[1]
    rate = sys.argv[2] if len(sys.argv) > 2 else "30"
    width, height = (sys.argv[3] if len(sys.argv) > 3 else "320x240").split("x")
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( videotestsrc is-live=true pattern=ball "
        f"! video/x-raw,width={width},height={height},framerate={rate}/1 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={rate} threads=1 "
        "! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )
    factory.set_shared(True)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}")
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main()
