"""The Airflow provider, in an environment with Airflow: `make test-airflow`."""
