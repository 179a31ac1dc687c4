"""Which process carries out a run, and the end of runs whose process was killed: nobody else would ever say so.

A run that seems to go on for ever would keep the refresh sensor from starting another one.
"""

import hashlib
import os
import socket

import dagster as dg

from pipeboard_resources.embedded.processes import command_line

# With a prefix that the UI hides: nobody chooses runs by them.
HOST = ".dagster/pipeboard-host"
PID = ".dagster/pipeboard-pid"
COMMAND = ".dagster/pipeboard-command"


def signature() -> dict[str, str]:
    """Tags that name this process. Its command line too, because the pid of a dead process is given anew."""
    return {HOST: socket.gethostname(), PID: str(os.getpid()), COMMAND: _command(os.getpid())}


def sign(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Write into a run which process carries it out, unless it says so already."""
    if PID not in run.tags:
        instance.add_run_tags(run.run_id, signature())


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Report runs of this machine as failed whose process is gone."""
    unfinished = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING],
        tags={HOST: socket.gethostname()},
    )
    for run in instance.get_runs(unfinished):
        if _command(int(run.tags[PID])) != run.tags.get(COMMAND):
            instance.report_run_failed(
                run, "Its process was killed. Nothing is half done; the next sync reads it again."
            )


def _command(pid: int) -> str:
    """A fingerprint of a process's command line: that may hold anything, and a tag is shown to everybody."""
    line = command_line(pid)
    return "" if line is None else hashlib.blake2s(line.encode(), digest_size=8).hexdigest()
