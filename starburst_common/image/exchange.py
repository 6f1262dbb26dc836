"""Requests to a registry in, answers that are successes out: authorized, redirected, tried again where that helps."""

from __future__ import annotations

import json
import random
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError, SSLError

from starburst_common.errors import BadInput, CannotBuild, Unavailable
from starburst_common.image.addresses import is_loopback, sent_to
from starburst_common.image.connections import pool

_TRIES = 4
_PAUSE_S = 0.5  #: before the second try; doubles
_LONGEST_PAUSE_S = 30.0  #: however long a registry asks for
_TIMEOUT = Timeout(connect=10, read=120)  # a registry checks a large upload before it answers
_REDIRECTS = 5
_ERROR_BYTES = 1 << 16
_TOKEN_BYTES = 1 << 20
#: What to do about what ECR refuses, by its words. Sources: Amazon ECR User Guide, "Amazon ECR service quotas", read
#: 2026-12-01; for layers, which it does not name, github.com/openai/tart/issues/890.
_ADVICE = {
    "Limit on number of layers per image exceeded": "ECR takes 500: choose a base image with fewer",
    "maximum allowed number of images": "`starburst image gc` removes those that nobody uses",
}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
Result = TypeVar("Result")


class Again(Exception):
    """What may work at the next try."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class RegistryRefused(CannotBuild):
    """A refusal, with its status."""

    def __init__(self, why: str, *, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Exchange:
    """Speaks HTTP with one registry, as one user; for any number of threads."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        split = urlsplit(self.url)
        self.host = split.netloc.rpartition("@")[2]
        if split.scheme != "https" and not (split.scheme == "http" and is_loopback(split.hostname or "")):
            raise BadInput(f"registry {split.scheme}://{self.host}: only https is spoken, and http on this machine")
        self._user, self._password = user, password
        self._authorization: dict[str, str] = {}  #: by what it is for
        self._pools: dict[str, PoolManager] = {}  #: by proxy, "" for none

    def location(self, answer: BaseHTTPResponse) -> str:
        """Where to go on. A location that names no host is our registry's own."""
        return self.place(f"{self.url}/", answer.headers.get("Location", ""))

    def place(self, base: str, to: str) -> str:
        """Where a registry sends us; behind a proxy, it may not know that it is spoken to by https.

        Raises `CannotBuild` where that is nowhere that HTTP goes.
        """
        split = urlsplit(sent_to(base, to))
        if split.netloc == self.host:
            split = split._replace(scheme=urlsplit(self.url).scheme)
        return urlunsplit(split)

    # --- requests -----------------------------------------------------------------------------------------------------

    @contextmanager
    def sent(
        self,
        method: str,
        repository: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Path | bytes | None = None,
        missing: bool = False,
        push: bool = False,
        beside: str = "",
    ) -> Iterator[BaseHTTPResponse]:
        """An answer that is a success, or 404 where `missing` is fine; authorized, redirects followed, closed after."""
        url = path if path.startswith(("http://", "https://")) else f"{self.url}/v2/{repository}/{path}"
        scope = f"repository:{repository}:{'pull,push' if push else 'pull'}"
        scopes = (scope, f"repository:{beside}:pull") if beside else (scope,)
        answer = self._send(method, url, dict(headers or {}), body, scopes)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            challenge = answer.headers.get("WWW-Authenticate", "")
            _let_go(answer)
            self._authorize(repository, challenge, scopes)
            answer = self._send(method, url, dict(headers or {}), body, scopes)
        try:
            if answer.status >= 300 and not (missing and answer.status == HTTPStatus.NOT_FOUND):
                self._refused(repository, answer)
            yield answer
        finally:
            _let_go(answer)

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: Path | bytes | None, scopes: tuple[str, ...]
    ) -> BaseHTTPResponse:
        for _ in range(_REDIRECTS):
            own = url.startswith(f"{self.url}/")  # nobody else is shown our credentials, nor anybody on the way
            authorization = self._authorization.get(" ".join(scopes), "") if own else ""
            sent = {**headers, "User-Agent": "starburst", **({"Authorization": authorization} if authorization else {})}
            if isinstance(body, Path):
                with body.open("rb") as stream:
                    answer = self._request(method, url, sent, stream)
            else:
                answer = self._request(method, url, sent, body)
            if method not in ("GET", "HEAD") or (to := answer.get_redirect_location()) in (None, False):
                return answer
            _let_go(answer)
            url = self.place(url, str(to))
        raise Again(f"more than {_REDIRECTS} redirects")

    def _request(
        self, method: str, url: str, headers: dict[str, str], body: BinaryIO | bytes | None
    ) -> BaseHTTPResponse:
        return self._pool(url).request(
            method, url, headers=headers, body=body, retries=False, redirect=False, timeout=_TIMEOUT,
            preload_content=False, decode_content=False,
        )  # fmt: skip

    def _pool(self, url: str) -> PoolManager:
        split = urlsplit(url)
        proxies = {} if proxy_bypass(split.hostname or "") else getproxies()
        proxy = proxies.get(split.scheme) or proxies.get("all") or ""
        if proxy not in self._pools:
            self._pools[proxy] = pool(proxy)
        return self._pools[proxy]

    def body(self, repository: str, answer: BaseHTTPResponse, most: int) -> bytes:
        """All of an answer, which may not be longer than what is asked for ever is. Raises `CannotBuild`."""
        body = answer.read(most + 1)
        if len(body) > most:
            raise CannotBuild(f"{self.named(repository)} answers with more than the {most:,} bytes that are read of it")
        return body

    # --- who we are ---------------------------------------------------------------------------------------------------

    def _authorize(self, repository: str, challenge: str, scopes: tuple[str, ...]) -> None:
        """Answer what a registry asked for: our name and password, or a token that another service gives for them."""
        kind, _, rest = challenge.partition(" ")
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        key = " ".join(scopes)
        if kind.lower() == "bearer" and "realm" in asked:
            self._authorization[key] = f"Bearer {self._token(repository, asked, scopes)}"
        elif kind.lower() == "basic" and self._user:
            self._authorization[key] = self._basic()
        else:
            self._denied(repository, HTTPStatus.UNAUTHORIZED, "")

    def _token(self, repository: str, asked: Mapping[str, str], scopes: tuple[str, ...]) -> str:
        realm = sent_to(self.url, asked["realm"])
        split = urlsplit(realm)
        if split.scheme != "https" and not is_loopback(split.hostname or ""):
            raise CannotBuild(f"{self.named(repository)} wants credentials to go to {split.netloc} without encryption")
        query = urlencode([*((("service", asked["service"]),) if "service" in asked else ()),
                           *(("scope", scope) for scope in scopes)])  # fmt: skip
        headers = {"Authorization": self._basic()} if self._user else {}
        answer = self._request("GET", f"{realm}{'&' if split.query else '?'}{query}", headers, None)
        try:
            if answer.status != HTTPStatus.OK:
                self._refused(repository, answer)
            said = json.loads(self.body(repository, answer, _TOKEN_BYTES))
            token = said.get("token") or said.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            raise Again(f"{split.netloc} gives no token where the registry says that it does") from None
        finally:
            _let_go(answer)
        return str(token)

    def _basic(self) -> str:
        return f"Basic {b64encode(f'{self._user}:{self._password}'.encode()).decode()}"

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def tried(self, repository: str, work: Callable[[], Result]) -> Result:
        """Do it, anew from its beginning as often as it may help. Raises `Unavailable`."""
        for attempt in range(1, _TRIES + 1):
            try:
                return work()
            except SSLError as error:
                raise CannotBuild(
                    f"{self.named(repository)} has a certificate that is not trusted ({error}): where a proxy or the "
                    "registry has one of your own, let SSL_CERT_FILE name a file with its authority"
                ) from None
            except (Again, HTTPError) as error:
                if attempt == _TRIES:
                    why = self._hidden(str(error))
                    raise Unavailable(
                        f"{self.named(repository)} cannot be reached after {_TRIES} tries: {why}. "
                        "Try again later; if it never works, look at this machine's network and proxy settings."
                    ) from None  # what it came from may hold addresses with credentials
                asked = error.pause_s if isinstance(error, Again) else 0.0
                backoff = _PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
                time.sleep(min(_LONGEST_PAUSE_S, max(asked, backoff)))
        raise AssertionError("unreachable")

    def _refused(self, repository: str, answer: BaseHTTPResponse) -> NoReturn:
        said = self._hidden(_said(answer))
        if answer.status in _BUSY or answer.status > HTTPStatus.INTERNAL_SERVER_ERROR:
            pause = answer.headers.get("Retry-After", "")
            raise Again(
                f"it answers {answer.status} {said}".strip(), float(pause) if re.fullmatch("[0-9]{1,9}", pause) else 0.0
            )
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            self._denied(repository, answer.status, said)
        advice = next((f": {what}" for words, what in _ADVICE.items() if words in said), "")
        raise RegistryRefused(
            f"{self.named(repository)} refuses: {answer.status} {said}".rstrip(": ") + advice, status=answer.status
        )

    def _denied(self, repository: str, status: int, said: str) -> NoReturn:
        who = f"the user {self._user}" if self._user else "anonymous use"
        way_out = (
            "log in anew, and see that this user may read and write there"
            if self._user
            else "it needs a login, or there is no such image: see that the name is right and open to everybody"
        )
        raise CannotBuild(f"{self.named(repository)} refuses {who} ({status}{f' {said}' if said else ''}): {way_out}")

    def named(self, repository: str) -> str:
        """How messages begin."""
        return f"Registry {self.host}, repository {repository},"

    def _hidden(self, text: str) -> str:
        """Without our password, and without what a signed address has after its path."""
        shorter = re.sub(r"\?[^\s'\")]+", "?…", text)
        for secret in (self._password, unquote(self._password)):
            shorter = shorter.replace(secret, "…") if secret else shorter
        return shorter[:500]


def _said(answer: BaseHTTPResponse) -> str:
    """Why, in the registry's words."""
    body = answer.read(_ERROR_BYTES).decode(errors="replace")
    try:
        errors = json.loads(body)["errors"]
        return "; ".join(f"{error.get('code', '')}: {error.get('message', '')}" for error in errors)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""


def _let_go(answer: BaseHTTPResponse) -> None:
    """Give the connection back for the next request, unless much is still to come on it."""
    if answer.length_remaining is not None and answer.length_remaining <= _ERROR_BYTES:
        answer.drain_conn()
    answer.close()
    answer.release_conn()
