"""Images are kept while somebody uses them, and go together with all that was theirs alone."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from starburst_common.aws.clients import Clients
from starburst_common.aws.ecr import LIFECYCLE, PART, EcrRepository
from starburst_common.aws.images import EcsImages
from starburst_common.aws.store import S3Objects
from starburst_common.aws.sweeps import sweeps
from starburst_common.cli import image as commands
from starburst_common.config import ImageSettings
from starburst_common.environment import Environment
from starburst_common.errors import BadInput, Denied, Exists, NotFound, Unavailable
from starburst_common.image import oci
from starburst_common.image.build import PYTHON, SiteImages
from starburst_common.image.keep import collect, removable
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from starburst_common.model import FleetId
from starburst_common.money.book import ecr_usd_per_month
from starburst_common.names import holders
from starburst_common.ports import Access, StoredImage
from starburst_common.sites.site import Site
from tests.places import environment
from tests.test_cli import Shell
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import Engine
from tests.testbed.settings import settings_text

DAY_S = 86_400.0
NAME = "starburst-lab"
BOTH = ("linux/amd64", "linux/arm64")
ONE, TWO, THREE = (f"env-{digit * 32}" for digit in "123")


def stored(tag: str = ONE, *, pushed: float = 0.0, pulled: float | None = None, size: int = 0) -> StoredImage:
    """An image; times in days."""
    return StoredImage(
        tag=tag,
        digest="sha256:0",
        size_bytes=size,
        pushed_at=pushed * DAY_S,
        pulled_at=None if pulled is None else pulled * DAY_S,
    )


# --- what may go ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "goes"),
    [
        (stored(pushed=69), True),
        (stored(pushed=70), False),
        (stored(pushed=1, pulled=69), True),
        (stored(pushed=1, pulled=71), False),
        (stored(pushed=71, pulled=2), False),
        (stored("latest"), False),
        (stored("worker-1"), False),
        (stored("env-used"), False),
        (stored("env-"), True),
    ],
    ids=str,
)
def test_an_image_goes_once_nobody_has_pulled_it_for_a_while(image: StoredImage, goes: bool) -> None:
    """On day 100, when 30 are kept: from the last pull or push, only ours, never one in use."""
    assert bool(removable([image], in_use={"env-used"}, keep_days=30, now=100 * DAY_S)) == goes


times = st.floats(min_value=0, max_value=1000)
images = st.lists(
    st.builds(stored, st.sampled_from(["env-a", "env-b", "env-c", "x"]), pushed=times, pulled=st.none() | times)
)
tag_sets = st.frozensets(st.sampled_from(["env-a", "env-b", "env-c"]))


@given(images, tag_sets, st.floats(0, 100), times, st.floats(0, 100))
def test_more_time_and_fewer_users_never_keep_more(
    images: list[StoredImage], in_use: frozenset[str], keep_days: float, now: float, more: float
) -> None:
    """What goes is among what there is, none of it used, longest unused first; it goes later too, and if unused."""
    found = removable(images, in_use=in_use, keep_days=keep_days, now=now * DAY_S)
    assert all(image in images and image.tag not in in_use for image in found)
    ages = [max(image.pushed_at, image.pulled_at or 0) for image in found]
    assert ages == sorted(ages)
    for others in (
        removable(images, in_use=in_use, keep_days=keep_days, now=(now + more) * DAY_S),
        removable(images, in_use=frozenset(), keep_days=keep_days, now=now * DAY_S),
    ):
        assert all(image in others for image in found)


def test_what_storage_costs() -> None:
    """Ten cents a GB and month, exactly."""
    assert [str(ecr_usd_per_month(size)) for size in (0, 1 << 30, 10 << 30)] == ["0.00", "0.10", "1.00"]


# --- the repository ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clients(aws: Aws) -> Iterator[Clients]:
    """For the test bed's region."""
    aws.grant({**aws.site, "repository": NAME})
    opened = Clients("us-east-1")
    yield opened
    opened.close()


