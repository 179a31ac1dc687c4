"""Dagster's words: assets, checks, sensors, the run of a sync and what is told of it. No HTTP, no terminal."""
