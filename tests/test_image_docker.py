"""Images that an engine makes are as those of wheels, hold what must be built or run, and tell nobody's secrets."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from docker.errors import ImageNotFound

from starburst_common.environment import Environment
from starburst_common.environment.find import find_environment
from starburst_common.errors import CannotBuild, Unavailable
from starburst_common.image import context, oci, wheels
from starburst_common.image import recipe as layout
from starburst_common.image.docker import DockerBuilder
from starburst_common.image.layer import LayerBuilder
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry, parse_reference
from starburst_common.ports import Access
from tests.indexes import running_index
from tests.places import environment
from tests.registry_front import PASSWORD, Front, front_of
from tests.testbed.engine import Engine, engine_now

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
SECRET = "an-index-password"
NUMPY = "numpy==2.2.6"
SOURCE_ONLY = "docopt==0.6.2"


@pytest.fixture(scope="session", autouse=True)
def engine_named(engine: Engine) -> Iterator[None]:
    """The builder finds the tests' engine as it finds a user's."""
    with environment({"DOCKER_HOST": str(engine_now())}):
        yield


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where builds that fail leave what they printed."""
    return tmp_path / "builds"


def place(engine: Engine, **more: Any) -> Access:
    """A repository that nobody used."""
    return Access(url=f"http://{engine.registry}", repository=f"test-images/{token_hex(6)}", **more)


def config_of(access: Access, reference: str) -> dict[str, Any]:
    """What an image of one platform says of itself."""
    registry = Registry.of(access)
    manifest = registry.manifest(access.repository, reference)
    assert manifest is not None
    body: dict[str, Any] = json.loads(registry.blob(access.repository, manifest.content["config"]["digest"]))
    return body


class Built:
    """An image with all that a recipe can ask for."""

    def __init__(self, engine: Engine, recipe: Recipe, told: list[str]) -> None:
        self.engine, self.recipe, self.access, self.told = engine, recipe, place(engine), told
        self.digest = DockerBuilder().build(recipe, self.access, told.append)

    def said(self, *command: str, entrypoint: list[str] | None = None, **more: Any) -> str:
        """What a container prints; fails if it fails."""
        image = f"{self.engine.registry}/{self.access.repository}@{self.digest}"
        self.engine.client.api.pull(image)
        out = self.engine.client.containers.run(
            image, list(command), entrypoint=entrypoint, network_mode="host", remove=True, stderr=True, **more
        )
        return bytes(out).decode()


@pytest.fixture(scope="module")
def built(engine: Engine) -> Iterator[Built]:
    """With compiled and source-only packages and one from a closed index, a system package, and steps."""
    with running_index(SECRET) as index:
        index.add("mine", "1.0")
        (wheel,) = index.files["mine"].values()
        text = f"{with_hashes(NUMPY, SOURCE_ONLY)}\nmine==1.0 --hash=sha256:{hashlib.sha256(wheel).hexdigest()}"
        step = 'echo "it\'s $((1 + 1))" > /stepped\nid -u >> /stepped'
        recipe = engine.recipe(
            Environment.of(PYTHON, text), system_packages=("bc",), build_steps=(step, "echo 3 >> /stepped")
        )
        with environment({"UV_INDEX": f"mine={index.bare_url}", "UV_INDEX_MINE_USERNAME": "me"} | password()):
            yield Built(engine, recipe, [])


def password() -> dict[str, str]:
    """As uv wants to hear it."""
    return {"UV_INDEX_MINE_PASSWORD": SECRET}


def with_hashes(*requirements: str) -> str:
    """As a lock has them."""
    command = [wheels.uv_program(), "pip", "compile", "--quiet", "--generate-hashes", "--no-deps", "-"]
    done = subprocess.run(command, input="\n".join(requirements), check=True, capture_output=True, text=True)
    return done.stdout


@contextmanager
def front_of_engine(engine: Engine, **how: Any) -> Iterator[Front]:
    """A front that an engine can push to."""
    with front_of(engine.registry, **how) as front:
        front.RequestHandlerClass = taking_pieces(front.RequestHandlerClass)
        yield front


