"""A task instance in; where a person sees its run out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

    from starburst_common import Run
    from starburst_common.spi import Site

LINKS = "starburst_links"  #: the key under which an operator pushes them all


class _RunLink(BaseOperatorLink):
    """One of the links that an operator has pushed; the same from its first to its last moment."""

    name: ClassVar[str]
    what: ClassVar[str]

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        pushed = XCom.get_value(key=LINKS, ti_key=ti_key) or {}
        return str(pushed.get(self.what, ""))


class StarburstReportLink(_RunLink):
    """The run's report."""

    name = "Starburst report"
    what = "report"


class StarburstLogsLink(_RunLink):
    """What its workers printed, in CloudWatch."""

    name = "Worker logs"
    what = "logs"


class StarburstClusterLink(_RunLink):
    """Its workers, in ECS."""

    name = "ECS cluster"
    what = "cluster"


def urls(report: str, *, region: str = "", cluster: str = "", log_group: str = "") -> dict[str, str]:
    """What each link shows; on this machine there is a report alone.

    >>> urls("file:///report.html")
    {'report': 'file:///report.html'}
    >>> urls("r", region="cn-north-1", cluster="c")["cluster"]
    'https://cn-north-1.console.amazonaws.cn/ecs/v2/clusters/c/tasks?region=cn-north-1'
    >>> urls("r", region="eu-west-1", cluster="c", log_group="/starburst/main")["logs"]
    'https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/$252Fstarburst$252Fmain'
    """
    if not region:
        return {"report": report}
    from starburst_common.spi import console_of

    console = console_of(region)
    group = log_group.replace("/", "$252F")
    return {
        "report": report,
        "logs": f"{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}",
        "cluster": f"{console}/ecs/v2/clusters/{cluster}/tasks?region={region}",
    }


def tell_links(ti: Any, site: Site | None, run: Run, links: Iterable[Any]) -> None:
    """Have a task's page show where its run can be seen, while it is at work."""
    report = run.report()
    found = urls(report, region=site.region, cluster=site.cluster, log_group=site.log_group) if site else urls(report)
    ti.xcom_push(key=LINKS, value=found)
    for link in links:
        if key := getattr(link, "xcom_key", ""):  # from Airflow 3 on that is all its API server reads
            ti.xcom_push(key=key, value=found.get(link.what, ""))
