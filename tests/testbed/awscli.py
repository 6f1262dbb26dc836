"""`aws ecr get-login-password` for the test bed's builds: CodeBuild's images have the AWS CLI, machines need not."""

from __future__ import annotations

import base64
import sys

import boto3


def main(arguments: list[str]) -> None:
    """Print a registry's password."""
    if arguments[:2] != ["ecr", "get-login-password"]:
        sys.exit(f"the test bed's aws knows `ecr get-login-password` alone, not: {' '.join(arguments)}")
    client = boto3.client("ecr")
    try:
        token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    finally:
        client.close()
    print(base64.b64decode(token).decode().partition(":")[2])


if __name__ == "__main__":
    main(sys.argv[1:])
