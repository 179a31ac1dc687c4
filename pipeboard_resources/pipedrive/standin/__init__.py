"""A local Pipedrive for the demo and the tests: a seeded company behind 127.0.0.1, written from the API's documents only.

    with serve(Company.generate(deals=300)) as server:
        server.url, server.api_key, server.company, server.faults, server.requests

company.py is the state and its edits, app.py the API without a socket, server.py the socket. Imports nothing else of ours.
"""

from pipeboard_resources.pipedrive.standin.app import DEMO_API_KEY, Request, StandIn
from pipeboard_resources.pipedrive.standin.company import Company, CompanyError
from pipeboard_resources.pipedrive.standin.faults import FAULTS
from pipeboard_resources.pipedrive.standin.limits import Plan
from pipeboard_resources.pipedrive.standin.server import PortInUseError, Server, run, serve

__all__ = [
    "DEMO_API_KEY",
    "FAULTS",
    "Company",
    "CompanyError",
    "Plan",
    "PortInUseError",
    "Request",
    "Server",
    "StandIn",
    "run",
    "serve",
]
