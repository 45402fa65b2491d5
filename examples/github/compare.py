"""Compares what was posted with what was received: counts, types and hashes.

Says what differs and exits with 1, unless all is the same.
"""

import argparse
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description="Compares what was posted and received.")
    parser.add_argument("manifest", type=Path, help="what send.py wrote")
    parser.add_argument("database", type=Path, help="what receiver.py wrote")
    args = parser.parse_args()

    posted = read_manifest(args.manifest)
    received = read_database(args.database)
    print(f"{len(posted)} posted, {len(received)} received")
    differences = list(compare(posted, received))
    print("\n".join(differences) or "all the same, byte for byte")
    sys.exit(1 if differences else 0)


def compare(posted, received):
    """Yields a line for each event whose type or hash is not the same in both."""
    for event_id in sorted(posted.keys() | received.keys()):
        if event_id not in received:
            yield f"{event_id}: posted, not received"
        elif event_id not in posted:
            yield f"{event_id}: received, not posted"
        elif posted[event_id] != received[event_id]:
            yield f"{event_id}: posted {posted[event_id]}, received {received[event_id]}"


def read_manifest(path):
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    posted = {entry["id"]: (entry["type"], entry["sha256"]) for entry in entries}
    if not posted or len(posted) != len(entries):
        sys.exit(f"{path} has nothing, or an event twice")
    return posted


def read_database(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute("select id, type, sha256 from events")
        return {event_id: (event_type, sha256) for event_id, event_type, sha256 in rows}


if __name__ == "__main__":
    main()
