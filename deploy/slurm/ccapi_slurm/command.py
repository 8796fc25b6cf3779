"""The command line of the sender."""

import argparse
import datetime
import logging
import os
import subprocess
import sys
from pathlib import Path

from ccapi_slurm import install, settings, status
from ccapi_slurm.backfill import Backfill, BackfillError, describe
from ccapi_slurm.install import InstallError
from ccapi_slurm.sender import Sender
from ccapi_slurm.settings import Settings
from ccapi_slurm.slurm import SlurmError
from ccapi_slurm.spool import Spool, SpoolError

_FAILURES = (
    settings.SettingsError,
    InstallError,
    subprocess.SubprocessError,
    SpoolError,
    SlurmError,
    BackfillError,
    OSError,
)
_MAX_REASONS = 20
_DIRECTORY = Path("/etc/slurm/ccapi")
_CONFIG = Path(__file__).resolve().parent.parent / "ccapi.conf"


def main() -> int:
    """Run the action that the command line names and return the exit status."""
    arguments = _parse_arguments()
    logging.basicConfig(format="ccapi-slurm: %(message)s", level=logging.INFO)
    os.umask(0o077)
    try:
        if arguments.command in {"install", "uninstall"}:
            return _install(arguments)
        return _act(settings.load(arguments.config), arguments)
    except _FAILURES as error:
        print(f"ccapi-slurm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _act(config: Settings, arguments: argparse.Namespace) -> int:
    """Run an action that needs settings."""
    for warning in settings.warnings(config):
        logging.warning(warning)
    if arguments.status or arguments.retry or arguments.acknowledge:
        return _look_at(Spool(config.spool, config.slurm_state), arguments)
    if arguments.command == "backfill":
        return _backfill(config, arguments)
    if arguments.once:
        return 0 if Sender(config).run_once() else 1
    Sender(config).run()
    return 0


def _install(arguments: argparse.Namespace) -> int:
    """Install or remove hooks and sender; the exit status is 1 if the test event failed."""
    # Slurm's user reads what root installs.
    os.umask(0o022)
    directory: Path = arguments.directory.absolute()
    if arguments.command == "uninstall":
        slurm = None if arguments.force else install.read_slurm()
        for line in install.uninstall(slurm, directory, forced=arguments.force):
            print(line)
        return 0
    slurm = install.read_slurm()
    options = install.Options(directory, arguments.url, arguments.cluster, arguments.token_file)
    for line in install.install(slurm, options):
        print(line, flush=True)
    if not arguments.check:
        return 0
    problem = install.check(slurm, directory)
    print(f"test event: {problem or 'the hook wrote it, the sender sent it, ccapi answered'}")
    return 1 if problem else 0


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
    _add_install(commands)
    return parser.parse_args()


def _add_install(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    add = commands.add_parser("install", help="install or upgrade hooks and sender on this host")
    add.add_argument("--url", help="address of ccapi, such as https://ccapi.example.org/api/jobs")
    add.add_argument("--cluster", help="ccapi's name of the cluster; default: Slurm's name")
    add.add_argument("--token-file", type=Path, help="file with a token of the role writer")
    add.add_argument("--check", action="store_true", help="send a test event end to end")
    remove = commands.add_parser("uninstall", help="remove hooks and sender from this host")
    remove.add_argument("--force", action="store_true", help="even if events wait or Slurm is down")
    for parser in (add, remove):
        parser.add_argument(
            "--directory", type=Path, default=_DIRECTORY, help="default: %(default)s"
        )
