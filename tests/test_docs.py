"""What README and docs/ show is true of the code: tables, code blocks, commands, links, messages, policies."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import typer
from botocore import xform_name

from starburst_common import names
from starburst_common.aws.definitions import SITES, torn_down
from starburst_common.cli.app import app
from starburst_common.model import FleetId, RunId
from starburst_common.names import RunNames
from starburst_common.offered import OPTIONS as OPTIONS_OF_A_MAP
from starburst_common.runs.stored import create_outcome, find_outcome
from starburst_common.sites.policies import POLICIES, prices
from starburst_common.sites.site import Site
from tests import docs_tables
from tests.blocks import Block, blocks_of
from tests.docs_tables import PAGES, ROOT, TABLES, filled, places
from tests.policies import DOCTORS, SITE, actions_of, policies
from tests.testbed.needs import action_of

ALL = [*sorted(ROOT.glob("*.md")), *PAGES]
PACKAGES = ("starburst_common", "prefect_starburst", "airflow_provider_starburst", "worker/starburst_worker")
OURS = ("starburst_common", "prefect_starburst")


def of(*languages: str, pages: list[Path] = ALL) -> list[Block]:
    return [block for page in pages for block in blocks_of(page, root=ROOT) if block.language in languages]


def each(blocks: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks, ids=str)


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_table_says_what_the_code_says(page: Path) -> None:
    """`python -m tests.docs_tables` writes them anew."""
    assert page.read_text() == filled(page.read_text())


def test_every_table_has_its_place() -> None:
    """Each that can be made is in just one page, and every row of it says something."""
    assert sorted(name for page in PAGES for name in places(page.read_text())) == sorted(TABLES)
    for name in ("options", "prefect-options", "settings", "failure-kinds", "exceptions", "commands"):
        silent = [row for row in TABLES[name]().splitlines() if row.endswith("| |")]
        assert silent == [], name


def test_the_examples_of_the_tables_hold() -> None:
    """The doctests of what makes them."""
    assert doctest.testmod(docs_tables).failed == 0


# --- Python -----------------------------------------------------------------------------------------------------------


@each(of("python"))
def test_python_compiles_and_names_what_there_is(block: Block) -> None:
    """What a block imports from our packages is there, and what it calls of them takes the options that it gives."""
    tree = ast.parse(block.text, filename=str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            there = dir(importlib.import_module(str(node.module)))  # to import the names would import Prefect
            assert [name.name for name in node.names if name.name not in there] == []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            known = OPTIONS.get(called)
            if known is not None and not any(isinstance(value, ast.Starred) for value in node.args):
                given = {keyword.arg for keyword in node.keywords} - {None}
                assert given <= known, f"{called} takes no {given - known}"


def keywords(function: Callable[..., Any]) -> set[str]:
    return {
        each.name for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD
    } - {"self"}


def _known_options() -> dict[str, set[str]]:
    from starburst_common import Cluster, Run, StarburstExecutor, attach, starburst_map
    from starburst_common.executor import OF_MAPS

    of_map = {*OPTIONS_OF_A_MAP}
    runner = next(
        node
        for node in ast.walk(ast.parse((ROOT / "prefect_starburst/home/runner.py").read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "StarburstTaskRunner"
    )
    made = next(node for node in runner.body if isinstance(node, ast.FunctionDef) and node.name == "__init__").args
    return {
        "starburst_map": of_map | keywords(starburst_map),
        "Cluster": of_map | keywords(Cluster.__init__),
        "StarburstExecutor": (of_map | keywords(StarburstExecutor.__init__)) - set(OF_MAPS),
        "start": of_map | keywords(Cluster.start),
        "burst": (of_map | {"backend"}) - {"ordered"},
        "attach": keywords(attach),
        "results": keywords(Run.results),
        "iter_completed": keywords(Run.iter_completed),
        "StarburstSite": keywords(Site) | {"image_settings", "keep_days", "role", "credentials"},
        "StarburstTaskRunner": {each.arg for each in (*made.args, *made.kwonlyargs)}
        | {"spot", "image", "chunk_size", "timeout"},
    }


OPTIONS = _known_options()


def test_every_block_says_what_it_is() -> None:
    """Or nobody would look at it."""
    blocks = [block for page in ALL for block in blocks_of(page, root=ROOT)]
    assert [str(block) for block in blocks if not block.language] == []


# --- the shell --------------------------------------------------------------------------------------------------------


def shell_lines(block: Block) -> Iterator[str]:
    """Its commands: in a console, those behind a prompt."""
    for line in block.text.splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue
        yield line.removeprefix("$ ")


def commands(line: str, name: str) -> Iterator[list[str]]:
    """The arguments of each call of a program in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set("|;&<>()"):
            if name in words and all("=" in before for before in words[: words.index(name)]):
                yield words[words.index(name) + 1 :]
            words = [] if word[0] in "|;&(" else ["="]  # a name behind > is no argument
        else:
            words.append(word)