def taking_pieces(handler: Any) -> Any:
    """The same, but a request's body may come in pieces, as an engine sends it."""

    class Pieces(handler):  # type: ignore[misc]
        rfile: Any

        def setup(self) -> None:
            super().setup()
            self.stream = self.rfile

        def handle_one_request(self) -> None:
            self.rfile = self.stream
            super().handle_one_request()

        def parse_request(self) -> bool:
            good: bool = super().parse_request()
            if good and self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(iter(self.piece, b""))
                self.headers["Content-Length"], self.rfile = str(len(body)), BytesIO(body)
            return good

        def piece(self) -> bytes:
            body: bytes = self.stream.read(int(self.stream.readline(), 16))
            self.stream.readline()
            return body

    return Pieces


def test_an_image_runs_as_its_recipe_says(built: Built) -> None:
    """Packages and their data are in their places, compiled; home can be written; it is nobody's root."""
    program = (
        "import numpy, docopt, mine, os, json, starburst_common.ports as p; open(os.path.expanduser('~/x'), 'w');"
        f"open('{layout.PACKAGES}/lib/libmine.so');"
        "print(json.dumps([numpy.__version__, docopt.__version__, mine.version, numpy.__file__, p.__file__,"
        "os.getuid(), os.getgid(), os.getcwd()]))"
    )
    found = json.loads(built.said("-c", program, entrypoint=["python3"]))
    assert found[:3] == ["2.2.6", "0.6.2", "1.0"]
    assert found[3] == f"{layout.packages_folder(PYTHON)}/numpy/__init__.py"
    assert found[4:] == [f"{layout.SLOTS}/starburst_common/ports/__init__.py", *layout.USER, layout.HOME]
    how = built.said("-v", "-c", "import numpy, cloudpickle, starburst_common.ports", entrypoint=["python3"])
    loaded = [line for line in how.splitlines() if "code object from" in line and "/opt/starburst/" in line]
    assert len(loaded) > 50 and all(line.endswith(".pyc'") for line in loaded)
    assert built.said("-v", entrypoint=["f2py"]) == "2.2.6\n"


def test_system_packages_and_build_steps_are_in_it(built: Built) -> None:
    """Steps run as root, in their order, and may have several lines."""
    assert built.said("-c", "echo 6*7 | bc; cat /stepped", entrypoint=["sh"]) == "42\nit's 2\n0\n3\n"


def test_no_secret_is_in_it(built: Built) -> None:
    """Neither in its history and variables, nor in what it was told or in any file."""
    config = json.dumps(config_of(built.access, built.digest))
    assert SECRET not in config and "UV_INDEX" not in config
    assert SECRET not in "\n".join(built.told)
    search = f"grep -rlI -e {SECRET} -e UV_INDEX_MINE /opt/starburst /tmp /root /home /etc /var; true"
    assert built.said("-c", search, entrypoint=["sh"], user="0") == ""


@pytest.mark.rest
def test_it_is_as_one_made_of_wheels(engine: Engine, built: Built) -> None:
    """The same variables, user, folder, label and entry point; and the worker gets as far as to miss its orders."""
    recipe, access = engine.recipe(), place(engine)
    LayerBuilder().build(recipe, access, lambda _: None)
    ours, theirs = (config_of(*each)["config"] for each in ((built.access, built.digest), (access, recipe.tag)))
    for name in ("User", "WorkingDir", "Entrypoint", "Labels", "StopSignal"):
        assert ours.get(name) == theirs.get(name), name
    assert sorted(ours["Env"]) == sorted(theirs["Env"])
    assert not ours.get("Cmd") and not theirs.get("Cmd")
    image = f"{engine.registry}/{built.access.repository}@{built.digest}"
    engine.client.api.pull(image)
    container = engine.client.containers.create(image, network_mode="host")
    try:
        container.start()
        assert container.wait()["StatusCode"] != 0
        logs = container.logs().decode()
    finally:
        container.remove(force=True)
    assert "STARBURST_WORKER" in logs and "ImportError" not in logs and "ModuleNotFoundError" not in logs


def test_nothing_named_stays_and_what_is_there_is_not_built_again(engine: Engine, built: Built) -> None:
    """The engine keeps the steps, not the name; a tag that is there is its digest at once."""
    with pytest.raises(ImageNotFound):
        engine.client.images.get(f"{engine.registry}/{built.access.repository}:{built.recipe.tag}")
    told: list[str] = []
    assert DockerBuilder().build(built.recipe, built.access, told.append) == built.digest
    assert told == []