@pytest.fixture
def open_repository(aws: Aws, clients: Clients) -> Callable[..., EcrRepository]:
    """A repository that goes by the bed's clock."""
    return lambda: EcrRepository(clients, NAME, tags={"starburst:site": "lab"}, clock=aws.clock.time)


def policy_text(aws: Aws) -> str:
    """The lifecycle policy there is."""
    return str(aws.boto("ecr").get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"])


def changes(aws: Aws) -> dict[str, int]:
    """Calls to ECR that are no questions."""
    return {name: n for (service, name), n in aws.requests().items() if service == "ecr" and name[:3] in ("Cre", "Put")}


def test_a_repository_is_made_once(aws: Aws, open_repository: Callable[..., EcrRepository]) -> None:
    """Its tags never move, it is tagged with its site and scanned; a second `ensure` changes nothing."""
    repository = open_repository()
    assert repository.images() == []
    with pytest.raises(NotFound):
        _ = repository.uri
    repository.ensure()
    (made,) = aws.boto("ecr").describe_repositories()["repositories"]
    assert repository.uri == open_repository().uri == made["repositoryUri"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = aws.boto("ecr").list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"]
    assert tags == [{"Key": "starburst:site", "Value": "lab"}]
    assert json.loads(policy_text(aws)) == json.loads(LIFECYCLE)
    repository.ensure()
    open_repository().ensure()
    assert changes(aws) == {"CreateRepository": 1, "PutLifecyclePolicy": 1}
    assert repository.images() == []


def test_of_many_who_make_it_at_once_none_fails(aws: Aws, open_repository: Callable[..., EcrRepository]) -> None:
    """It is there for each of them."""
    aws.fault(service="ecr", operation="CreateRepository", delay_s=0.5, times=8)
    with ThreadPoolExecutor(8) as pool:
        them = [open_repository() for _ in range(8)]
        list(pool.map(lambda repository: repository.ensure(), them))
    assert len({repository.uri for repository in them}) == 1
    assert changes(aws)["CreateRepository"] > 1


def test_a_policy_of_another_s_stays(
    aws: Aws, open_repository: Callable[..., EcrRepository], caplog: pytest.LogCaptureFixture
) -> None:
    """Ours, however it is laid out, is not written again; any other stays, and one warning says so."""
    open_repository().ensure()
    for edited in (json.dumps(json.loads(LIFECYCLE), indent=2), LIFECYCLE.replace(': 1}, "action"', ': 9}, "action"')):
        aws.boto("ecr").put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText=edited)
        repository = open_repository()
        with caplog.at_level(logging.WARNING, logger="starburst"):
            repository.ensure()
            repository.ensure()
        assert policy_text(aws) == edited
    (said,) = [record.getMessage() for record in caplog.records]
    assert "starburst-lab may not expire: its lifecycle policy is not starburst's, and stays as it is" in said


@pytest.mark.parametrize("operation", ["GetLifecyclePolicy", "PutLifecyclePolicy"])
def test_a_repository_serves_without_a_policy(
    aws: Aws, open_repository: Callable[..., EcrRepository], caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    """Whatever ECR says of it, one warning does."""
    aws.fault(service="ecr", operation=operation, code="InvalidParameterException", message="no such count", times=2)
    repository = open_repository()
    with caplog.at_level(logging.WARNING, logger="starburst"):
        repository.ensure()
        repository.ensure()
    assert repository.images() == []
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"may not expire: ecr:{operation} starburst-lab: InvalidParameterException: no such count" in said


def test_a_token_is_asked_for_when_the_last_one_ends_soon(
    aws: Aws, open_repository: Callable[..., EcrRepository]
) -> None:
    """Half an hour before its end: a push that began with it may go on so long."""
    repository = open_repository()
    first = repository.access()
    assert (first.repository, first.user) == (NAME, "AWS")
    assert first.password
    assert first.password not in repr(first)
    aws.elapse(11.4 * 3600)
    assert repository.access() == first
    aws.elapse(0.2 * 3600)
    assert repository.access() != first
    assert aws.requests()["ecr", "GetAuthorizationToken"] == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"code": "AccessDeniedException", "message": "not authorized to perform"}, Denied),
        ({"code": "ExpiredTokenException"}, Unavailable),
    ],
)
def test_what_ecr_refuses_is_one_of_our_errors(
    aws: Aws, open_repository: Callable[..., EcrRepository], fault: dict[str, str], kind: type[Exception]
) -> None:
    """Naming the call."""
    aws.fault(service="ecr", times=10, **fault)
    repository = open_repository()
    for call in (repository.ensure, repository.access, repository.images, lambda: repository.delete([ONE])):
        with pytest.raises(kind, match="ecr:"):
            call()


