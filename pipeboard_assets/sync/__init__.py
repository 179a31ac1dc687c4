"""One entity's path from the API to a load, and what is known around it: how far, how old, how many. No Dagster."""