def test_a_step_that_fails_is_told_with_what_it_said_last(engine: Engine, logs: Path) -> None:
    """All of it is kept in a file; no tag is left. A known trouble has its way out, wherever the step spoke of it:

    an engine reads a command's output and its errors apart, so the last words may not come last.
    """
    recipe = engine.recipe(build_steps=("gcc -c nothing.c || { sleep 1; seq 1000 1030; exit 127; }",))
    access = place(engine)
    with pytest.raises(CannotBuild) as failed:
        DockerBuilder(logs=logs).build(recipe, access, lambda _: None)
    log, said = logs / f"{recipe.tag}.log", str(failed.value)
    assert "returned a non-zero code: 127" in said and "\n1030" in said and "\n1001" not in said and str(log) in said
    assert "\n1001\n" in log.read_text() and "gcc: not found" in log.read_text()
    assert "add gcc" in said and log.stat().st_mode & 0o077 == 0
    assert Registry.of(access).digest(access.repository, recipe.tag) is None


@pytest.mark.rest
def test_packages_that_cannot_be_installed_are_told_in_uvs_words(engine: Engine, logs: Path) -> None:
    """With the place where the rest is."""
    recipe = engine.recipe(Environment.of(PYTHON, "docopt==0.0.99"))
    with pytest.raises(CannotBuild, match=r"no version of docopt==0\.0\.99"):
        DockerBuilder(logs=logs).build(recipe, place(engine), lambda _: None)


@pytest.mark.rest
def test_a_base_with_another_python_is_refused(engine: Engine, logs: Path) -> None:
    """It would not find its packages."""
    recipe = engine.recipe(Environment.of("3.12", ""))
    with pytest.raises(CannotBuild, match=rf"has Python {PYTHON}, and the environment is for 3\.12"):
        DockerBuilder(logs=logs).build(recipe, place(engine), lambda _: None)


def test_an_engine_that_is_not_there_is_told_at_once(engine: Engine, tmp_path: Path) -> None:
    """By its address: no file, a socket that nobody serves, a port that nobody has; so is one that cannot build it."""
    recipe, builder = engine.recipe(), DockerBuilder()
    dead = tmp_path / "dead.sock"
    subprocess.run([sys.executable, "-c", f"import socket; socket.socket(1).bind({str(dead)!r})"], check=True)
    for where in (f"unix://{tmp_path}/none.sock", f"unix://{dead}", "tcp://127.0.0.1:9"):
        began = time.monotonic()
        with environment({"DOCKER_HOST": where}):
            assert f"at {where} (" in builder.lacking(recipe)
            with pytest.raises(CannotBuild, match="DOCKER_HOST"):
                builder.build(recipe, place(engine), print)
        assert time.monotonic() - began < 60
    assert builder.lacking(recipe) == ""
    other = "linux/arm64" if recipe.platforms == ("linux/amd64",) else "linux/amd64"
    for platforms in ((other,), ("linux/amd64", "linux/arm64")):
        said = builder.lacking(replace(recipe, platforms=platforms))
        assert said.startswith(f"the engine builds for {recipe.platforms[0]}") and "buildx" in said
    assert "linux/s390x" in builder.lacking(replace(recipe, platforms=("linux/s390x",)))