def test_throttled_and_failed_calls_are_made_again(aws: Aws, open_repository: Callable[..., EcrRepository]) -> None:
    """As for every service."""
    aws.fault(service="ecr", operation="CreateRepository", code="ServerException")
    aws.fault(service="ecr", operation="PutLifecyclePolicy", code="ThrottlingException")
    aws.fault(service="ecr", operation="DescribeImages", reset=True)
    repository = open_repository()
    repository.ensure()
    assert repository.images() == []


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(engine: Engine, open_repository: Callable[..., EcrRepository]) -> EcrRepository:
    """One that is there, with a real registry behind it."""
    opened = open_repository()
    opened.ensure()
    return opened


def test_what_a_worker_pulls_is_known_as_the_repository_tells_it(aws: Aws, repository: EcrRepository) -> None:
    """Of an image that is named, else of the newest one; of one that is elsewhere, nobody knows."""
    push(repository, ONE)
    clients = Clients(aws.env["AWS_REGION"])
    site = Site.of({**aws.site, "image": "", "repository": NAME}, "a test")
    images = EcsImages(site, ImageSettings(), clients, S3Objects(aws.site["bucket"], clients))
    told = [images.nbytes(name) for name in (f"{repository.uri}:{ONE}", "", "public.ecr.aws/docker/library/python:3")]
    clients.close()
    assert 2000 < told[0] == told[1] and told[2] == 0


def push(repository: EcrRepository, tag: str, *, platforms: Sequence[str] = BOTH, content: str = "") -> list[str]:
    """An image of a kilobyte for the first platform, two for the second; digests of its manifests, the index last."""
    access = repository.access()
    registry = Registry.of(access)
    manifests: dict[str, bytes] = {}
    for number, platform in enumerate(platforms, 1):
        config = json.dumps({"architecture": platform}).encode()
        layer = (content or tag).encode() + platform.encode() + bytes(1000 * number)
        for blob in (config, layer):
            registry.put_blob(access.repository, oci.digest(blob), blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": {"mediaType": oci.CONFIG, "digest": oci.digest(config), "size": len(config)},
            "layers": [{"mediaType": oci.LAYER, "digest": oci.digest(layer), "size": len(layer)}],
        }
        manifests[platform] = json.dumps(manifest).encode()
        registry.put_manifest(access.repository, oci.digest(manifests[platform]), manifests[platform], oci.MANIFEST)
    index = oci.index(manifests)
    registry.put_manifest(access.repository, tag, index, oci.INDEX)
    return [oci.digest(body) for body in (*manifests.values(), index)]


def pull(repository: EcrRepository, tag: str) -> None:
    """What a worker's machine reads first."""
    access = repository.access()
    assert Registry.of(access).manifest(access.repository, tag) is not None


def there(aws: Aws) -> set[str]:
    """Digests of every manifest that is in the repository."""
    pages = aws.boto("ecr").get_paginator("list_images").paginate(repositoryName=NAME)
    return {image["imageDigest"] for page in pages for image in page["imageIds"]}


