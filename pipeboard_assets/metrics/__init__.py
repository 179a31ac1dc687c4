"""Figures about Pipeboard itself for Prometheus: declared once, counted durably in the ledger, shown through two doors.

`series.py` declares them. `tally.py` counts what one load does; the sums stand in the load's ledger row, so they survive
every process. `ledger.py` and `instance.py` read the database and Dagster; `collector.py` turns what they read into
metrics (`pipeboard metrics`). `live.py` pushes what only a run in progress knows.
"""
