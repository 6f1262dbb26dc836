"""A request under one of AWS's names in; the same as moto reads it, and whether it was meant for there, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.testbed.calls import Call
from tests.testbed.hosts import Host, host_of
from tests.testbed.refusals import Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Named(NamedTuple):
    """A name, and what it is."""

    name: str
    host: Host

    def check(self, call: Call) -> None:
        """Raise `Refused` for what is signed for another service or region than the name's.

        Source: IAM User Guide, "Troubleshoot Signature Version 4 signing for AWS API requests", "Credential scope
        errors"; Amazon S3 API reference, "Error responses", AuthorizationHeaderMalformed; read 2026-11-30.
        """
        if call.service == "registry" or not call.access_key:
            return
        if call.service != self.host.service:
            text = f"Credential should be scoped to correct service: '{self.host.service}'."
            raise Refused("InvalidSignatureException", text, status=403)
        if not self.host.region or call.region == self.host.region:
            return
        if call.service == "s3":
            text = "The authorization header is malformed; the region '{}' is wrong; expecting '{}'"
            raise Refused("AuthorizationHeaderMalformed", text.format(call.region, self.host.region))
        code = "SignatureDoesNotMatch" if call.is_query else "InvalidSignatureException"
        raise Refused(code, f"Credential should be scoped to a valid region, not '{call.region}'.", status=403)


def named(environ: WSGIEnvironment) -> Named | None:
    """How it came; a bucket that the name has goes to its path, where moto looks for it."""
    if not (name := environ.get("bed.host")) or (host := host_of(name)) is None:
        return None
    if host.bucket:
        environ["PATH_INFO"] = f"/{host.bucket}{environ['PATH_INFO']}"
        for raw in ("RAW_URI", "REQUEST_URI"):
            environ[raw] = f"/{host.bucket}{environ[raw]}"
    environ["HTTP_HOST"] = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return Named(name, host)
