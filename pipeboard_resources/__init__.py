"""The outside world as plain clients: Pipedrive, Redis, embedded servers, settings. Knows nothing of tables."""
