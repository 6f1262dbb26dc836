"""IAM's SimulatePrincipalPolicy, which moto lacks: a principal, actions and a thing in, decisions out."""

from __future__ import annotations

from urllib.parse import parse_qs

from tests.testbed.calls import Call
from tests.testbed.iam import Iam, principal
from tests.testbed.needs import Need
from tests.testbed.refusals import Answer, Refused


def simulated(call: Call, iam: Iam) -> Answer:
    """Answer one call. Raises `Refused`."""
    asked = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
    who = principal(asked["PolicySourceArn"])
    if who is None:
        raise Refused("NoSuchEntity", f"Could not find entity {asked['PolicySourceArn']}", status=404)
    context = {
        asked[name]: asked[name.replace("ContextKeyName", "ContextKeyValues.member.1")]
        for name in asked
        if name.endswith(".ContextKeyName")
    }
    resource = asked.get("ResourceArns.member.1", "*")
    found = ""
    for name in sorted(name for name in asked if name.startswith("ActionNames.member.")):
        decision = "allowed" if iam.reckons(who, Need(asked[name], resource, context)) else "implicitDeny"
        found += (
            f"<member><EvalActionName>{asked[name]}</EvalActionName><EvalResourceName>*</EvalResourceName>"
            f"<EvalDecision>{decision}</EvalDecision></member>"
        )
    body = (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{found}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )
    return Answer(200, [("Content-Type", "text/xml")], body.encode())
