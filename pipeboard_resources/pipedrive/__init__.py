"""Pipedrive over HTTP: the client and, beside it, a local stand-in server. Nothing here knows of tables."""