def test_images_are_told_by_tag_with_size_and_times(aws: Aws, repository: EcrRepository) -> None:
    """The size is the largest platform's; nobody has pulled one that was only pushed."""
    before = time.time()
    digest = push(repository, TWO)[-1]
    push(repository, ONE, platforms=BOTH[:1])
    one, two = repository.images()
    assert (one.tag, two.tag, two.digest, two.pulled_at) == (ONE, TWO, digest, None)
    assert 1000 < one.size_bytes < 2000 < two.size_bytes < 3000
    assert before - 2 < two.pushed_at < time.time() + 2
    pull(repository, TWO)
    pulled = repository.images()[1].pulled_at
    assert pulled is not None
    assert pulled >= two.pushed_at


def test_to_look_at_images_is_not_to_pull_them(aws: Aws, repository: EcrRepository) -> None:
    """On ECR who reads a manifest has pulled it: an image that is only looked at must expire all the same."""
    push(repository, ONE)
    aws.requests(reset=True)
    for _ in range(3):
        assert repository.images()[0].pulled_at is None
    assert {name for service, name in aws.requests() if service in ("ecr", "registry")} == {"DescribeImages"}


def test_however_many_images_there_are(aws: Aws, repository: EcrRepository) -> None:
    """More than a page, and more than one call removes."""
    push(repository, ONE)
    access = repository.access()
    registry = Registry.of(access)
    whole = registry.manifest(access.repository, ONE)
    assert whole is not None
    tags = [f"env-{number:032x}" for number in range(105)]
    for tag in tags:
        body = json.dumps({**whole.content, "annotations": {"tag": tag}}).encode()
        registry.put_manifest(access.repository, tag, body, oci.INDEX)
    assert [image.tag for image in repository.images()] == sorted([*tags, ONE])
    repository.delete(tags)
    assert [image.tag for image in repository.images()] == [ONE]
    assert len(there(aws)) == 3


def test_an_image_goes_with_what_only_it_refers_to(aws: Aws, repository: EcrRepository) -> None:
    """Manifests of its platforms, but not one that another image shares or that has a tag of its own."""
    one = push(repository, ONE)
    push(repository, TWO, content="shared")
    shared = push(repository, THREE, content="shared", platforms=BOTH[:1])
    access = repository.access()
    registry = Registry.of(access)
    arm = registry.manifest(access.repository, one[1])
    assert arm is not None
    registry.put_manifest(access.repository, "mine", arm.body, arm.media_type)
    repository.delete([ONE, TWO])
    assert [image.tag for image in repository.images()] == [THREE, "mine"]
    assert there(aws) == {*shared, one[1]}
    repository.delete([ONE, TWO, "never-there"])
    assert there(aws) == {*shared, one[1]}


def test_two_tags_of_one_image_go_one_by_one(aws: Aws, repository: EcrRepository) -> None:
    """The image stays until its last tag goes."""
    digests = push(repository, ONE, content="same")
    assert push(repository, TWO, content="same") == digests
    assert [image.digest for image in repository.images()] == [digests[-1]] * 2
    repository.delete([ONE])
    assert there(aws) == set(digests)
    repository.delete([TWO])
    assert there(aws) == set()


def test_nothing_to_remove_is_no_error(aws: Aws, open_repository: Callable[..., EcrRepository]) -> None:
    """No repository, no tags."""
    open_repository().delete([ONE])
    open_repository().ensure()
    open_repository().delete([])
    open_repository().delete([ONE])


def test_a_tag_never_names_anything_else(repository: EcrRepository) -> None:
    """Who comes second with another image is told."""
    push(repository, ONE)
    push(repository, ONE)
    with pytest.raises(Exists):
        push(repository, ONE, content="another")


class Pushes:
    """A builder that only pushes."""

    name = "pushes"

    def __init__(self, repository: EcrRepository) -> None:
        self.repository = repository

    def lacking(self, recipe: Recipe) -> str:
        return ""

    def build(self, recipe: Recipe, target: Access, tell: Callable[[str], None]) -> str:
        return push(self.repository, recipe.tag)[-1]


