"""The command line of the sender."""

import argparse
import logging
import os
import sys
from pathlib import Path

from ccapi_slurm import settings, status
from ccapi_slurm.sender import Sender
from ccapi_slurm.spool import Spool, SpoolError

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
        if arguments.once:
            return 0 if Sender(config).run_once() else 1
        Sender(config).run()
    except (settings.SettingsError, SpoolError, OSError) as error:
        print(f"ccapi-slurm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


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
    return parser.parse_args()
