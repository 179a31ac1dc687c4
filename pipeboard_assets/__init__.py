"""The graph: what exists, what it depends on, when it runs. The flow of a record, and the file of each step:

1. HTTP page          pipeboard_resources/pipedrive/client.py   complete, or an error
2. validated record   validation.py                             with the classes of catalog/<family>.py
3. polars frame       frames.py                                 custom fields placed by custom_fields.py
4. staging, publish   pipeboard_io/loader.py                    pipedrive.<entity>: all of a load, or none of it
5. bi.main_bi         main_bi.sql                              computed where a load noted a change
6. views              label_views.py, marts/funnel.sql ...     defined by view_assets.py when they differ

`sync.py` joins the first four for one entity; `entity_assets.py` makes an asset of it; `definitions.py` is the
composition root for Dagster and `cli.py` the one for people.

`checks.py` says what must be true of a table afterwards, `refresh.py` when a sync starts by itself, `alerts.py` what
people are told of it.
"""
