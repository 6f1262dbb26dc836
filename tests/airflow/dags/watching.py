"""As many tasks as a file beside this one says, which are put down as deferred and never come to a worker."""

from pathlib import Path

from airflow.sdk import DAG, task

told = Path(__file__).with_name("number")

with DAG("watching", schedule=None):

    @task
    def watches(number):
        """Only its trigger runs."""

    watches.expand(number=list(range(int(told.read_text()) if told.exists() else 1)))
