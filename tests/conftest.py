"""Fixture plugins: real servers and the stand-in, one of each per worker, one database per module."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.standin",
    "tests.fixtures.receivers",
    "tests.fixtures.metabase",
    "tests.fixtures.fault_table",
    "tests.fixtures.next_release",
]
