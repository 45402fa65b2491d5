"""Posts GitHub's example webhook payloads to Ringback, and notes what was posted.

The environment says where: RINGBACK_SERVER and RINGBACK_KEY. The manifest gets a line
of JSON for each event: its id, its type, and the SHA-256 of the bytes of its data.
Running this twice sends nothing twice: an id of the producer's names one event only.
"""

import argparse
import hashlib
import itertools
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

# JSON can be written in many ways, and is delivered in the one that it was posted in.
STYLES = [
    {"separators": (",", ":"), "ensure_ascii": False},  # UTF-8 as it is
    {"separators": (",", ":"), "ensure_ascii": True},  # with \u escapes
    {"separators": (", ", ": "), "ensure_ascii": False},
    {"indent": 2, "ensure_ascii": False},
]
TRIES = 10


def main():
    parser = argparse.ArgumentParser(description="Posts GitHub's example webhook payloads.")
    parser.add_argument("package", type=Path, help="the folder of @octokit/webhooks-examples")
    parser.add_argument("--app", default="github", help="the application, by id or slug")
    parser.add_argument("--manifest", type=Path, default=Path("manifest.jsonl"))
    args = parser.parse_args()

    events = list(read_events(args.package))
    with ThreadPoolExecutor(8) as threads, args.manifest.open("w") as manifest:
        for entry in threads.map(lambda event: publish(args.app, *event), events):
            manifest.write(json.dumps(entry) + "\n")
    print(f"{len(events)} events of {len({event[1] for event in events})} types posted")


def read_events(package):
    """Yields the producer's id, the event type and the bytes of data of each example."""
    styles = itertools.cycle(STYLES)
    for index in sorted(package.glob("*/index.json")):
        source = index.parent.name  # `api.github.com`, or a release of GitHub Enterprise Server
        for webhook in json.loads(index.read_bytes()):
            name = webhook["name"]
            for number, payload in enumerate(webhook["examples"]):
                data = json.dumps(payload, **next(styles)).encode()
                yield f"{source}/{name}/{number}", f"github.{name}", data


def publish(app, external_id, event_type, data):
    """Posts one event; answers its line of the manifest."""
    start = json.dumps({"app": app, "type": event_type, "id": external_id}).removesuffix("}")
    event = post(start.encode() + b',"data":' + data + b"}")
    return {"id": event["id"], "type": event_type, "sha256": hashlib.sha256(data).hexdigest()}


def post(body):
    """Posts an event, again if the service is busy: its id makes that safe."""
    url = os.environ["RINGBACK_SERVER"] + "/v1/events"
    key = "Bearer " + os.environ["RINGBACK_KEY"]
    headers = {"authorization": key, "content-type": "application/json"}
    for tries_left in reversed(range(TRIES)):
        try:
            with urlopen(Request(url, body, headers), timeout=30) as answer:
                return json.load(answer)
        except HTTPError as refusal:
            if refusal.code not in (429, 503) or not tries_left:
                raise SystemExit(f"{refusal}: {refusal.read().decode()}") from None
            time.sleep(float(refusal.headers.get("retry-after", "1")))


if __name__ == "__main__":
    main()
