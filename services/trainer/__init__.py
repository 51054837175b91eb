"""Makes model versions."""
