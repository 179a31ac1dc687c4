"""Asks a server of this container whether it serves: exit status 0, or 1 after one line that says why not.

    python healthcheck.py http://127.0.0.1:3000/server_info
    python healthcheck.py grpc://127.0.0.1:4000

`dagster api grpc-health-check` asks the same and first imports Dagster: 2 s of CPU each time, every half minute.
"""

import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5


def trouble_of(url: str) -> str:
    """Why the server at `url` does not serve; empty when it does."""
    return _grpc_trouble(urlsplit(url).netloc) if url.startswith("grpc://") else _http_trouble(url)


def _http_trouble(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS):
            return ""
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def _grpc_trouble(address: str) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            question = health_pb2.HealthCheckRequest(service="DagsterApi")
            answer = health_pb2_grpc.HealthStub(channel).Check(question, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return str(error.details())
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else f"gRPC status {answer.status}"


if __name__ == "__main__":
    told = trouble_of(sys.argv[1])
    if told:
        print(f"{sys.argv[1]}: {told}", file=sys.stderr)
    sys.exit(1 if told else 0)
