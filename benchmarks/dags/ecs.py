"""A task and a container an item, as the Amazon provider has it; the container does nothing."""

import json
import os

from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.sdk import DAG

#: cluster, task definition and network of the test bed
asked = json.loads(os.environ["BENCHMARK_ECS"])

for name, items in (("warming", 1), ("measured", int(os.environ["BENCHMARK_ITEMS"]))):
    overrides = [
        {"containerOverrides": [{"name": "worker", "environment": [{"name": "ITEM", "value": str(item)}]}]}
        for item in range(items)
    ]
    with DAG(name, schedule=None):
        EcsRunTaskOperator.partial(task_id="mapped", aws_conn_id=None, launch_type="FARGATE", **asked).expand(
            overrides=overrides
        )
