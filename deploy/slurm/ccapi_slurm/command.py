"""The command line of the sender."""

import argparse
import datetime
import logging
import os
import sys
from pathlib import Path

from ccapi_slurm import settings, status
from ccapi_slurm.backfill import Backfill, BackfillError, describe
from ccapi_slurm.sender import Sender
from ccapi_slurm.settings import Settings
from ccapi_slurm.slurm import SlurmError
from ccapi_slurm.spool import Spool, SpoolError

_FAILURES = (settings.SettingsError, SpoolError, SlurmError, BackfillError, OSError)
_MAX_REASONS = 20
_CONFIG = Path(__file__).resolve().parent.parent / "ccapi.conf"


def main() -> int:
    """Run the action that the command line names and return the exit status."""
    arguments = _parse_arguments()
    logging.basicConfig(format="ccapi-slurm: %(message)s", level=logging.INFO)
    os.umask(0o077)
    try:
        config = settings.load(arguments.config)
        if arguments.status or arguments.retry or arguments.acknowledge:
            return _look_at(Spool(config.spool, config.slurm_state), arguments)
        if arguments.command == "backfill":
            return _backfill(config, arguments)
        if arguments.once:
            return 0 if Sender(config).run_once() else 1
        Sender(config).run()
    except _FAILURES as error:
        print(f"ccapi-slurm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _backfill(config: Settings, arguments: argparse.Namespace) -> int:
    """Register what sacct knows; the exit status is 1 if ccapi refused a job."""
    backfill = Backfill(config)
    for line in backfill.run(arguments.since, arguments.until):
        print(line, flush=True)
    print(f"in total: {describe(backfill.counts)}")
    for reason in backfill.reasons[:_MAX_REASONS]:
        print(f"ccapi-slurm: refused: {reason}", file=sys.stderr)
    return 1 if backfill.reasons else 0


def _look_at(spool: Spool, arguments: argparse.Namespace) -> int:
    """Print the status of a spool, or change its letters; raises SpoolError and OSError."""
    spool.check()
    if arguments.acknowledge:
        spool.discard_lost_events()
    elif arguments.retry:
        for name in spool.dead_letters():
            spool.requeue(name)
    else:
        current = status.measure(spool)
        print(status.describe(spool, current))
        return 0 if current.is_good else 1
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ccapi-slurm", description="Send the events in the spool to ccapi until stopped."
    )
    parser.add_argument("--config", type=Path, default=_CONFIG, help="default: %(default)s")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--once",
        action="store_true",
        help="send the events in the spool once, then exit; exit status 1: some are left",
    )
    action.add_argument(
        "--status",
        action="store_true",
        help="print the state of sender and spool; exit status 1: something needs attention",
    )
    action.add_argument(
        "--retry", action="store_true", help="move all dead letters back to the waiting events"
    )
    action.add_argument("--acknowledge", action="store_true", help="count lost events from 0 again")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    backfill = commands.add_parser("backfill", help="register the jobs that sacct knows")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    for name, default in (("--since", None), ("--until", today)):
        backfill.add_argument(
            name,
            type=datetime.date.fromisoformat,
            metavar="YYYY-MM-DD",
            default=default,
            required=default is None,
            help=f"{'first' if default is None else 'last'} day on which the jobs started, in UTC",
        )
    return parser.parse_args()
