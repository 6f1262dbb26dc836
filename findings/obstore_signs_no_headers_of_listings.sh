#!/bin/sh
# Expected: S3 refuses what has a header that begins with x-amz- and is not signed (AccessDenied, HeadersNotSigned). Headers
#   that all requests of a store are to have (client_options' default_headers) are signed with each.
# Happens: obstore sends them with listings too, and does not sign them there, so S3 refuses to list.
# Seen: obstore 0.12.1, Python 3.11, Linux, 2026-11-30.
# Therefore: `S3Objects` in `starburst_common/aws/store.py`, which says with each request whose bucket it means, lists by a
#   store without that header, and asks for the owner before.
set -eu
release=${1:-0.12.1}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >signed.py <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import obstore
from obstore.store import S3Store

OWNER = "x-amz-expected-bucket-owner"
LISTING = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"


class S3(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"")

    def do_GET(self):
        self.answer(LISTING)

    def answer(self, body):
        signed = OWNER in self.headers["Authorization"]
        print(self.command, "sent" if OWNER in self.headers else "not sent", "signed" if signed else "not signed")
        self.send_response(200)
        self.send_header("ETag", '"a"')
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
    client_options={"allow_http": True, "default_headers": {OWNER: "123456789012"}},
    region="us-east-1",
    access_key_id="a",
    secret_access_key="b",
)
obstore.put(store, "a", b"x")
obstore.list(store).collect()
PYTHON
told=$(uv run --quiet --no-project --with "obstore==$release" python signed.py | paste -sd, -)
if [ "$told" = "PUT sent signed,GET sent not signed" ]; then
    echo "seen: obstore $release: $told"
else
    echo "changed: obstore $release: $told"
    exit 1
fi