def test_without_the_docker_library_it_is_told_what_to_install() -> None:
    """As where the extra was not installed."""
    program = (
        "import sys; sys.modules['docker'] = None\n"
        "from starburst_common.image.docker import DockerBuilder\n"
        "from starburst_common.image.recipe import Recipe\nfrom starburst_common.environment import Environment\n"
        "print(DockerBuilder().lacking(Recipe(environment=Environment.of('3.11', ''), platforms=('linux/amd64',),"
        "base='b', base_digest='d', worker='w')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "pip install 'starburst-ecs[docker]'" in done.stdout


@pytest.mark.rest
def test_a_registry_that_asks_who_we_are_is_told(engine: Engine, logs: Path) -> None:
    """The base may be in it too; who is not let in hears so before anything is built."""
    recipe = engine.recipe()
    with front_of_engine(engine, auth="basic") as front:
        recipe = replace(recipe, base=recipe.base.replace(engine.registry, front.host))
        target = replace(place(engine, user="AWS", password=PASSWORD), url=front.url)
        put_base_layers(engine, recipe, target)
        told: list[str] = []
        with pytest.raises(CannotBuild, match=front.host):
            DockerBuilder(logs=logs).build(recipe, replace(target, password="wrong"), told.append)
        assert told == []
        digest = DockerBuilder(logs=logs).build(recipe, target, told.append)
        assert Registry.of(target).digest(target.repository, recipe.tag) == digest
        assert PASSWORD not in "\n".join(told) and list(logs.iterdir()) == []


@pytest.mark.rest
def test_a_push_that_breaks_leaves_no_tag_and_the_next_one_succeeds(engine: Engine, logs: Path) -> None:
    """What a registry cannot do now it may do later."""
    recipe = engine.recipe()
    with front_of_engine(engine) as front:
        target = replace(place(engine), url=front.url)
        put_base_layers(engine, recipe, target)
        front.fail("^PUT .*/manifests/", "500")
        with pytest.raises(Unavailable, match="cannot be pushed"):
            DockerBuilder(logs=logs).build(recipe, target, lambda _: None)
        assert Registry.of(target).digest(target.repository, recipe.tag) is None
        digest = DockerBuilder(logs=logs).build(recipe, target, lambda _: None)
        assert Registry.of(target).digest(target.repository, recipe.tag) == digest


@pytest.mark.rest
def test_a_tag_that_somebody_pushes_meanwhile_stays(engine: Engine, logs: Path) -> None:
    """Where tags stay as they are, the second to come has that one's digest."""
    recipe = engine.recipe()
    with front_of_engine(engine) as front:
        front.immutable = True
        target = replace(place(engine), url=front.url)
        theirs: list[str] = []

        def meanwhile(line: str) -> None:
            if line.startswith("pushing"):
                theirs.append(push_base(engine, recipe, target))

        assert [DockerBuilder(logs=logs).build(recipe, target, meanwhile)] == theirs


def push_base(engine: Engine, recipe: Recipe, target: Access) -> str:
    """The bare base under the recipe's tag."""
    registry, (_, repository, _) = Registry.of(target), parse_reference(recipe.base)
    base = Registry(f"http://{engine.registry}").manifest(repository, recipe.base_digest)
    assert base is not None
    for blob in (base.content["config"], *base.content["layers"]):
        assert registry.mount(target.repository, blob["digest"], repository)
    return registry.put_manifest(target.repository, recipe.tag, base.body, base.media_type)


@pytest.mark.rest
def test_a_build_killed_while_it_pushes_leaves_no_tag(engine: Engine, logs: Path) -> None:
    """The engine gives up with it; who comes next builds it."""
    recipe = engine.recipe()
    with front_of_engine(engine) as front:
        target = replace(place(engine), url=front.url)
        front.fail("/blobs/uploads/", "503", times=1000)  # the engine tries again, for half a minute
        program = (
            "import sys; from starburst_common.image.docker import *; from tests.testbed.engine import *\n"
            "with running_engine() as engine:\n"
            "    target = Access(url=sys.argv[1], repository=sys.argv[2])\n"
            "    DockerBuilder(logs=Path(sys.argv[3])).build(engine.recipe(), target, print)"
        )
        building = subprocess.Popen([sys.executable, "-c", program, target.url, target.repository, str(logs)])
        try:
            until = time.monotonic() + 120
            while not front.count("^POST .*/blobs/uploads/") and time.monotonic() < until:
                assert building.poll() is None
                time.sleep(0.02)
        finally:
            building.kill()
            building.wait()
    target = replace(target, url=f"http://{engine.registry}")
    assert Registry.of(target).digest(target.repository, recipe.tag) is None
    digest = DockerBuilder(logs=logs).build(recipe, target, lambda _: None)
    assert Registry.of(target).digest(target.repository, recipe.tag) == digest


def test_who_interrupts_ends_the_engine_s_work(engine: Engine, logs: Path) -> None:
    """At once, even where somebody keeps the exception, as a notebook does."""
    word = token_hex(8)

    def tell(line: str) -> None:
        if line == "it takes long":
            raise KeyboardInterrupt

    def running() -> bool:
        now = engine.client.containers.list(ignore_removed=True)  # others' come and go
        return any(word in " ".join(each.attrs["Config"]["Cmd"] or ()) for each in now)

    recipe = engine.recipe(build_steps=(f"echo it takes long; sleep 300; : {word}",))
    with pytest.raises(KeyboardInterrupt) as kept:
        DockerBuilder(logs=logs).build(recipe, place(engine), tell)
    until = time.monotonic() + 120
    while running() and time.monotonic() < until:
        time.sleep(0.1)
    assert not running() and kept.tb is not None


def test_a_base_without_the_platform_is_told(engine: Engine, logs: Path) -> None:
    """In the engine's words."""
    recipe = engine.recipe()
    url, repository, _ = parse_reference(recipe.base)
    registry = Registry(url)
    base = registry.manifest(repository, recipe.base_digest)
    assert base is not None
    index = oci.index({"linux/s390x": base.body})
    digest = registry.put_manifest(repository, "foreign", index, oci.INDEX)
    with pytest.raises(CannotBuild, match="no matching manifest for linux"):
        DockerBuilder(logs=logs).build(replace(recipe, base_digest=digest), place(engine), lambda _: None)


@pytest.mark.rest
def test_a_locked_package_and_an_index_whose_address_has_a_password(engine: Engine) -> None:
    """The line of a lock, hashes and all; the password is in no layer, history or configuration, deleted or not."""
    recipe = engine.recipe(Environment.of(PYTHON, locked("numpy")))
    assert "--require-hashes" in context.dockerfile(recipe) and "--hash=" in recipe.environment.text
    with running_index(SECRET) as index, environment({"UV_EXTRA_INDEX_URL": index.url}):
        made = Built(engine, recipe, [])
    assert any("numpy" in path for path in index.asked)
    program = "import cloudpickle, importlib.util as u; print(u.find_spec('boto3'))"
    assert made.said("-P", "-c", program, entrypoint=["python3"]) == "None\n"
    image = engine.client.images.get(f"{engine.registry}/{made.access.repository}@{made.digest}")
    assert image.attrs["Config"]["Entrypoint"] == ["python3", "/opt/starburst/supervisor"]
    assert image.labels == {"starburst.python": PYTHON}
    seen = [json.dumps(image.history()), json.dumps(image.attrs), *made.told]
    assert [text for text in seen if SECRET in text] == []
    layers = own_layers(made)
    assert len(layers) > 3 and [number for number, body in enumerate(layers) if SECRET.encode() in body] == []


def locked(name: str) -> str:
    """A package's line in this project's own lock."""
    found = find_environment(Path(__file__).parents[1], groups=("examples",))
    (line,) = (line for line in found.requirements if line.startswith(f"{name}=="))
    return line


def own_layers(built: Built) -> list[bytes]:
    """What an image has on top of its base, unpacked."""
    registry, (url, repository, _) = Registry.of(built.access), parse_reference(built.recipe.base)
    ours = registry.manifest(built.access.repository, built.digest)
    base = Registry(url).manifest(repository, built.recipe.base_digest)
    assert ours is not None and base is not None
    below = [layer["digest"] for layer in base.content["layers"]]
    above = [layer["digest"] for layer in ours.content["layers"] if layer["digest"] not in below]
    return [gzip.decompress(registry.blob(built.access.repository, digest)) for digest in above]


@pytest.mark.rest
def test_a_failed_install_does_not_tell_the_password_of_an_index(engine: Engine, logs: Path) -> None:
    """Neither in what is raised nor in what is kept."""
    recipe, told = engine.recipe(Environment.of(PYTHON, "mine==9\n")), list[str]()
    with running_index(SECRET) as index, environment({"UV_EXTRA_INDEX_URL": index.url}):
        index.add("mine", "1.0")
        with pytest.raises(CannotBuild, match="no version of mine==9") as failed:
            DockerBuilder(logs=logs).build(recipe, place(engine), told.append)
    kept = (logs / f"{recipe.tag}.log").read_text()
    assert [text for text in (str(failed.value), kept, *told) if SECRET in text] == []


@pytest.mark.rest
def test_a_step_that_fails_for_its_own_reasons_is_told_without_advice(engine: Engine, logs: Path) -> None:
    """First why, then where all is, then the end of it; the file is whole, and its owner's alone."""
    step = f"exec >&2; seq 1 40; echo out of luck; exit 3 # {token_hex(4)}"
    recipe, access = engine.recipe(build_steps=(step,)), place(engine)
    told: list[str] = []
    with pytest.raises(CannotBuild) as failed:
        DockerBuilder(logs=logs).build(recipe, access, told.append)
    log, (why, where, *end) = logs / f"{recipe.tag}.log", str(failed.value).splitlines()
    assert why.startswith("the image cannot be built: ") and why.endswith("returned a non-zero code: 3")
    assert where == f"What it said is in {log}; it ends:"
    assert end[-2:] == ["40", "out of luck"] and len(end) == 20
    kept = log.read_text().splitlines()
    first = kept.index("1")
    assert kept[0].startswith("Step 1/") and kept[first : first + 41] == [*map(str, range(1, 41)), "out of luck"]
    assert [line for line in kept if line in told] == told
    assert log.stat().st_mode & 0o777 == 0o600
    assert Registry.of(access).digest(access.repository, recipe.tag) is None


@pytest.mark.rest
def test_who_may_look_but_not_push_is_told_so(engine: Engine, logs: Path) -> None:
    """It is their credentials' matter: trying again is no advice."""
    recipe = engine.recipe()
    with front_of_engine(engine) as front:
        target = replace(place(engine, user="AWS", password=PASSWORD), url=front.url)
        put_base_layers(engine, recipe, target)
        front.RequestHandlerClass = denying_tags(front.RequestHandlerClass)
        with pytest.raises(CannotBuild, match="Let these credentials push") as failed:
            DockerBuilder(logs=logs).build(recipe, target, lambda _: None)
        assert front.host in str(failed.value) and PASSWORD not in str(failed.value)
        assert Registry.of(target).digest(target.repository, recipe.tag) is None


def denying_tags(handler: Any) -> Any:
    """The same, but nobody may push a tag, in the words that registries have for it."""

    class Denying(handler):  # type: ignore[misc]
        def do_PUT(self) -> None:
            if "/manifests/" not in self.path:
                self.handle_any()
                return
            denied = {"errors": [{"code": "DENIED", "message": "this user may not push"}]}
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(403, json.dumps(denied).encode(), {"Content-Type": "application/json"})

    return Denying


def put_base_layers(engine: Engine, recipe: Recipe, target: Access) -> None:
    """Spare an engine that cannot know of them to upload the base's layers."""
    repository = parse_reference(recipe.base)[1]
    registry = Registry(f"http://{engine.registry}")
    base = registry.manifest(repository, recipe.base_digest)
    assert base is not None
    for layer in base.content["layers"]:
        assert registry.mount(target.repository, layer["digest"], repository)


@pytest.mark.rest
def test_a_registry_that_stumbles_over_the_first_uploads_gets_them_again(engine: Engine, logs: Path) -> None:
    """From the engine, which is patient by itself."""
    recipe = engine.recipe()
    with front_of_engine(engine) as front:
        target = replace(place(engine), url=front.url)
        put_base_layers(engine, recipe, target)
        front.fail("^POST .*/blobs/uploads/", "500", times=2)
        digest = DockerBuilder(logs=logs).build(recipe, target, lambda _: None)
        assert Registry.of(target).digest(target.repository, recipe.tag) == digest


@pytest.mark.rest
def test_two_builds_of_one_recipe_at_once_both_succeed(engine: Engine, logs: Path) -> None:
    """What each returns is in the registry, and one of them has the tag."""
    recipe, access = engine.recipe(build_steps=(f"sleep 1; date +%N > /{token_hex(4)}",)), place(engine)
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(DockerBuilder(logs=logs).build, recipe, access, lambda _: None) for _ in range(2)]
        digests = [build.result() for build in builds]
    registry = Registry.of(access)
    assert all(registry.manifest(access.repository, digest) for digest in digests)
    assert registry.digest(access.repository, recipe.tag) in digests
    assert list(logs.iterdir()) == []


