"""What lies in an account in; the page of AWS's console that shows it, to who is signed in there, out. Pure."""

from __future__ import annotations

from urllib.parse import urlencode

#: Where the consoles of AWS's partitions are, by how their regions begin. Source: AWS General Reference, "AWS Regions".
_PARTITIONS = {
    "cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com", "eusc-": "console.amazonaws-eusc.eu",
}  # fmt: skip


def console_of(region: str) -> str:
    """Where the console of a region begins.

    >>> console_of("eu-west-1"), console_of("us-gov-west-1")
    ('https://eu-west-1.console.aws.amazon.com', 'https://us-gov-west-1.console.amazonaws-us-gov.com')
    """
    host = next((host for start, host in _PARTITIONS.items() if region.startswith(start)), "console.aws.amazon.com")
    return f"https://{region}.{host}"


def console_url(region: str, bucket: str, key: str) -> str:
    """The page that shows an object, and opens it.

    >>> console_url("eu-west-1", "my-starburst", "runs/run-1/report.html")
    'https://eu-west-1.console.aws.amazon.com/s3/object/my-starburst?region=eu-west-1&prefix=runs/run-1/report.html'
    """
    return f"{console_of(region)}/s3/object/{bucket}?{urlencode({'region': region, 'prefix': key}, safe='/')}"
