"""Alembic migrations of the state schema, forwards only; `apply` is in `state.py`, the tables' story in `versions/`."""
