"""What Airflow is told of this provider. Called while Airflow itself is imported, so nothing of it is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_origin

if TYPE_CHECKING:
    from starburst_common.spi import Row

CONNECTION_TYPE = "starburst_ecs"  #: "starburst" means Starburst's Trino to Airflow
HOOK_NAME = "Starburst on ECS"
DEFAULT_CONN = "starburst_default"
HIDDEN = ("host", "schema", "login", "password", "port")
_PLACE = "airflow_provider_starburst"
_HOOK = f"{_PLACE}.hooks.starburst"


def _field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


#: Fields of a site that are not called as their settings are, or are no lines of text.
_SHOWN: dict[str, dict[str, Any]] = {
    "name": {"label": "Site name"},
    "log_days": {"kind": "integer", "minimum": 1},
    "assign_public_ip": {"label": "Assign public IP", "enum": ["true", "false"]},
    "architecture": {"enum": ["X86_64", "ARM64"]},
}


def _fields() -> dict[str, dict[str, Any]]:
    """The form's, by name: those of a site say what the settings' table says of them."""
    from starburst_common.spi import SITE

    def of_site(name: str, row: Row) -> dict[str, Any]:
        default = f"; default: {str(row.default).lower()}" if isinstance(row.default, int) else ""
        shown = {"label": name.replace("_", " ").capitalize(), "description": row.meaning + default}
        return _field(**{**shown, **_SHOWN.get(name, {})})

    found = {
        "backend": _field(
            "Backend",
            "aws: the fields from the site's name to the signing secret are needed; local: this machine; "
            "auto: aws where a site is named, here or in settings, else local",
            default="auto",
            enum=["auto", "aws", "local"],
        ),
        **{name: of_site(name, row) for name, row in SITE.items()},
        "aws_conn_id": _field("AWS connection", "of the Amazon provider, for credentials; none: the process's own"),
        "role": _field("Role", "ARN of a role to assume for all that is done in AWS"),
        "home": _field("Home", "folder of the local backend"),
        "keep_days": _field("Keep days", "days for which an ended run is kept", "number", minimum=0),
    }
    for several in (name for name, row in SITE.items() if get_origin(row.kind) is tuple):
        found[several]["description"] += "; with commas between them"
    return found


FIELDS = _fields()
CONFIG: dict[str, Any] = {
    "starburst": {
        "description": "Runs of the starburst provider.",
        "options": {
            "namespace": {
                "description": "Tells this deployment's tasks from another's that uses the same site. "
                "By default the URL of its API server.",
                "version_added": None,
                "type": "string",
                "example": "production",
                "default": "",
            }
        },
    }
}


def get_provider_info() -> dict[str, Any]:
    """As Airflow's `provider_info.schema.json` has it."""
    integration = "Starburst on ECS"

    def at(kind: str) -> list[dict[str, Any]]:
        return [{"integration-name": integration, "python-modules": [f"{_PLACE}.{kind}.starburst"]}]

    return {
        "package-name": "starburst-ecs",
        "name": integration,
        "description": "Map a Python function over many inputs, on as many containers in Amazon ECS as quotas allow.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://pypi.org/project/starburst-ecs/",
                "tags": ["aws"],
            }
        ],
        "hooks": at("hooks"),
        "operators": at("operators"),
        "sensors": at("sensors"),
        "triggers": at("triggers"),
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": f"{_HOOK}.StarburstHook",
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": {"hidden-fields": [*HIDDEN], "relabeling": {}, "placeholders": {}},
                "conn-fields": FIELDS,
            }
        ],
        "extra-links": [
            f"{_PLACE}.links.starburst.StarburstReportLink",
            f"{_PLACE}.links.starburst.StarburstLogsLink",
            f"{_PLACE}.links.starburst.StarburstClusterLink",
        ],
        "task-decorators": [
            {"name": "starburst_map", "class-name": f"{_PLACE}.decorators.starburst.starburst_map_task"}
        ],
        "config": CONFIG,
    }
