"""An AWS that runs on this machine: moto, what moto lacks, and an agent that really starts each ECS task."""
