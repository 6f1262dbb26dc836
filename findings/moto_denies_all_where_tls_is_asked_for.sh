#!/bin/sh
# Expected: a bucket whose policy denies whoever does not use TLS (the usual statement, with the condition
#   aws:SecureTransport = false) takes an object that comes by https, in moto as in S3.
# Happens: moto evaluates the statement without its condition, so it denies every call to that bucket, by https too, with
#   "403 Forbidden". Whoever tests a set-up as AWS recommends it finds its bucket locked.
# Seen: moto 5.2.5, boto3 1.43.3, Python 3.11, Linux, 2026-11-30.
# Therefore: `tests/testbed/front.py`, which hands policies to moto without that statement.
set -eu
release=${1:-5.2.5}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >locked.py <<'PYTHON'
import json

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws


@mock_aws
def main():
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    assert s3.meta.endpoint_url.startswith("https://")
    s3.create_bucket(Bucket="by-tls")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::by-tls", "arn:aws:s3:::by-tls/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(Bucket="by-tls", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    try:
        s3.put_object(Bucket="by-tls", Key="key", Body=b"")
        print("taken")
    except ClientError as error:
        print(error.response["Error"]["Code"])


main()
PYTHON
said=$(uv run --quiet --no-project --with "moto[s3]==$release" --with "boto3==1.43.3" python locked.py)
if [ "$said" = "403" ]; then
    echo "seen: moto $release answers a PutObject by https with $said"
else
    echo "changed: moto $release answers a PutObject by https with $said"
    exit 1
fi
