"""Fixture plugins: real servers and the stand-in, one of each per session, one database per module."""

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.standin"]