def test_a_dockerfile_puts_first_what_changes_least() -> None:
    """System packages, then steps in their order, below all else; the worker's layers are below those with packages."""
    recipe = Recipe(
        environment=Environment.of(PYTHON, f"six==1.17.0 --hash=sha256:{'0' * 64}"),
        platforms=("linux/amd64",),
        base="here:5000/base:1",
        base_digest="sha256:1",
        worker="1",
        system_packages=("gcc", "bc"),
        build_steps=('echo "a"', "echo b\necho ${TARGETARCH}"),
    )
    text = context.dockerfile(recipe, ("UV_INDEX", "UV_EXTRA_INDEX_URL"))
    _, ground, packages, final = text.split("\nFROM ")
    assert ground.startswith("here:5000/base@sha256:1 AS ground\n")
    steps = [f"RUN {json.dumps(['/bin/sh', '-c', step])}" for step in recipe.build_steps]
    places = [ground.index(part) for part in ("USER 0:0", " bc gcc ", *steps)]
    assert places == sorted(places)
    assert [line for line in packages.splitlines() if line.startswith("ARG UV")] == [
        "ARG UV_EXTRA_INDEX_URL",
        "ARG UV_INDEX",
    ]
    assert "UV_" not in ground + final and "--require-hashes" in packages
    order = ("/supervisor ", "/slots ", "COPY --from=packages ", "ENV ", "LABEL ", "USER 10001:10001", "ENTRYPOINT ")
    assert [final.index(part) for part in order] == sorted(final.index(part) for part in order)
    bare = context.dockerfile(replace(recipe, environment=Environment.of(PYTHON, ""), system_packages=()))
    assert "apt-get" not in bare and "--require-hashes" not in bare


