#!/bin/sh
# Expected: CreateServiceLinkedRole for a service that has its role already fails in moto as in IAM, by one of the errors
#   that IAM's model lists for it, of which InvalidInput is the one that AWS sends.
# Happens: moto raises EntityAlreadyExists, which that operation does not have, so code that is right for AWS fails on
#   moto, and code that was written against moto fails in every account that has ever had a cluster. The role's name is
#   another one too: AWSServiceRoleForecs for AWSServiceRoleForECS.
# Seen: moto 5.2.5, boto3 1.43.3, Python 3.11, Linux, 2026-11-30.
# Therefore: `tests/testbed/cloud.py`, which refuses the second one itself.
set -eu
release=${1:-5.2.5}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >twice.py <<'PYTHON'
import boto3
from botocore.exceptions import ClientError
from moto import mock_aws


@mock_aws
def main():
    iam = boto3.client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    name = iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")["Role"]["RoleName"]
    listed = iam.meta.service_model.operation_model("CreateServiceLinkedRole").error_shapes
    known = {shape.metadata.get("error", {}).get("code", shape.name) for shape in listed}
    try:
        iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
        print("made twice")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        print(name, code, "listed" if code in known else "not listed")


main()
PYTHON
said=$(uv run --quiet --no-project --with "moto[iam]==$release" --with "boto3==1.43.3" python twice.py)
if [ "$said" = "AWSServiceRoleForecs EntityAlreadyExists not listed" ]; then
    echo "seen: moto $release: $said"
else
    echo "changed: moto $release: $said"
    exit 1
fi
