"""Makes Pipeboard's questions and dashboard in a Metabase: python -m deploy.metabase --help"""

import sys
import time

import click

from deploy.metabase.api import Metabase, MetabaseError
from deploy.metabase.installation import install


@click.command(
    help="Makes connection, models, questions and dashboard in a Metabase. Running it again changes nothing."
)
@click.option("--url", envvar="METABASE_URL", required=True, help="Metabase's address, e.g. http://127.0.0.1:3000")
@click.option(
    "--api-key", envvar="METABASE_API_KEY", required=True, help="An administrator's; better in METABASE_API_KEY."
)
@click.option(
    "--database",
    envvar="METABASE_READER_URL",
    required=True,
    help="The reading role's URL, as Metabase reaches the server; better in METABASE_READER_URL.",
)
@click.option("--new-password", is_flag=True, help="Write the connection again: Metabase tells nobody its passwords.")
def main(url: str, api_key: str, database: str, *, new_password: bool) -> None:
    try:
        with Metabase(url, api_key) as metabase:
            for step in install(metabase, database, sleep=time.sleep, new_password=new_password):
                click.echo(f"{step.status:<10} {step.kind:<13} {step.title}")
    except (MetabaseError, ValueError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