DOCKER = """#!/bin/sh
settings="$(stat -c %a $DOCKER_CONFIG) $(cat $DOCKER_CONFIG/config.json)"
echo "$* ${BUILDX_BUILDER:-none} $UV_INDEX_MINE_PASSWORD $settings" >> "$CALLS"
case "$2" in
inspect) test -e "$CALLS.builder" ;;
create) touch "$CALLS.builder" ;;
build) echo building; test ! -e "$CALLS.fails" || { echo "exec /bin/sh: exec format error"; exit 1; } ;;
esac
"""


def test_several_platforms_are_a_matter_for_buildx(engine: Engine, tmp_path: Path, logs: Path) -> None:
    """Its builder is ours, made once; who we are stands in a file of ours alone; no secret is in its arguments."""
    both = replace(engine.recipe(), platforms=("linux/amd64", "linux/arm64"))
    target, calls = place(engine, user="AWS", password=PASSWORD), tmp_path / "calls"
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "desktop"}')
    (tmp_path / "calls.fails").touch()
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(calls), "DOCKER_CONFIG": str(tmp_path)}
    with environment({**path, "BUILDX_BUILDER": "mine", **password()}):
        with pytest.raises(CannotBuild, match="install emulation"):
            DockerBuilder(logs=logs).build(both, target, lambda _: None)
        (tmp_path / "config.json").write_text('{"auths"')
        with pytest.raises(CannotBuild, match=r"settings in .*/config\.json cannot be read.* DOCKER_CONFIG"):
            DockerBuilder(logs=logs).build(both, target, lambda _: None)
        (tmp_path / "config.json").write_text('{"credsStore": "desktop", "auths": null}')
        (tmp_path / "calls.fails").unlink()
        theirs: list[str] = []

        def pushed(line: str) -> None:
            theirs.append(push_base(engine, both, target))

        assert [DockerBuilder(logs=logs).build(both, target, pushed)] == theirs
    asked = [line for line in calls.read_text().splitlines() if not line.startswith("buildx version")]
    assert [line.split()[1] for line in asked] == ["inspect", "create", "build", "inspect", "build"]
    command, _, rest = asked[-1].partition(" none ")
    assert "--platform linux/amd64,linux/arm64 " in command and "--build-arg UV_INDEX_MINE_PASSWORD " in command
    assert SECRET not in command and PASSWORD not in command and SECRET in rest
    host = engine.registry
    login = json.loads(rest[rest.index("{") :])
    assert " 700 {" in rest and login["credHelpers"] == {host: ""} and login["credsStore"] == "desktop"
    assert base64.b64decode(login["auths"][host]["auth"]).decode() == f"AWS:{PASSWORD}"
