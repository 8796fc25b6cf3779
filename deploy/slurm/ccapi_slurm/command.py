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
    """Do what the arguments say and return the exit status."""
    arguments = _parse()
    logging.basicConfig(format="ccapi-slurm: %(message)s", level=logging.INFO)
    os.umask(0o077)
    try:
        found = settings.load(arguments.config)
        return _act(arguments, found)
    except (settings.SettingsError, SpoolError) as error:
        print(f"ccapi-slurm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ccapi-slurm", description="Send what the Slurm hooks spooled to ccapi, for ever."
    )
    parser.add_argument("--config", type=Path, default=_CONFIG, help="default: %(default)s")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--once",
        action="store_true",
        help="send what is there and end; the exit status is 1 when something is left",
    )
    action.add_argument(
        "--status",
        action="store_true",
        help="tell what waits and what was refused; the exit status is 1 for dead letters",
    )
    action.add_argument(
        "--retry", action="store_true", help="let the sender try all dead letters once more"
    )
    return parser.parse_args()


def _act(arguments: argparse.Namespace, found: settings.Settings) -> int:
    spool = Spool(found.spool)
    if arguments.status:
        print(status.describe(spool))
        return 1 if spool.dead_letters() else 0
    if arguments.retry:
        for name in spool.dead_letters():
            spool.revive(name)
        return 0
    if arguments.once:
        return 0 if Sender(found).run_once() else 1
    Sender(found).run()
    return 0
