"""A worker's clients in; which of S3 and SQS nobody answers at, if its network does not lead there, out.

A worker that reaches neither could tell nobody, and would try for a quarter of an hour, which costs money: so it looks
first whether a connection can be had at all. What services answer is of no matter here.
"""

from __future__ import annotations

import socket
import time
import urllib.request
from urllib.parse import urlsplit

from starburst_common.aws.clients import Clients
from starburst_common.aws.lent import Lent
from starburst_common.aws.ways import Way, way_to

_CONNECT_S = 5.0
_AGAIN_S = 1.0


def unconnected(clients: Clients, patience_s: float) -> Way | None:
    """The first of both that takes no connection for so long; nothing where there is a proxy, which is asked then."""
    until = time.monotonic() + patience_s
    for service, where in (("s3", Lent(clients).base(clients.region)), ("sqs", clients.sqs.meta.endpoint_url)):
        url = urlsplit(where)
        while not _answers(url.hostname or "", url.port or (80 if url.scheme == "http" else 443), url.scheme):
            if time.monotonic() > until:
                return way_to(service)
            time.sleep(_AGAIN_S)
    return None


def _answers(host: str, port: int, scheme: str) -> bool:
    if urllib.request.getproxies().get(scheme) and not urllib.request.proxy_bypass(host):
        return True
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except OSError:
        return False
    return True
