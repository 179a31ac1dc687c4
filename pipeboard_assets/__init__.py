"""The graph: what exists, what it depends on, when it runs. The flow of a record, and the file of each step:

1. HTTP page          pipeboard_resources/pipedrive/client.py   complete, or an error
2. validated record   records/validation.py                     with the classes of catalog/<family>.py
3. polars frame       records/frames.py                         custom fields placed by records/custom_fields.py
4. staging, publish   pipeboard_io/loader.py                    pipedrive.<entity>: all of a load, or none of it
5. bi.main_bi         bi/main_bi.sql                            computed where a load noted a change
6. views              bi/label_views.py, bi/marts/funnel.sql    defined by graph/view_assets.py when they differ

`sync/entity_sync.py` joins the first four for one entity; `graph/entity_assets.py` makes an asset of it;
`definitions.py` is the composition root for Dagster and `cli.py` the one for people, with a module for each command
in `commands/`.

`graph/checks.py` says what must be true of a table afterwards, `graph/refresh.py` when a sync starts by itself,
`graph/alerts.py` what people are told of it.
"""
