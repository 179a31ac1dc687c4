"""The body of each command of `pipeboard`, and what all of them stand on: servers, instance, terminal."""
