#!/bin/sh
# Expected: S3 answers a create-only write (If-None-Match: *) with 412 if the key is taken, and with 409
#   ConditionalRequestConflict if another write of it is under way, which may yet fail; S3's guide says to try again then.
#   A client tells the two apart.
# Happens: obstore raises AlreadyExistsError for both, and does not try again. Who takes that for "somebody has written it"
#   may find no object there.
# Seen: obstore 0.12.1, Python 3.11, Linux, 2026-11-29.
# Therefore: `S3Objects` in `starburst_common/aws/store.py` looks whether the key is there, and tries again if it is not.
set -eu
release=${1:-0.12.1}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >conflict.py <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import obstore
from obstore.store import S3Store

ANSWERS = {"taken": (412, "PreconditionFailed"), "busy": (409, "ConditionalRequestConflict")}
asked = []


class S3(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.path.rsplit("/", 1)[-1]
        asked.append(key)
        status, code = ANSWERS[key]
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), S3)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "bucket",
    endpoint=f"http://127.0.0.1:{server.server_port}",
    client_options={"allow_http": True},
    region="us-east-1",
    access_key_id="a",
    secret_access_key="b",
)
for key in ANSWERS:
    try:
        obstore.put(store, key, b"x", mode="create")
    except Exception as error:
        print(key, type(error).__name__, asked.count(key))
PYTHON
told=$(uv run --quiet --no-project --with "obstore==$release" python conflict.py | paste -sd, -)
if [ "$told" = "taken AlreadyExistsError 1,busy AlreadyExistsError 1" ]; then
    echo "seen: obstore $release (error and requests by key): $told"
else
    echo "changed: obstore $release (error and requests by key): $told"
    exit 1
fi
