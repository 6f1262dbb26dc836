"""IAM's SimulatePrincipalPolicy, which moto lacks: a principal, actions and a thing in, decisions out.

Roles are judged by the policies that are in them, the bed's own by those that `starburst iam-policy` prints; who asks,
by his own, where the condition `iam` holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from moto.backends import get_backend

from starburst_common.sites.policies import POLICIES
from starburst_common.sites.site import Site
from tests.testbed.calls import Call
from tests.testbed.conditions import ACCOUNT, Conditions
from tests.testbed.iam import Need, allows, who
from tests.testbed.refusals import Answer, Refused


def simulated(call: Call, settings: Mapping[str, Any], conditions: Conditions) -> Answer:
    """Answer one call. Raises `Refused`."""
    asked = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
    statements = _statements(asked["PolicySourceArn"], call, Site.of(settings, "the test bed"), conditions)
    context = {
        asked[name]: asked[name.replace("ContextKeyName", "ContextKeyValues.member.1")]
        for name in asked
        if name.endswith(".ContextKeyName")
    }
    resource = asked.get("ResourceArns.member.1", "*")
    found = ""
    for name in sorted(name for name in asked if name.startswith("ActionNames.member.")):
        action = asked[name]
        fine = action not in conditions.denied and (
            statements is None or any(allows(each, Need(action, resource, context)) for each in statements)
        )
        decision = "allowed" if fine else "implicitDeny"
        found += (
            f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>*</EvalResourceName>"
            f"<EvalDecision>{decision}</EvalDecision></member>"
        )
    body = (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{found}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )
    return Answer(200, [("Content-Type", "text/xml")], body.encode())


def _statements(principal: str, call: Call, site: Site, conditions: Conditions) -> list[dict[str, Any]] | None:
    """What a principal is allowed; None for all."""
    if ":role/" not in principal:
        kind = who(call)
        return POLICIES[kind](site)["Statement"] if conditions.iam and kind else None
    name = principal.rpartition("/")[2]
    roles = get_backend("iam")[ACCOUNT]["aws"].roles.values()
    role = next((each for each in roles if each.name == name), None)
    if role is None:
        raise Refused("NoSuchEntity", f"Could not find entity {principal}", status=404)
    texts = list(role.policies.values())
    documents = [json.loads(text) for text in texts] or [POLICIES[name.rpartition("-")[2]](site)]
    return [statement for document in documents for statement in document["Statement"]]