BLOCKS_OF_SHELL = of("console", "sh")
INLINE = [
    (page.name, " ".join(code.removesuffix("…").split()))
    for page in ALL
    for code in re.findall(r"`(starburst\s[^`]+)`", page.read_text())
]
LINES = sorted(
    {
        *((str(block), line) for block in BLOCKS_OF_SHELL for line in shell_lines(block) if "starburst " in line),
        *((page, code) for page, code in INLINE if "…" not in code and "|" not in code),
    }
)


@pytest.mark.parametrize(("place", "line"), LINES)
def test_a_command_line_is_understood(place: str, line: str) -> None:
    """Its command and options are those of the shell command; in a block, what is needed is there too."""
    for left in commands(line, "starburst"):
        command: Any = typer.main.get_command(app)
        given = parsed(command, left)
        while hasattr(command, "commands") and given["left"]:
            name, *left = given["left"]
            assert name in command.commands, f"no command {name}"
            command = command.commands[name]
            given = parsed(command, left)
        if not hasattr(command, "commands"):
            assert given["left"] == [], "more arguments than it takes"
            lacking = [each.name for each in command.params if each.required and not given.get(each.name)]
            assert lacking == [] or ".md:" not in place


def parsed(command: Any, words: list[str]) -> dict[str, Any]:
    """What a command is given, as text, and under `left` what is for the next one. Nothing is carried out."""
    context = type(command).context_class(command, info_name="starburst")
    options, left, _ = command.make_parser(context).parse_args(args=list(words))
    return {**options, "left": left}


