"""The first request: a clip goes to a served model over HTTP, its labels come back. It needs no library.

python examples/first_request.py clip.mp4
python examples/first_request.py clip.mp4 --url http://127.0.0.1:8080/predictions/motion
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    """Send the file as the request's body, and print the labels of the reply."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a video file")
    parser.add_argument("--url", default="http://127.0.0.1:8080/predictions/slowfast_r50", help="of the model")
    options = parser.parse_args()

    request = urllib.request.Request(options.url, data=options.clip.read_bytes(), method="POST")
    request.add_header("Content-Type", "application/octet-stream")
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as refused:  # a reply too: it says what is wrong, and what to do
        body = json.load(refused)
        error = body.get("error", body)
        sys.exit(f"error: {error['code']}: {error['message']} {error.get('hint', '')}")
    except OSError as error:
        sys.exit(f"error: there is no server at {options.url} ({error}). Start one: make serve")

    seconds = reply["clip"]["end_seconds"] - reply["clip"]["start_seconds"]
    print(f"{options.clip}: {seconds:.1f} s of {reply['clip']['width']}x{reply['clip']['height']} pixels")
    for prediction in reply["predictions"]:
        print(f"{prediction['score']:6.1%}  {prediction['label']}")
    for warning in reply["warnings"]:
        print(f"note: {warning['message']}")


if __name__ == "__main__":
    main()