@pytest.fixture
def build(aws: Aws, engine: Engine, clients: Clients, repository: EcrRepository) -> Callable[[str], str]:
    """Has a site's image for some requirements built; its tag."""
    store = S3Objects(aws.site["bucket"], clients)
    store.create(f"{holders(FleetId('open'))}run", f"{repository.uri}:{THREE}".encode())
    images = SiteImages(
        repository=repository, store=store, builders=(Pushes(repository),), settings=ImageSettings(),
        platform=BOTH[0], clock=aws.clock.time,
    )  # fmt: skip
    return lambda text: images.built(engine.recipe(Environment.of(PYTHON, text))).rpartition(":")[2]


def test_a_build_removes_what_nobody_has_pulled_for_long(
    aws: Aws, repository: EcrRepository, build: Callable[[str], str]
) -> None:
    """A month and a day after the last pull or the push, with what was theirs; not others', nor what is in use."""
    one, two = push(repository, ONE), push(repository, TWO)
    push(repository, THREE)
    push(repository, "by-hand")
    aws.elapse(20 * DAY_S)
    pull(repository, TWO)
    aws.elapse(10.5 * DAY_S)
    first = build("six==1.16.0")
    assert len(repository.images()) == 5
    aws.elapse(DAY_S)
    second = build("six==1.17.0")
    assert {image.tag for image in repository.images()} == {"by-hand", TWO, THREE, first, second}
    assert not there(aws) & set(one) and set(two) <= there(aws)


