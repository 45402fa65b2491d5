"""A webhook receiver: verifies each request, stores it once, and answers 204.

Settings come from the environment: WEBHOOK_SECRET (`whsec_…`), DATABASE (a file,
`received.db`), PORT (3000; 0 means any free one).
"""

import hashlib
import logging
import os
import sqlite3
import sys
from contextlib import closing
from datetime import datetime, timezone

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug.serving import make_server

DATABASE = os.environ.get("DATABASE", "received.db")

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 512 * 1024  # Ringback sends little more than half of it
webhook = Webhook(os.environ["WEBHOOK_SECRET"])


@app.post("/webhooks")
def receive():
    body = request.get_data()  # the raw bytes: they are what was signed
    try:
        event = webhook.verify(body, request.headers)
    except (WebhookVerificationError, ValueError) as error:  # ValueError: malformed headers
        app.logger.warning("refused: %s", error)
        return "", 401
    event_id = request.headers["webhook-id"]
    is_new = store(event_id, event["type"], body)
    app.logger.info("%s %s %s", "stored" if is_new else "repeat", event_id, event["type"])
    return "", 204  # at once: work on what is stored can begin after the answer


def store(event_id, event_type, body):
    """Answers whether the event is new: the same one may arrive more than once."""
    data = body.partition(b',"data":')[2].removesuffix(b"}")
    now = datetime.now(timezone.utc).isoformat()
    row = (event_id, event_type, hashlib.sha256(data).hexdigest(), now, body)
    with closing(sqlite3.connect(DATABASE)) as db, db:
        return db.execute("insert or ignore into events values (?, ?, ?, ?, ?)", row).rowcount == 1


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no second line per request
    with closing(sqlite3.connect(DATABASE)) as db:
        columns = "id text primary key, type text, sha256 text, received_at text, body blob"
        db.execute(f"create table if not exists events ({columns})")
    server = make_server("127.0.0.1", int(os.environ.get("PORT", "3000")), app, threaded=True)
    app.logger.info("listening on http://127.0.0.1:%d/webhooks", server.port)
    server.serve_forever()
