"""The hooks as slurmctld runs them: without PATH, and always with exit status 0."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ccapi_slurm import event
from ccapi_slurm.spool import Spool

from tests.slurm.events import EPILOG, JOBCOMP, PROLOG, scontrol_output
from tests.slurm.site import HOOKS, Site

SCRIPTS = ("prolog", "epilog", "jobcomp")


@pytest.fixture
def commands(site: Site, tmp_path: Path) -> Path:
    """Create a directory that comes first in the PATH of the hooks."""
    directory = tmp_path / "commands"
    directory.mkdir()
    site.configure(CCAPI_URL="http://127.0.0.1:1", PATH=f"{directory}:/usr/bin:/bin")
    add_command(directory, "logger", f'echo "$@" >>{tmp_path}/syslog')
    return directory


def add_command(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def read_event(site: Site) -> event.Event:
    """Return the one event of a spool."""
    [name] = site.names()
    one = Spool(site.spool).read(name)
    assert one is not None
    return one


def syslog(tmp_path: Path) -> str:
    path = tmp_path / "syslog"
    return path.read_text("utf-8") if path.exists() else ""


def test_prolog_event_has_environment_record_and_script(site: Site, commands: Path) -> None:
    (commands / "record").write_text(scontrol_output(4), "utf-8")
    add_command(
        commands,
        "scontrol",
        f"""case "$*" in
            "show job -d 4") cat {commands}/record ;;
            "write batch_script 4 -") printf '#!/bin/sh\\necho \\377\\n' ;;
            esac""",
    )
    name = 'two\nlines "quoted" \\ \x01 ü \udcff'
    before = time.time()
    site.run_hook("prolog", {**PROLOG, "SLURM_JOB_NAME": name})
    [file] = site.names()
    assert re.fullmatch(r"4-prolog-\d+\.\d\d", file)
    one = read_event(site)
    assert before - 0.1 <= one.time <= time.time()
    assert one.job_name == name.replace("\udcff", "\ufffd")
    assert (one.record, one.script) == (scontrol_output(4), "#!/bin/sh\necho \ufffd\n")
    assert {name: one.environment[name] for name in PROLOG if name != "SLURM_JOB_NAME"} == {
        name: value for name, value in PROLOG.items() if name != "SLURM_JOB_NAME"
    }
    assert (site.spool / "new" / file).stat().st_mode & 0o777 == 0o600
    assert site.names("tmp") == []


def test_last_array_task_does_not_query_the_whole_array(
    site: Site, commands: Path, tmp_path: Path
) -> None:
    add_command(commands, "scontrol", f'echo "$@" >>{tmp_path}/calls')
    site.run_hook("prolog", {**PROLOG, "SLURM_JOB_ID": "3", "SLURM_ARRAY_TASK_ID": "9"})
    assert (tmp_path / "calls").read_text("ascii") == "show job -d 3_9\nwrite batch_script 3 -\n"


def test_leader_of_a_het_job_does_not_query_all_parts(
    site: Site, commands: Path, tmp_path: Path
) -> None:
    add_command(commands, "scontrol", f'echo "$@" >>{tmp_path}/calls')
    environment = {name: value for name, value in PROLOG.items() if "ARRAY" not in name}
    site.run_hook("prolog", {**environment, "SLURM_HET_JOB_ID": "4", "SLURM_HET_JOB_OFFSET": "0"})
    assert (tmp_path / "calls").read_text("ascii") == "show job -d 4+0\nwrite batch_script 4 -\n"


@pytest.mark.slow
def test_hanging_scontrol_delays_a_job_by_three_seconds(site: Site, commands: Path) -> None:
    add_command(commands, "scontrol", "exec sleep 60")
    assert site.run_hook("prolog", PROLOG) < 10
    assert len(site.names()) == 1


def test_long_script_is_truncated(site: Site, commands: Path) -> None:
    add_command(commands, "scontrol", "head -c 9999999 /dev/zero | tr '\\0' x")
    site.run_hook("prolog", PROLOG)
    assert len(read_event(site).script) == 65536


_HEAD = b"ccapi-slurm 2\0prolog\0SLURM_JOB_ID=4\0\0record\0"


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0\0"])
def test_script_may_end_with_nuls(padding: bytes) -> None:
    one = event.parse(_HEAD + b"script\0" + padding + b"end\0", 1.5)
    assert (one.time, one.record, one.script) == (1.5, "record", "script")


@pytest.mark.parametrize(
    "data",
    [
        _HEAD,
        _HEAD + b"script\0",
        _HEAD + b"end\0",
        _HEAD + b"script\0more\0end\0",
        _HEAD + b"script\0\0more\0end\0",
        _HEAD.replace(b"prolog", b"other") + b"script\0end\0",
        _HEAD.replace(b" 2", b" 1") + b"script\0end\0",
        b"ccapi-slurm 2\0prolog\0SLURM_JOB_ID=4\0end\0",
    ],
)
def test_broken_event_is_refused(data: bytes) -> None:
    with pytest.raises(event.BrokenEvent):
        event.parse(data, 1.5)


@pytest.mark.parametrize(
    ("array", "directory", "script"),
    [
        ({"SLURM_ARRAY_JOB_ID": ""}, "hash.4/job.4", "#!/bin/sh\ntrue\n"),
        ({"SLURM_ARRAY_JOB_ID": "13"}, "hash.3/job.13", "#!/bin/sh\ntrue\n"),
        ({"SLURM_ARRAY_JOB_ID": ""}, "hash.4/job.14", ""),
        ({}, "elsewhere", "from scontrol\n"),
    ],
    ids=["job", "array task", "no script", "no such directory"],
)
def test_script_comes_from_slurmctlds_state_directory(
    site: Site, commands: Path, array: dict[str, str], directory: str, script: str
) -> None:
    add_command(commands, "scontrol", '[ "$1" != write ] || echo from scontrol')
    state = commands.parent / "state"
    (state / directory).mkdir(parents=True)
    (state / directory / "script").write_bytes(b"#!/bin/sh\ntrue\n\0")
    site.configure(
        CCAPI_URL="http://127.0.0.1:1",
        PATH=f"{commands}:/usr/bin:/bin",
        CCAPI_SLURM_STATE=state,
    )
    site.run_hook("prolog", {**PROLOG, **array})
    assert read_event(site).script == script


@pytest.mark.parametrize("hook", SCRIPTS)
@pytest.mark.parametrize("fault", ["full", "no space", "missing", "not writable"])
def test_event_that_cannot_be_written_is_logged(
    site: Site, commands: Path, tmp_path: Path, hook: str, fault: str
) -> None:
    settings = {"full": {"CCAPI_SPOOL_EVENTS": 0}, "no space": {"CCAPI_SPOOL_RESERVE_MIB": 10**9}}
    settings["no space"]["CCAPI_SPOOL_EVENTS"] = 999
    site.configure(
        CCAPI_URL="http://127.0.0.1:1",
        PATH=f"{commands}:/usr/bin:/bin",
        **settings.get(fault, {}),
    )
    if fault == "no space":
        for number in range(100):
            (site.spool / "new" / str(number)).touch()
    if fault == "missing":
        shutil.rmtree(site.spool)
    if fault == "not writable":
        (site.spool / "new").rmdir()
        (site.spool / "new").touch()
    site.run_hook(hook, JOBCOMP if hook == "jobcomp" else EPILOG)
    assert f"job 4: {hook} not recorded" in syslog(tmp_path)


def test_full_spool_is_counted_by_each_hook(site: Site) -> None:
    site.configure(CCAPI_URL="http://127.0.0.1:1", CCAPI_SPOOL_EVENTS=1000)
    others = [site.spool / "new" / f"{number}-epilog-1.00" for number in range(100, 1100)]
    for path in others:
        path.touch()
    (site.spool / "full").touch()
    site.run_hook("epilog", EPILOG)
    assert (len(site.names()), (site.spool / "lost" / "full").read_text()) == (1000, "x")
    others[0].unlink()
    site.run_hook("epilog", EPILOG)
    assert (len(site.names()), (site.spool / "full").exists()) == (1000, False)


@pytest.mark.parametrize(
    "conf", ["CCAPI_SPOOL='/un", "exit 3", "nonsense", "set -e; false", "set -u", "set -u; $UNSET"]
)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_mistake_in_ccapi_conf_does_not_reach_slurmctld(site: Site, conf: str, shell: str) -> None:
    (site.hooks / "ccapi.conf").write_text(conf, "utf-8")
    for hook in SCRIPTS:
        path = site.hooks / hook
        path.write_text(path.read_text("ascii").replace("#!/bin/sh", f"#!/bin/{shell}"), "ascii")
        site.run_hook(hook, {**PROLOG, **JOBCOMP})


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_no_text_of_an_event_is_evaluated(site: Site, tmp_path: Path, shell: str) -> None:
    site.configure(CCAPI_URL="http://127.0.0.1:1", CCAPI_SLURM_STATE=str(tmp_path))
    path = site.hooks / "prolog"
    path.write_text(path.read_text("ascii").replace("#!/bin/sh", f"#!/bin/{shell}"), "ascii")
    for text in (f"a[$(touch {tmp_path}/trap)]", f"$(touch {tmp_path}/trap)", "-1", "x"):
        site.run_hook("prolog", {**PROLOG, "SLURM_ARRAY_JOB_ID": text})
    assert not (tmp_path / "trap").exists()


def test_hooks_are_posix_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    for name in SCRIPTS:
        text = (HOOKS / name).read_text("ascii") + (HOOKS / "spool.sh").read_text("ascii")
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)
        assert os.access(HOOKS / name, os.X_OK)
        if shellcheck:
            subprocess.run([shellcheck, "-x", name], cwd=HOOKS, check=True)
