"""What the test bed's builds ask of `aws`: CodeBuild's images have the AWS CLI, machines need not."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import closing
from pathlib import Path

import boto3


def main(arguments: list[str]) -> None:
    """Answer `ecr get-login-password`, or `s3api get-object`."""
    match arguments:
        case ["ecr", "get-login-password"]:
            with closing(boto3.client("ecr")) as ecr:
                token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
            print(base64.b64decode(token).decode().partition(":")[2])
        case ["s3api", "get-object", "--bucket", bucket, "--key", key, "--expected-bucket-owner", owner, file]:
            with closing(boto3.client("s3")) as s3:
                found = s3.get_object(Bucket=bucket, Key=key, ExpectedBucketOwner=owner)
                Path(file).write_bytes(found["Body"].read())
            print(json.dumps({"ETag": found["ETag"], "ContentLength": found["ContentLength"]}))
        case _:
            sys.exit(f"the test bed's aws does not know: {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])
