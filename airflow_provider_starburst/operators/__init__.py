"""Operators: one Airflow task is one fan-out."""