def test_a_build_succeeds_though_old_images_stay(
    aws: Aws, repository: EcrRepository, build: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """Who may push and not look or remove is told so."""
    denied = "User: arn:aws:iam::123456789012:user/me is not authorized to perform: ecr:DescribeImages"
    aws.fault(service="ecr", operation="DescribeImages", code="AccessDeniedException", message=denied)
    with caplog.at_level(logging.WARNING, logger="starburst"):
        tag = build("six==1.17.0")
    assert [image.tag for image in repository.images()] == [tag]
    assert "images that nobody has pulled for long stay: not allowed" in caplog.text


def test_what_dead_builds_leave_expires_by_itself(aws: Aws, repository: EcrRepository) -> None:
    """A day after its push; what an image refers to stays."""
    one = push(repository, ONE)
    push(repository, f"{PART}1-amd64", platforms=BOTH[:1], content="another")
    assert aws.expire_images() == {NAME: []}
    aws.elapse(1.1 * DAY_S)
    aws.expire_images()
    assert set(one) <= there(aws)
    assert [image.tag for image in repository.images()] == [ONE]


def test_what_is_collected_is_removed_only_if_meant(aws: Aws, repository: EcrRepository) -> None:
    """A dry run tells the same and removes nothing; neither touches what is in use."""
    for tag in (ONE, TWO, THREE):
        push(repository, tag)
    later = time.time() + 8 * DAY_S
    for really, told, left in ((False, {ONE, THREE}, 3), (True, {ONE, THREE}, 1), (True, set(), 1)):
        found = collect(repository, in_use={TWO}, keep_days=7, now=later, really=really)
        assert {image.tag for image in found} == told
        assert len(repository.images()) == left
    assert len(there(aws)) == 3


def test_gc_of_a_site_removes_images_that_nobody_has(aws: Aws, repository: EcrRepository, tmp_path: Path) -> None:
    """By when they were last pulled, as ECR records it, of a registry that has them; a fleet's stay, and others'.

    The command finds none while all are new.
    """
    one, two = push(repository, ONE), push(repository, TWO)
    push(repository, THREE)
    push(repository, "by-hand")
    site = Site.of({**aws.site, "repository": NAME}, "the test")
    store = S3Objects(site.bucket, Clients(site.region))
    (tmp_path / "config.toml").write_text(settings_text(site.table()))
    aws.grant(site.table())
    shell = Shell(
        tmp_path, env={**aws.env, **aws.as_user("operator"), "STARBURST_CONFIG": str(tmp_path / "config.toml")}
    )
    told = json.loads(shell("gc", "--older-than", "0s", "--json").stdout)
    assert told == {"removed": True, "things": [], "failed": []}
    store.create(f"{holders(FleetId('fleet-20260101-000000-0a1b2c3d'))}run", f"{repository.uri}:{THREE}".encode())
    aws.elapse(40 * DAY_S)
    pull(repository, TWO)
    assert {image.tag for image in repository.images() if image.pulled_at} == {TWO}
    with environment(aws.as_user("operator")):
        images = [*sweeps(site, now=aws.clock.time(), least_s=0.0, image_days=30)][-1]
        (orphan,) = images.found()
        assert (orphan.name, orphan.why) == (ONE, "nobody has pulled it for 30 days")
        assert orphan.stored is not None and orphan.stored[1] > 2000
        assert not images.owned(orphan)
        images.remove(orphan)
        assert [*images.found()] == []
    assert {image.tag for image in repository.images()} == {"by-hand", TWO, THREE}
    assert not there(aws) & set(one) and set(two) <= there(aws)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(repository: EcrRepository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`starburst image …` over two images of which the second is in use; what it returns."""
    push(repository, ONE)
    push(repository, TWO)
    opened = (repository, frozenset([TWO]))
    monkeypatch.setattr("starburst_common.backends.open_images", lambda: opened, raising=False)
    app = typer.Typer()
    for command in (commands.ls, commands.rm, commands.gc):
        app.command()(command)

    def call(*words: str) -> Any:
        return typer.main.get_command(app).main([*words], prog_name="starburst image", standalone_mode=False)

    return call


def test_ls_tells_what_there_is(image: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A line an image, the total on stderr; as JSON all that is known."""
    image("ls")
    out, told = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split("  ")[0] == "image"
    assert {line.split()[0]: line.split()[-1] for line in lines} == {ONE: "never", TWO: "yes"}
    assert told.strip().startswith("2 images, 4 kB, about $0.0000")
    image("ls", "--json")
    listed = {each["tag"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(listed) == {ONE, TWO}
    assert set(listed[ONE]) == {"tag", "digest", "size_bytes", "usd_per_month", "pushed_at", "pulled_at", "in_use"}
    assert [listed[tag]["in_use"] for tag in (ONE, TWO)] == [False, True]


@pytest.mark.parametrize("word", [ONE, "env-1", "1", "1" * 64])
def test_rm_removes_what_a_word_names(
    image: Callable[..., Any], repository: EcrRepository, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    """A tag, the start of it or of a fingerprint, or all of the fingerprint; it says what it removed."""
    image("rm", word)
    assert capsys.readouterr().out == f"{ONE}\n"
    assert [each.tag for each in repository.images()] == [TWO]


def test_rm_refuses_what_is_in_use_unknown_or_not_one(image: Callable[..., Any], repository: EcrRepository) -> None:
    """And then removes nothing at all; `--force` removes one in use."""
    for words, error, text in [
        (["1", "2"], BadInput, "is in use"),
        (["1", "3"], NotFound, "no image '3'"),
        (["env-"], BadInput, "the start of 2 images"),
        ([""], NotFound, "no image ''"),
    ]:
        with pytest.raises(error, match=text):
            image("rm", *words)
    assert len(repository.images()) == 2
    image("rm", "--force", "2", "1", "1")
    assert repository.images() == []


def test_gc_first_says_what_would_go(
    image: Callable[..., Any], repository: EcrRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only `--yes` removes, and only what is old and not in use."""
    image("gc")
    assert "nothing to remove" in capsys.readouterr().err
    image("gc", "--days", "0")
    out, told = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == [ONE]
    assert told.startswith("would remove 1 image, 2 kB")
    assert len(repository.images()) == 2
    image("gc", "--days", "0", "--yes", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["removed"], [each["tag"] for each in said["images"]]) == (True, [ONE])
    assert [each.tag for each in repository.images()] == [TWO]
