"""What Airflow asks of a provider, checked by its own schemas and by what upstream lints its own providers for."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_starburst as package
from airflow_provider_starburst.get_provider_info import FIELDS, get_provider_info
from airflow_provider_starburst.hooks.starburst import StarburstHook
from airflow_provider_starburst.operators.starburst import StarburstMapOperator
from airflow_provider_starburst.sensors.starburst import StarburstRunSensor
from airflow_provider_starburst.triggers.starburst import StarburstRunTrigger
from starburst_common.spi import SITE

NEW = int(airflow.__version__.split(".")[0]) >= 3
AIRFLOW = Path(airflow.__file__).parent
INFO = get_provider_info()


def test_airflow_finds_it_by_the_name_of_its_distribution() -> None:
    """Another name would break the discovery of all providers."""
    (point,) = entry_points(group="apache_airflow_provider", name="provider_info").select(
        value="airflow_provider_starburst.get_provider_info:get_provider_info"
    )
    assert point.dist is not None and point.dist.name == INFO["package-name"] == "starburst-ecs"
    assert point.load()() == INFO
    assert version(INFO["package-name"])


def test_it_is_described_as_airflows_schemas_have_it() -> None:
    """That of the runtime, and the stricter one of upstream's own providers for the sections that it shares with it."""
    jsonschema.validate(INFO, json.loads((AIRFLOW / "provider_info.schema.json").read_text()))
    strict = AIRFLOW / "provider.yaml.schema.json"
    if strict.exists():
        properties = json.loads(strict.read_text())["properties"]
        for name in ("connection-types", "extra-links", "integrations"):
            if name in properties:
                jsonschema.validate(INFO[name], properties[name])


def test_to_describe_it_imports_nothing_of_airflow() -> None:
    """Airflow asks while it is imported itself."""
    script = (
        "import sys; from airflow_provider_starburst.get_provider_info import get_provider_info; get_provider_info();"
        "print([n for n in sys.modules if n.partition('.')[0] in ('airflow', 'boto3', 'obstore', 'cloudpickle')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def classes() -> Iterator[str]:
    """Every class that it names."""
    yield from (each["hook-class-name"] for each in INFO["connection-types"])
    yield from INFO["extra-links"]
    yield from (each["class-name"] for each in INFO["task-decorators"])


def test_all_that_it_names_is_there() -> None:
    """Each module has what its section is for, and each class can be imported."""
    for section in ("hooks", "operators", "sensors", "triggers"):
        for group in INFO[section]:
            for module in group["python-modules"]:
                assert import_module(module)
    for path in classes():
        module, _, name = path.rpartition(".")
        assert getattr(import_module(module), name)
    assert sorted(package.__all__) == dir(package)
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Flask, in Airflow 2
def test_the_form_has_a_field_for_each_setting_of_a_site() -> None:
    """And says of it what the settings' table says; Airflow 2 takes the form from the hook, which has the same."""
    assert set(SITE) <= set(FIELDS)
    for name, row in SITE.items():
        assert FIELDS[name]["description"].startswith(row.meaning)
    (kind,) = INFO["connection-types"]
    assert kind["connection-type"] == StarburstHook.conn_type != "starburst"
    behaviour = StarburstHook.get_ui_field_behaviour()
    assert behaviour["hidden_fields"] == kind["ui-field-behaviour"]["hidden-fields"]
    if not NEW:
        assert set(StarburstHook.get_connection_form_widgets()) == set(FIELDS)
    assert StarburstHook.conn_name_attr in inspect.signature(StarburstHook.__init__).parameters


@pytest.mark.parametrize("kind", [StarburstMapOperator, StarburstRunSensor])
def test_template_fields_are_assigned_as_they_are(kind: Any) -> None:
    """What is rendered later cannot be looked at in the constructor; every connection's id is rendered."""
    tree = ast.parse(inspect.getsource(kind))
    (made,) = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name == "__init__")
    plain = {
        node.targets[0].attr
        for node in ast.walk(made)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.targets[0].attr == node.value.id
    }
    assert set(kind.template_fields) <= plain
    names = inspect.signature(kind.__init__).parameters
    assert {name for name in names if name.endswith("_conn_id")} <= {*kind.template_fields}


def test_every_argument_of_a_trigger_is_stored_and_new_ones_have_defaults() -> None:
    """What is stored outlives upgrades."""
    made = StarburstRunTrigger("name", "by", "run-1", deadline=1.0)
    path, kwargs = made.serialize()
    parameters = inspect.signature(StarburstRunTrigger.__init__).parameters
    assert [*kwargs] == [*parameters][1:]
    assert StarburstRunTrigger(**kwargs).serialize() == (path, kwargs)
    assert {name for name, each in parameters.items() if each.default is each.empty} == {"self", "name", "by", "run"}
    with pytest.raises(TypeError):
        StarburstRunTrigger("name", "by", "run-1", poll_interval=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="JSON"):
        StarburstRunTrigger("name", "by", "run-1", poll_interval=float("inf"))


def test_a_trigger_is_the_same_after_airflow_has_stored_it() -> None:
    """Airflow encrypts its arguments, and before 3.0 turns what it does not know into text."""
    from airflow.models.trigger import Trigger

    made = StarburstRunTrigger("name", "by", "run-1", aws_conn_id="aws", deadline=1.5, cancel_on_kill=False)
    stored = Trigger.from_object(made)
    assert StarburstRunTrigger(**stored.kwargs).serialize() == (stored.classpath, made.serialize()[1])


def test_a_triggerers_loop_does_not_wait_for_imports() -> None:
    """Airflow imports a trigger's module there, while all other triggers wait."""
    script = (
        "import sys, airflow.triggers.base, airflow_provider_starburst.triggers.starburst;"
        "print([n for n in ('boto3', 'obstore', 'cloudpickle', 'starburst_common.cluster') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_to_parse_a_dag_loads_no_client() -> None:
    """Files of DAGs are parsed again and again; what only a task needs is loaded by the task."""
    script = (
        "import sys, airflow_provider_starburst.decorators.starburst, airflow_provider_starburst.sensors.starburst;"
        "print([n for n in ('boto3', 'obstore', 'starburst_common.aws') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_it_imports_of_airflow_what_airflow_offers_and_nothing_of_its_database() -> None:
    """Workers of Airflow 3 have no way to the database."""
    offered = ("airflow.providers.common.compat.sdk", "airflow.triggers.base", "airflow.sdk.serde")
    optional = ("airflow.providers.amazon.",)
    folder = Path(package.__file__).parent
    for _, name, is_package in pkgutil.walk_packages([str(folder)]):
        assert name or is_package
    for file in folder.rglob("*.py"):
        for module in imports(file):
            if module.partition(".")[0] == "airflow":
                assert module in offered or module.startswith(optional), f"{file}: {module}"


def test_the_decorator_is_among_airflows_own() -> None:
    """`@task.starburst_map`, as registered by the provider."""
    from airflow.providers.common.compat.sdk import task

    assert callable(task.starburst_map)
