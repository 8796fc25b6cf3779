"""The curl hooks as slurmd runs them, in dash and in bash, with ccapi up, down and hanging."""

import json
import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ccapi_slurm import hostlist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes import Service, free_port
from tests.slurm.curl_site import (
    CURL_HOOKS,
    EPILOG,
    PROLOG,
    SCRIPTS,
    SHELLS,
    START,
    CurlSite,
    black_hole,
    write_example,
    write_token,
)
from tests.slurm.site import Site, list_jobs

pytestmark = pytest.mark.slow

IN_24_11 = {
    "SLURM_JOB_START_TIME": str(START),
    "SLURM_JOB_END_TIME": str(START + 3600),
    "SLURM_JOB_NODELIST": "n[1-3]",
}
MAX_SECONDS = 4


def request_body(site: CurlSite, name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((site.spool / "new" / name).read_bytes())
    return body


def test_three_node_job_is_reported_once(
    connected_curl: CurlSite, service: Service, site: Site
) -> None:
    before = int(time.time())
    for hook, environment in (("prolog", PROLOG), ("epilog", EPILOG)):
        for node in ("n2", "n3", "n1"):
            connected_curl.run_hook(hook, {**environment, "SLURMD_NODENAME": node})
    [job] = list_jobs(service, site)
    assert (job["jobId"], job["user"], job["cluster"]) == (4, "alice", "fritz")
    assert (job["partition"], job["jobState"]) == ("main", "completed")
    assert before <= job["startTime"] <= time.time()
    assert [entry["hostname"] for entry in job["resources"]] == ["n1", "n2", "n3"]
    assert (
        connected_curl.names() == connected_curl.names("dead") == connected_curl.names("jobs") == []
    )


def test_start_time_and_walltime_of_24_11(
    connected_curl: CurlSite, service: Service, site: Site
) -> None:
    connected_curl.run_hook("prolog", {**PROLOG, **IN_24_11})
    later = {"SLURM_JOB_START_TIME": str(START + 500), "SLURM_JOB_EXIT_CODE": "768"}
    connected_curl.run_hook("epilog", {**EPILOG, **IN_24_11, **later})
    [job] = list_jobs(service, site)
    assert (job["startTime"], job["walltime"], job["jobState"]) == (START, 3600, "failed")


@pytest.mark.parametrize("hook", ["prolog", "epilog"])
def test_other_nodes_start_no_process(curl_site: CurlSite, hook: str) -> None:
    curl_site.configure(CCAPI_URL="http://127.0.0.1:1", PATH="/nonexistent")
    curl_site.run_hook(hook, {**EPILOG, "SLURMD_NODENAME": "n2"})
    assert not curl_site.spool.exists()


def test_nodes_that_a_running_job_gives_up_report_nothing(
    connected_curl: CurlSite, service: Service, site: Site
) -> None:
    connected_curl.run_hook("prolog", PROLOG)
    rejected = {"SLURM_NODELIST": "n[2-3]", "SLURMD_NODENAME": "n2"}
    connected_curl.run_hook("epilog", {**EPILOG, **rejected})
    assert [job["jobState"] for job in list_jobs(service, site)] == ["running"]
    rest = {"SLURM_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}
    connected_curl.run_hook("epilog", {**EPILOG, **rest})
    assert [job["jobState"] for job in list_jobs(service, site)] == ["completed"]


def test_gpus_of_a_job_on_one_node(connected_curl: CurlSite, service: Service, site: Site) -> None:
    job = {"SLURM_NODELIST": "n1", "SLURM_JOB_GPUS": "0,3", "SLURM_JOB_ACCOUNT": "(null)"}
    connected_curl.run_hook("prolog", {**PROLOG, **job, "SLURM_ARRAY_JOB_ID": "3"})
    [registered] = list_jobs(service, site)
    assert registered["resources"] == [{"hostname": "n1", "accelerators": ["0", "3"]}]
    assert (registered["numAcc"], registered["arrayJobId"], registered["project"]) == (2, 3, "")


def test_gpus_of_other_nodes_are_unknown(
    connected_curl: CurlSite, service: Service, site: Site
) -> None:
    connected_curl.run_hook("prolog", {**PROLOG, "SLURM_JOB_GPUS": "1"})
    [job] = list_jobs(service, site)
    assert job["resources"][0] == {"hostname": "n1", "accelerators": ["1"]}
    assert "numAcc" not in job


@pytest.mark.parametrize(
    ("name", "uid", "user"),
    [
        ("nobody", "54321", "uid:54321"),
        ("(null)", "54321", "uid:54321"),
        ("", "54321", "uid:54321"),
        ("nobody", "65534", "nobody"),
        ("alice@example.org", "7", "alice@example.org"),
        ("DOMAIN\\alice", "7", "DOMAIN\\alice"),
    ],
)
def test_user_without_a_name_is_reported_by_uid(
    curl_site: CurlSite, name: str, uid: str, user: str
) -> None:
    curl_site.run_hook("prolog", {**PROLOG, "SLURM_JOB_USER": name, "SLURM_JOB_UID": uid})
    assert request_body(curl_site, "4-1001-start")["user"] == user


def test_exclusive_comes_from_the_settings(curl_site: CurlSite) -> None:
    curl_site.configure(CCAPI_URL="http://127.0.0.1:1", CCAPI_EXCLUSIVE=0, CCAPI_CLUSTER="woody")
    curl_site.run_hook("prolog", PROLOG)
    body = request_body(curl_site, "4-1001-start")
    assert (body["exclusive"], body["cluster"]) == (0, "woody")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refused", "black-holed", "hanging curl", "hanging logger"])
@pytest.mark.parametrize("hook", ["prolog", "epilog"])
def test_hook_takes_less_than_four_seconds(
    curl_site: CurlSite, tmp_path: Path, fault: str, hook: str
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    if fault.startswith("hanging"):
        command = commands / fault.removeprefix("hanging ")
        command.write_text("#!/bin/sh\nexec sleep 60\n", "ascii")
        command.chmod(0o755)
    with black_hole() as hole:
        curl_site.configure(
            CCAPI_URL=f"http://127.0.0.1:{free_port() if fault == 'refused' else hole}/api/jobs",
            CCAPI_SPOOL_EVENTS=0 if fault == "hanging logger" else 10,
            PATH=f"{commands}:/usr/bin:/bin",
        )
        wide = {"SLURM_JOB_NODELIST": "n[1-10000]", "SLURM_JOB_NUM_NODES": "10000"}
        seconds = curl_site.run_hook(hook, {**EPILOG, **wide})
    assert seconds < MAX_SECONDS
    assert len(curl_site.names()) == (fault != "hanging logger")


def test_spool_is_bounded(curl_site: CurlSite) -> None:
    curl_site.configure(CCAPI_URL="http://127.0.0.1:1", CCAPI_SPOOL_EVENTS=3)
    for job in range(1, 6):
        curl_site.run_hook("prolog", {**PROLOG, "SLURM_JOB_ID": str(job)})
    assert len(curl_site.names()) == 3


def test_token_is_not_on_a_command_line(curl_site: CurlSite, tmp_path: Path) -> None:
    curl = tmp_path / "curl-commands" / "curl"
    curl.parent.mkdir()
    curl.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\nenv >>{tmp_path}/arguments\n')
    curl.chmod(0o755)
    write_token(curl_site, "the-token")
    curl_site.configure(CCAPI_URL="http://127.0.0.1:1", PATH=f"{curl.parent}:/usr/bin:/bin")
    curl_site.run_hook("prolog", {**PROLOG, "SLURM_JOB_COMMENT": "user's text"})
    seen = (tmp_path / "arguments").read_text("utf-8")
    command_line = seen.partition("\n")[0]
    assert "--connect-timeout 1 --max-time 3" in command_line
    assert "user's text" not in command_line
    assert "the-token" not in seen


@pytest.mark.parametrize(
    "conf", ["CCAPI_SPOOL='/un", "exit 3", "nonsense", "set -e; false", "set -u", "set -u; $UNSET"]
)
def test_mistake_in_ccapi_conf_does_not_reach_slurmd(curl_site: CurlSite, conf: str) -> None:
    spool = f"CCAPI_URL=http://127.0.0.1:1 CCAPI_SPOOL={curl_site.spool}\n"
    (curl_site.hooks / "ccapi.conf").write_text(spool + conf, "utf-8")
    for hook in ("prolog", "epilog"):
        curl_site.run_hook(hook, EPILOG)


@pytest.mark.parametrize("environment", [{}, {"SLURM_JOB_ID": "x"}, {"SLURM_NODELIST": "n[1-"}])
def test_unknown_environment_does_not_reach_slurmd(
    curl_site: CurlSite, environment: dict[str, str]
) -> None:
    for hook in ("prolog", "epilog"):
        curl_site.run_hook(hook, environment and {**EPILOG, **environment})


def test_unwritable_spool_does_not_reach_slurmd(connected_curl: CurlSite, service: Service) -> None:
    connected_curl.spool.write_bytes(b"")
    for hook in ("prolog", "epilog"):
        connected_curl.run_hook(hook, EPILOG)


def test_guide_installs_a_private_token_and_a_cron_job(curl_site: CurlSite) -> None:
    assert stat.S_IMODE((curl_site.hooks / "header").stat().st_mode) == 0o600
    cron = (curl_site.directory / "cron-ccapi-curl").read_text("ascii")
    assert cron == f"* * * * * root {curl_site.hooks}/flush\n"


def test_example_of_the_guide(
    curl_site: CurlSite, service: Service, site: Site, tmp_path: Path
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        "#!/bin/sh\ncase $3 in n*) printf 'n1\\nn2\\nn3\\n' ;; *) echo m3 ;; esac\n", "ascii"
    )
    scontrol.chmod(0o755)
    script = write_example(curl_site, service.url, f"{tmp_path}:/usr/bin:/bin")
    assert len(script.read_text("ascii").splitlines()) == 10
    for job, exit_code in (("4", "0"), ("5", "256")):
        for environment in (PROLOG, {**EPILOG, "SLURM_JOB_EXIT_CODE": exit_code}):
            for node in ("n1", "n2", "n3"):
                variables = {**environment, "SLURM_JOB_ID": job, "SLURMD_NODENAME": node}
                subprocess.run([script], env=variables, check=True)
            rejected = {"SLURM_NODELIST": "m3", "SLURMD_NODENAME": "m3", "SLURM_JOB_ID": job}
            subprocess.run([script], env={**EPILOG, **rejected}, check=True)
            has_ended = list_jobs(service, site)[-1]["jobState"] != "running"
            assert has_ended == (environment is not PROLOG)
    jobs = list_jobs(service, site)
    assert [job["jobState"] for job in jobs] == ["completed", "failed"]
    assert [entry["hostname"] for entry in jobs[0]["resources"]] == ["n1", "n2", "n3"]
    with black_hole() as hole:
        script = write_example(curl_site, f"http://127.0.0.1:{hole}", f"{tmp_path}:/usr/bin:/bin")
        started = time.monotonic()
        subprocess.run([script], env=PROLOG, check=True)
    assert time.monotonic() - started < MAX_SECONDS


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    comment=st.text("\"\\{}[],:\n\r\t\x1b\x7f$`';\udcff\udc80ü😀", max_size=60).map(os.fsencode),
)
def test_hostile_texts_stay_in_their_fields(
    curl_site: CurlSite, name: bytes, comment: bytes
) -> None:
    name, comment = name.replace(b"\0", b""), comment + b'","jobId":666,"x":"'
    shutil.rmtree(curl_site.spool, ignore_errors=True)
    curl_site.configure(CCAPI_URL="http://127.0.0.1:1")
    environment = {**PROLOG, "SLURM_JOB_NAME": name.decode("utf-8", "surrogateescape")}
    environment["SLURM_JOB_COMMENT"] = comment.decode("utf-8", "surrogateescape")
    curl_site.run_hook("prolog", environment)
    path = curl_site.spool / "new" / "4-1001-start"
    text = path.read_bytes()
    assert re.fullmatch(rb"[ -~]+", text)
    body = json.loads(text)
    assert (body["jobId"], body["user"], len(body["resources"])) == (4, "alice", 3)
    assert set(body) == {
        *("resources", "jobId", "cluster", "user", "project", "partition", "startTime"),
        "metaData",
    }
    assert body["metaData"].get("jobName", "") == readable(name)
    assert body["metaData"]["comment"] == readable(comment)


def readable(text: bytes) -> str:
    """Decode UTF-8, with a U+FFFD for each byte that belongs to no character."""
    return "".join(
        "\ufffd" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in text.decode("utf-8", "surrogateescape")
    )


def test_hostile_texts_are_accepted(connected_curl: CurlSite, service: Service, site: Site) -> None:
    name = 'two\nlines "quoted" \\ \x01 \x7f ü 😀 \udcff \\u0000 %s $(id) `id`'
    connected_curl.run_hook(
        "prolog", {**PROLOG, "SLURM_JOB_NAME": name, "SLURM_JOB_COMMENT": "x" * 9999}
    )
    [job] = list_jobs(service, site)
    assert job["metaData"]["jobName"] == name.replace("\udcff", "\ufffd")
    assert job["metaData"]["comment"] == "x" * 4096


_NUMBERS = st.integers(0, 120)
_RANGES = st.builds(
    lambda first, count, width: f"{first:0{width}}-{first + count:0{width}}",
    _NUMBERS,
    st.integers(0, 5),
    st.integers(1, 4),
) | st.builds(lambda number, width: f"{number:0{width}}", _NUMBERS, st.integers(1, 4))
_BRACKETS = st.lists(_RANGES, min_size=1, max_size=3).map(lambda ranges: f"[{','.join(ranges)}]")
_HOSTS = st.builds(
    lambda name, *pieces: name + "".join(pieces),
    st.sampled_from(["n", "rack-a", "g.x"]),
    _BRACKETS | st.just(""),
    st.sampled_from(["", "r", "-ib0"]),
    _BRACKETS | st.just("7"),
)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(hosts=st.lists(_HOSTS, min_size=1, max_size=3).map(",".join))
def test_node_lists_are_expanded_as_slurm_does(curl_site: CurlSite, hosts: str) -> None:
    shutil.rmtree(curl_site.spool, ignore_errors=True)
    expected = hostlist.expand(hosts)
    node = {"SLURM_NODELIST": hosts, "SLURMD_NODENAME": expected[0]}
    curl_site.run_hook("prolog", {**PROLOG, **node})
    resources = request_body(curl_site, "4-1001-start")["resources"]
    assert [entry["hostname"] for entry in resources] == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_short_posix_shell(shell: str) -> None:
    shellcheck = shutil.which("shellcheck")
    for name in SCRIPTS:
        text = (CURL_HOOKS / name).read_text("ascii")
        assert len(text.splitlines()) < 60
        assert os.access(CURL_HOOKS / name, os.X_OK)
        for script in (name, "ccapi.sh"):
            subprocess.run([shell, "-n", CURL_HOOKS / script], check=True)
        if shellcheck:
            subprocess.run([shellcheck, "-x", name], cwd=CURL_HOOKS, check=True)