def test_every_target_that_is_named_can_be_made() -> None:
    """`make NAME`, in a block or in a text."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text() for page in ALL)
    named = set(re.findall(r"(?:`|^\$ |^)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets


def test_nothing_is_installed_from_an_index_that_lacks_it() -> None:
    """Until starburst is on PyPI, `pip install` names a folder."""
    pages = [page.name for page in ALL if re.search(r"pip install\s+\S*starburst", page.read_text())]
    assert pages == []


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the project, and to a heading of it where they name one."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_map_of_the_house_shows_what_is_there() -> None:
    """Every folder at the top, and no folder or file of tests that is gone."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    table = re.findall(r"^\| (`.*?) \|", page.partition("\n## How to run things")[0], re.MULTILINE)
    folders = {name for cell in table for name in re.findall(r"`([\w/]+)/`", cell)}
    assert {folder for folder in folders if not (ROOT / folder).is_dir()} == set()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    at_the_top = {name.partition("/")[0] for name in tracked.splitlines() if "/" in name}
    assert {name for name in at_the_top if not name.startswith(".")} == {folder.partition("/")[0] for folder in folders}
    for pattern in re.findall(r"`(?:tests/)?((?:faults/)?test_[\w*]+\.py)`", page):
        assert list((ROOT / "tests").glob(pattern)), pattern


def test_the_index_names_every_page() -> None:
    """And no other."""
    index = ROOT / "docs/README.md"
    named = re.findall(r"^\| \[([\w.]+)\]", index.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in PAGES if page != index)


# --- messages and variables -------------------------------------------------------------------------------------------


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


@cache
def texts() -> tuple[str, ...]:
    """Every text in the sources; one with values in it as its parts."""
    nodes = (node for file in sources() for node in ast.walk(ast.parse(file.read_text())))
    return tuple(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_a_message_to_look_up_is_one_that_starburst_has() -> None:
    """Each of its parts, between what differs, is in a text of the sources."""
    page = (ROOT / "docs/troubleshooting.md").read_text()
    section = page.partition("## What starburst says")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    assert len(messages) > 20
    known = "\n".join(texts())
    parts = [(message, part) for message in messages for part in re.split(" ?… ?", message) if len(part) > 3]
    assert [pair for pair in parts if pair[1] not in known] == []


def test_every_variable_is_told_of() -> None:
    """Each `STARBURST_…` that the sources read."""
    named = {text for text in texts() if re.fullmatch(r"STARBURST_[A-Z_]*[A-Z]", text)}
    page = (ROOT / "docs/settings.md").read_text()
    assert named >= {"STARBURST_CONFIG", "STARBURST_KEY", "STARBURST_VERBOSE", "STARBURST_WORKER"}
    assert [name for name in sorted(named) if f"`{name}`" not in page] == []


def test_what_is_not_sealed_is_listed() -> None:
    """The keys that `names` says so of, those of a site's setup, and no others, are in the table of docs/wire.md."""
    run, fleet = RunNames(RunId("run")), FleetId("fleet")
    keys = [
        names.PRUNED,
        names.LOOKED,
        names.LAUNCHING,
        names.build_turns("tag"),
        names.new_build_source("tag", "amd64"),
        names.holders(fleet),
    ]
    keys += [names.needed_by("2026-11-26")]
    keys += [run.suspect(1), run.cancel, run.report, run.expires, run.driven, run.feeding, run.retries]
    keys += [run.full, run.withdrawn, run.followed, run.aside(1)]
    assert inspect.getsource(names).lower().count("not sealed") == len(keys) + 1  # where it says what that means
    keys += [torn_down("main"), f"{SITES}main/asked", f"{SITES}main/held", f"{SITES}main/parts/bucket--mine"]
    section = (ROOT / "docs/wire.md").read_text().partition("## What is not sealed")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    shapes = [re.sub(r"<[^>]+>", "[^/]+", row) for row in rows]
    matched = [
        [shape for shape in shapes if re.fullmatch(shape, key.rstrip("/") + "/1" * key.endswith("/"))] for key in keys
    ]
    assert [len(each) for each in matched] == [1] * len(keys)
    assert len(rows) == len(keys)


# --- AWS --------------------------------------------------------------------------------------------------------------

SERVICES = (
    "cloudwatch",
    "ec2",
    "service-quotas",
    "codebuild",
    "ecr",
    "ecs",
    "logs",
    "pricing",
    "s3",
    "secretsmanager",
    "sqs",
    "ssm",
    "sts",
)
#: What the calls of obstore, of the registry's own protocol, and tags and roles in a request need. Same source.
IMPLIED = {
    *("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"),
    *("ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"),
    *("ecr:PutImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
    *("sqs:TagQueue", "ecs:TagResource", "ecr:TagResource", "logs:TagResource", "iam:PassRole"),
}
#: What each method of the ports needs on AWS.
PORTS = {
    "store.get": {"s3:GetObject"},
    "store.get_range": {"s3:GetObject"},
    "store.file": set[str](),
    "store.put": {"s3:PutObject"},
    "store.written_at": {"s3:GetObject"},
    "store.create": {"s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"},
    "queue.send": {"sqs:SendMessage"},
    "queue.receive": {"sqs:ReceiveMessage"},
    "queue.extend": {"sqs:ChangeMessageVisibility"},
    "queue.delete": {"sqs:DeleteMessage"},
    "compute.ended": {"s3:ListBucket", "s3:GetObject"},
}


def operations() -> dict[str, str]:
    """Every operation of the services that we speak to, by the name of its method."""
    session = botocore.session.get_session()
    return {
        xform_name(operation): f"{service.replace('-', '')}:{operation}"
        for service in SERVICES
        for operation in session.get_service_model(service).operation_names
    }


def called() -> set[str]:
    """The operations that the sources call."""
    known, found = operations(), set()
    for file in (ROOT / "starburst_common/aws").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = ""
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if name == "get_paginator":
                    name = ast.literal_eval(node.args[0])
            found |= {known[name]} if name in known else set()
    return found


def test_the_policies_allow_what_the_sources_call() -> None:
    """Who starts runs and looks after the site may do all of it, and nothing more is asked for."""
    mine = policies()["operator"]
    assert policies()["driver"] < mine
    needed = ({action_of(operation) for operation in called()} | IMPLIED) - {"sts:GetCallerIdentity"}  # all may do that
    assert len(called()) > 35
    told = {"ssm:GetParameter", "sts:AssumeRole"}  # in the text, and in docs/prefect.md
    apart = {"sqs:ChangeMessageVisibility", *actions_of(prices())}  # for workers, and for who looks prices up
    assert needed - mine == told | apart
    doctors = {each for each in mine - needed if each.partition(":")[2].startswith(DOCTORS)}  # see tests/test_setup.py
    assert mine - needed - doctors == {"iam:SimulatePrincipalPolicy"}  # the doctor's, too


def test_a_workers_role_allows_what_workers_call() -> None:
    """Each method of the ports that the worker's sources use, what it needs on AWS; and nothing more."""
    text = "\n".join(file.read_text() for file in (ROOT / "worker").rglob("*.py"))
    text += inspect.getsource(find_outcome) + inspect.getsource(create_outcome)
    used = {".".join(use) for use in re.findall(r"_?backend\.(store|queue|compute)\.(\w+)\(", text)}
    used |= {f"store.{name}" for name in re.findall(r"(?<![.\w])store\.(\w+)\(", text)}
    used |= {
        f"queue.{name}" for name in re.findall(r"(?:self\._|(?<![.\w]))queue\.(receive|send|extend|delete)\(", text)
    }
    needed = set().union(*(PORTS[name] for name in used)) | {"sqs:GetQueueUrl"}
    assert policies()["task"] == needed
    assert len(used) > 7


def test_a_worker_cannot_change_what_is_built() -> None:
    """Its role writes in the folder of runs, and in no other."""
    statements = POLICIES["task"](SITE)["Statement"]
    reached = [where for each in statements if "s3:PutObject" in each["Action"] for where in each["Resource"]]
    bucket = "arn:aws:s3:::my-starburst/"
    assert reached == [f"{bucket}{names.RUNS}*"]


@each(of("json", "toml"))
def test_data_can_be_read(block: Block) -> None:
    """JSON and TOML, as they stand."""
    assert json.loads(block.text) if block.language == "json" else tomllib.loads(block.text)


def documented_sites() -> list[Site]:
    """What settings files of the pages name; known, complete and well-formed, or it raises."""
    found = [tomllib.loads(block.text) for block in of("toml")]
    return [Site.of(table["site"], "docs") for table in found if "site" in table]


def test_the_site_in_the_docs_is_one() -> None:
    """Where one is shown it is whole."""
    assert len(documented_sites()) == 2
