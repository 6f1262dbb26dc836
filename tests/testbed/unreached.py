"""A service that a task on Fargate got no answer of in; what the task stops with out. Pure.

Sources: Amazon ECS Developer Guide, "Troubleshooting Amazon ECS ResourceInitializationError errors" and
"CannotPullContainer task errors in Amazon ECS"; the ends of the texts as users report them; read 2026-11-30.
"""

from __future__ import annotations

from tests.testbed.conditions import domain_of

_TIMEOUT = "dial tcp 52.46.145.233:443: i/o timeout"
_CANCELED = "RequestCanceled: request context canceled caused by: context deadline exceeded"
_AUTH = "ResourceInitializationError: unable to pull secrets or registry auth: "
_PULL = "CannotPullContainerError: "
_NO_WAY = "There is a connection issue between the task and {}. Check your task network configuration. "
_RESOLVE = 'failed to resolve ref {what}: failed to do request: Head "https://{what}": '
_SAID = {
    "ecr.api": f"{_AUTH}The task cannot pull registry auth from Amazon ECR: {_NO_WAY.format('Amazon ECR')}RequestError"
    f': send request failed caused by: Post "https://api.ecr.{{region}}.{{domain}}/": {_TIMEOUT}',
    "ssm": f"{_AUTH}execution resource retrieval failed: unable to retrieve secrets from ssm: service call has been "
    f"retried 5 time(s): {_CANCELED}. Please check your task network configuration.",
    "secretsmanager": f"{_AUTH}unable to retrieve secret from asm: {_NO_WAY.format('AWS Secrets Manager')}failed to "
    f"fetch secret {{what}} from secrets manager: {_CANCELED}",
    "logs": "ResourceInitializationError: failed to validate logger args: The task cannot find the Amazon CloudWatch "
    "log group defined in the task definition. There is a connection issue between the task and Amazon CloudWatch. "
    "Check your network configuration. : signal: killed",
    "ecr.dkr": f"{_PULL}The task cannot pull {{what}} from the Amazon ECR repository. {_NO_WAY.format('Amazon ECR')}"
    f"{_RESOLVE}{_TIMEOUT}",
    "s3": f"{_PULL}pull image layer has been retried 5 time(s): failed to copy: httpReadSeeker: failed open: failed to "
    f'do request: Get "https://prod-{{region}}-starport-layer-bucket.s3.{{region}}.{{domain}}/": {_TIMEOUT}',
    "": f"{_PULL}pull image manifest has been retried 5 time(s): {_RESOLVE}{_TIMEOUT}",
}


def unreached(service: str, region: str, what: str) -> str:
    """By what endpoints call the service; "" is a registry elsewhere. `what` is the secret or the image."""
    return _SAID[service].format(region=region, domain=domain_of(region), what=what)
