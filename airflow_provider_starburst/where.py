"""What a connection says in; the place to run that it names, and its backend, out. Nothing of Airflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_origin

from starburst_common import BadInput
from starburst_common.spi import SETTINGS, SITE, ImageSettings, Site, our_log, settings

if TYPE_CHECKING:
    from starburst_common.spi import AwsSession, Backend

BACKENDS = ("auto", "aws", "local")
INSTALLED = "installed"  #: as requirements: what Airflow's environment has beside Airflow
_log = our_log()


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where runs are done: a site in AWS, or a folder of this machine."""

    site: Site | None
    home: Path
    keep_days: float
    image: ImageSettings
    role: str = ""
    aws_conn_id: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any], source: str, *, aws_conn_id: str | None = None) -> Self:
        """From a connection's fields; what they leave out is as settings files and variables have it.

        Raises `BadInput`.
        """
        given = {name: value for name, value in said.items() if value not in (None, "")}
        backend = str(given.pop("backend", "auto"))
        if backend not in BACKENDS:
            raise BadInput(f"{source}: backend={backend!r}: give one of {', '.join(BACKENDS)}")
        own = {name: given[name] for name in SITE if name in given}
        home = Path(str(given["home"])).expanduser() if "home" in given else None
        resolved = settings(backend=None if own or backend == "auto" else backend, home=home)
        site = Site.of({name: _of_type(name, value) for name, value in own.items()}, source) if own else resolved.site
        if backend == "local" or (not own and resolved.backend == "local"):
            site = None
        keep_days, wrong = SETTINGS["keep_days"].read(given.get("keep_days", resolved.keep_days))
        if wrong:
            raise BadInput(f"{source}: keep_days={keep_days!r}{wrong}")
        return cls(
            site=site,
            home=resolved.home,
            keep_days=keep_days,
            image=resolved.image,
            role=str(given.get("role", "")),
            aws_conn_id=aws_conn_id or given.get("aws_conn_id"),
        )

    @property
    def told(self) -> str:
        """For people."""
        return f"site {self.site.name} in {self.site.region}" if self.site else f"this machine ({self.home})"

    def with_requirements(self, file: Path | None) -> Where:
        """The same, whose images hold what a file asks for."""
        return self if file is None else replace(self, image=replace(self.image, requirements=str(file)))

    def open(self, new_session: Callable[[], AwsSession] | None = None) -> Backend:
        """The backend; who opens it closes it.

        `new_session` makes boto3 sessions, by default with this process's credentials. Raises as `starburst_map` does.
        """
        from starburst_common.spi import aws_backend, local_at  # not where a DAG's file is parsed

        if self.site is None:
            return local_at(self.home, keep_days=self.keep_days)
        return aws_backend(
            self.site, keep_days=self.keep_days, image=self.image, new_session=self._sessions(self.site, new_session)
        )

    def looked_at(self, new_session: Callable[[], AwsSession] | None = None) -> tuple[bool, list[str]]:
        """Whether all of it can be reached, and a line for each part: what is there, or what is wrong."""
        if self.site is not None:
            from starburst_common.spi import site_parts

            parts = site_parts(self.site, self._sessions(self.site, new_session))
            return all(each.fine is not False for each in parts), [*map(str, parts)]
        backend = self.open()
        try:
            return True, [f"runs kept there: {len(backend.store.folders('runs/')):,}"]
        finally:
            backend.close()

    def _sessions(self, site: Site, new_session: Callable[[], AwsSession] | None) -> Callable[[], AwsSession]:
        from starburst_common.spi import session_in

        return partial(session_in, site.region, new_session, role=self.role, purpose=f"starburst-{site.name}")


def _of_type(name: str, value: Any) -> Any:
    """A site's setting as it was typed into a form.

    >>> _of_type("max_hourly_cost", "2.5"), _of_type("subnets", "subnet-1, subnet-2"), _of_type("log_days", "many")
    (2.5, ('subnet-1', 'subnet-2'), 'many')
    """
    row = SITE.get(name)
    if row is None or not isinstance(value, str):
        return value
    if get_origin(row.kind) is tuple:
        return tuple(filter(None, (each.strip() for each in value.split(","))))
    return row.read(value)[0]


def requirements_of(where: Where, asked: str | Sequence[str] | None, image: str | None, dag: Path, root: Path) -> Where:
    """The place with what its workers are to have, which is the DAG's and never what Airflow itself is installed with.

    Args:
        asked: a file, relative to that of the DAG, or requirements, or "installed": what is here beside Airflow.
        image: workers run in that one; then nothing is looked for.
        dag: the DAG's file.
        root: nothing above this folder is looked at.

    Raises `BadInput` where workers in AWS have nothing that says what they need.
    """
    if where.site is None or image or where.site.image:
        return where
    if asked == INSTALLED:
        asked = _installed()
    if isinstance(asked, str):
        file = (dag.parent / asked).resolve()
        if not file.exists():
            raise BadInput(f"requirements={asked!r}: there is no {file}")
        return where.with_requirements(file)
    if asked is not None:
        with tempfile.NamedTemporaryFile("w", prefix="requirements-", suffix=".txt", delete=False) as written:
            written.write("".join(f"{line}\n" for line in asked))
        return where.with_requirements(Path(written.name))
    if where.image.requirements:
        return where
    from starburst_common.spi import nearest_requirements

    found = nearest_requirements(dag.parent)
    if found is None or not found.is_relative_to(root.resolve()):
        raise BadInput(
            f"workers in AWS need to know what to install, and no requirements.txt or lock lies beside {dag}: put one "
            f'there (an empty one for none), or give requirements=[…], or "{INSTALLED}" for what is installed beside '
            "Airflow, or image=…; Airflow's own packages are not sent"
        )
    return where.with_requirements(found)


def _installed() -> list[str]:
    """What this environment has beside Airflow, in the same versions; the log tells."""
    from starburst_common.spi import beside

    pins, hosts = beside("apache-airflow")
    names = ", ".join(pins) or "none"
    _log.info("workers get %d packages that are installed here: %s; %d are Airflow's or ours", len(pins), names, hosts)
    return pins
