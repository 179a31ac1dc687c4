"""`python -m pipeboard_resources.pipedrive.standin`: serve a seeded company until interrupted."""

import argparse
import sys
from datetime import datetime

from pipeboard_resources.pipedrive.standin.app import DEMO_API_KEY
from pipeboard_resources.pipedrive.standin.server import run


def main() -> int:
    """Parse the command line and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeboard_resources.pipedrive.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="port on 127.0.0.1, 0 = any free one (default 8090)")
    parser.add_argument("--deals", type=int, default=2000, help="living deals (default 2000)")
    parser.add_argument("--seed", default="7", help="the same seed gives the same company (default 7)")
    parser.add_argument("--api-key", default=DEMO_API_KEY, help="the admin's API key")
    parser.add_argument("--extra-custom-fields", type=int, default=0, help="further custom fields on deals (default 0)")
    parser.add_argument("--latency-seconds", type=float, default=0, help="delay of each answer (default 0)")
    parser.add_argument(
        "--now", type=datetime.fromisoformat, help="stop the company's clock at this instant (default: it runs)"
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    return run(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
