"""A recipe in, an image in the registry out, by AWS CodeBuild, which bills each minute: needs no engine here.

Each platform is built on its own kind of machine.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.builds import (
    MACHINES,
    MINUTES,
    PackedSource,
    SourcePlace,
    buildspec,
    index_of,
    part_tags,
    project,
    request,
    why_failed,
)
from starburst_common.aws.clients import Clients
from starburst_common.aws.store import S3Objects
from starburst_common.errors import CannotBuild, Exists, NotFound, StarburstError, Unavailable
from starburst_common.image import context, oci
from starburst_common.image.output import Tell
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.names import new_build_source
from starburst_common.phrases import our_log, without_credentials
from starburst_common.ports import Access

_log = our_log("starburst.aws")
_MOST_MINUTES = 2 * MINUTES + 10
_LAST_LINES = 20
#: What to do about what CodeBuild refuses. Source: its API reference, StartBuild and CreateProject
_REFUSED = {
    "AccountLimitExceededException": "wait for other builds to end, or ask AWS's Service Quotas for more at once",
    "InvalidInputException": "look whether CodeBuild may assume the `build_role` of the settings' [site]",
}
_ROLE_LOOKS = 40  #: three seconds each: a new role may be unknown for less
_POLICY_LOOKS = 4  #: its policies come after it
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  #: docker's, round what a step prints to standard error


class CodeBuildBuilder:
    """Makes images in the site's account; one build a platform, at once."""

    name = "codebuild"

    def __init__(
        self, clients: Clients, store: S3Objects, *, site: str, role: str, tags: dict[str, str], look_s: float = 3.0
    ) -> None:
        self._clients, self._store, self._role, self._tags = clients, store, role, tags
        self._project, self._look_s = f"starburst-{site}", look_s

    def lacking(self, recipe: Recipe) -> str:
        """Why this recipe cannot be built so; empty if it can."""
        if unknown := [platform for platform in recipe.platforms if platform not in MACHINES]:
            return f"CodeBuild has machines for {' and '.join(MACHINES)} only, not for {', '.join(unknown)}"
        return "" if self._role else "set `build_role` in the settings' [site]: what CodeBuild may do"

    def build(self, recipe: Recipe, target: Access, tell: Tell) -> str:
        """Leave `recipe.tag` in the target repository, complete or not at all; returns the digest.

        A tag that is there already is left as it is. Whatever ends this ends the builds. Raises `CannotBuild` with the
        last lines of the log, or `Unavailable`.
        """
        registry = Registry.of(target)
        if (there := registry.digest(target.repository, recipe.tag)) is not None:
            return there
        if why := self.lacking(recipe):
            raise CannotBuild(why)
        self._ensure_project(tell)
        parts = part_tags(recipe)
        over = Event()
        with ThreadPoolExecutor(len(parts)) as pool:
            builds = [pool.submit(self._part, recipe, platform, tag, target, tell, over) for platform, tag in parts]
            try:
                for build in as_completed(builds):  # one that fails ends the others
                    build.result()
            finally:
                over.set()
        if len(parts) > 1:
            self._join(registry, target.repository, recipe.tag, dict(parts))
        digest = registry.digest(target.repository, recipe.tag)
        if digest is None:
            raise CannotBuild(f"CodeBuild pushed {recipe.tag}, but the registry does not have it: try again")
        return digest

    # --- one platform -------------------------------------------------------------------------------------------------

    def _part(self, recipe: Recipe, platform: str, tag: str, target: Access, tell: Tell, over: Event) -> None:
        registry = Registry.of(target)
        if registry.digest(target.repository, tag) is not None:
            return  # an earlier try got so far
        key = new_build_source(recipe.tag, context.architecture(platform))
        image = f"{urlsplit(target.url).netloc}/{target.repository}:{tag}"
        try:
            source = PackedSource.of(recipe, platform)
            self._store.put(key, source.body)
            doing = buildspec(SourcePlace(self._store.bucket, key, self._store.owner), source, image)
            with _asking(f"codebuild:StartBuild {self._project}"):
                started = self._clients.codebuild.start_build(**request(self._project, platform, doing))
                build = started["build"]["id"]
            with self._stopped_unless_over(build):
                tell(f"CodeBuild for {platform}: {build}")
                self._follow(build, platform, tell, over)
        except CannotBuild:
            if registry.digest(target.repository, tag) is None:  # else somebody has pushed it meanwhile, and it stays
                raise
        finally:
            with suppress(StarburstError, OSError):
                self._store.delete([key])

    def _follow(self, build: str, platform: str, tell: Tell, over: Event) -> None:
        last: list[str] = []
        log = _Log(self._clients)
        until = time.monotonic() + 60 * _MOST_MINUTES
        while True:
            try:
                found = self._look(build)
                for line in log.lines(found):
                    last = [*last, line][-_LAST_LINES:]
                    tell(line)
            except Unavailable as error:
                if time.monotonic() > until:
                    raise
                _log.warning("waiting for %s", error)
                found = {}
            if found.get("buildComplete"):
                break
            if time.monotonic() > until:
                raise CannotBuild(f"CodeBuild's build {build} for {platform} is not over after {_MOST_MINUTES} minutes")
            if over.wait(self._look_s):
                raise CannotBuild(f"the build for {platform} was ended")
        if found.get("buildStatus") != "SUCCEEDED":
            over.wait(self._look_s)
            with suppress(Unavailable):  # the last lines may come late
                last = [*last, *log.lines(found)][-_LAST_LINES:]
            with speaking(f"codebuild:BatchGetBuilds {build}"):
                raise CannotBuild(why_failed(found, platform, last))

    def _look(self, build: str) -> dict[str, Any]:
        with speaking(f"codebuild:BatchGetBuilds {build}"):
            found: list[Any] = list(self._clients.codebuild.batch_get_builds(ids=[build])["builds"])
        return dict(found[0]) if found else {}  # one that has just been started may not be known everywhere

    @contextmanager
    def _stopped_unless_over(self, build: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with suppress(StarburstError, OSError), speaking(f"codebuild:StopBuild {build}"):
                self._clients.codebuild.stop_build(id=build)  # one that is over stays as it is
            raise

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _ensure_project(self, tell: Tell) -> None:
        client, wanted = self._clients.codebuild, project(self._project, self._role, self._tags)
        with speaking(f"codebuild:BatchGetProjects {self._project}"):
            found = client.batch_get_projects(names=[self._project])["projects"]
        if not found:
            self._once_known(f"codebuild:CreateProject {self._project}", lambda: self._create(wanted), tell)
        elif found[0].get("serviceRole") != self._role:
            self._once_known(f"codebuild:UpdateProject {self._project}", lambda: client.update_project(**wanted), tell)

    def _create(self, wanted: dict[str, Any]) -> None:
        client = self._clients.codebuild
        with suppress(client.exceptions.ResourceAlreadyExistsException):  # somebody else was first
            client.create_project(**wanted)

    def _once_known(self, doing: str, ask: Callable[[], object], tell: Tell) -> None:
        """Ask for what names the role, as soon as CodeBuild knows that.

        Source: IAM User Guide, "Changes that I make are not always immediately visible", read 2026-11-30.
        """
        for look in itertools.count():
            try:
                with _asking(doing):
                    ask()
            except CannotBuild as error:
                if "sts:AssumeRole" not in str(error) or look == _ROLE_LOOKS:
                    raise
            else:
                time.sleep(_POLICY_LOOKS * self._look_s if look else 0.0)
                return
            if not look:
                tell(f"CodeBuild does not know the role {self._role} yet: waiting, as a new one takes a minute")
            time.sleep(self._look_s)

    def _join(self, registry: Registry, repository: str, tag: str, parts: dict[str, str]) -> None:
        """One index of what was built for each platform. The parts' tags go with them, a day after the index."""
        found: dict[str, oci.Manifest] = {}
        for platform, part in parts.items():
            manifest = registry.manifest(repository, part)
            if manifest and (inner := oci.pick(manifest, platform)):  # as engines push what has attestations
                manifest = registry.manifest(repository, inner)
            if manifest is None:
                raise CannotBuild(f"CodeBuild pushed nothing for {platform}: try again")
            found[platform] = manifest
        with suppress(Exists):
            registry.put_manifest(repository, tag, index_of(found), oci.INDEX)


@contextmanager
def _asking(doing: str) -> Iterator[None]:
    """As `speaking`; what CodeBuild refuses, and somebody can do something about, is `CannotBuild`."""
    try:
        with speaking(doing):
            yield
    except StarburstError as error:
        code = error_code(error.__cause__) if isinstance(error.__cause__, ClientError) else ""
        if code in _REFUSED:
            raise CannotBuild(f"{error}: {_REFUSED[code]}") from error
        raise


class _Log:
    """What a build prints, from where it was last read."""

    def __init__(self, clients: Clients) -> None:
        self._clients, self._token = clients, ""

    def lines(self, build: dict[str, Any]) -> Iterator[str]:
        """Those that are new."""
        where = build.get("logs", {})
        asked: dict[str, Any] = {"logGroupName": where.get("groupName"), "logStreamName": where.get("streamName")}
        while all(asked.values()):
            since: Any = {"nextToken": self._token} if self._token else {}
            try:
                with speaking("logs:GetLogEvents"):
                    page = self._clients.logs.get_log_events(**asked, startFromHead=True, **since)
                    lines = [
                        without_credentials(_COLOUR.sub("", event["message"]).rstrip()) for event in page["events"]
                    ]
                    token = page["nextForwardToken"]
            except NotFound:  # it has not begun to print
                return
            yield from lines
            ended, self._token = self._token == token, token
            if ended:
                return
