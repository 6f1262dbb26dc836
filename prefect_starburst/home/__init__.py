"""What runs in the flow's process: Prefect's engine, with our task runner, futures, bursts, artifacts and block."""
