"""Events as hooks write them, with data recorded from real Slurms."""

import os
import time
from pathlib import Path

from tests.slurm.site import Site

RECORDED = Path(__file__).with_name("recorded")
START = 1_795_478_265

# Slurm 22.05, PrologSlurmctld of an array task.
PROLOG = {
    "SLURM_ARRAY_JOB_ID": "3",
    "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_CLUSTER_NAME": "linux",
    "SLURM_JOB_ACCOUNT": "(null)",
    "SLURM_JOB_CPUS_PER_NODE": "2(x2)",
    "SLURM_JOB_GID": "995",
    "SLURM_JOB_GROUP": "alice",
    "SLURM_JOB_ID": "4",
    "SLURM_JOB_NAME": "rotor",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_PARTITION": "main",
    "SLURM_JOB_RESTART_COUNT": "0",
    "SLURM_JOB_UID": "999",
    "SLURM_JOB_USER": "alice",
    "SLURM_JOB_WORK_DIR": "/home/alice",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmctld",
}
EPILOG = {
    **PROLOG,
    "SLURM_JOB_DERIVED_EC": "0",
    "SLURM_JOB_EXIT_CODE": "0",
    "SLURM_JOB_EXIT_CODE2": "0:0",
    "SLURM_SCRIPT_CONTEXT": "epilog_slurmctld",
}
# The environment of a jobcomp/script; without slurmdbd CLUSTER is empty.
JOBCOMP = {
    "ACCOUNT": "",
    "ARRAYJOBID": "3",
    "ARRAYTASKID": "1",
    "BATCH": "yes",
    "CLUSTER": "",
    "DERIVED_EC": "0:0",
    "END": str(START + 60),
    "EXITCODE": "0:0",
    "GID": "995",
    "GROUPNAME": "alice",
    "JOBID": "4",
    "JOBNAME": "rotor",
    "JOBSTATE": "COMPLETED",
    "LIMIT": "00:05:00",
    "NODECNT": "2",
    "NODES": "n[1-2]",
    "PARTITION": "main",
    "PROCS": "4",
    "START": str(START),
    "SUBMIT": str(START - 2),
    "UID": "999",
    "USERNAME": "alice",
    "WORK_DIR": "/home/alice",
}


def recorded(name: str) -> str:
    """Return recorded output of scontrol."""
    return (RECORDED / name).read_text("utf-8")


def scontrol_output(job_id: int, name: str = "rotor", start: int = START) -> str:
    """Return the output of `scontrol show job -d` in a prolog of 22.05."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start))
    text = recorded("22.05-prolog.txt").replace("@ID@", str(job_id)).replace("@START@", stamp)
    return text.replace("@NAME@", name)


def in_24_11(text: str) -> str:
    """Return a record of 22.05 as 24.11 prints it: TRES by request and allocation."""
    tres = "TRES=cpu=4,node=2,billing=4"
    text = text.replace(f"   {tres}", f"   Req{tres}\n   Alloc{tres}")
    return text.replace("   DerivedExitCode=0:0\n", "").replace("   Power=\n", "")


def in_25_05(text: str) -> str:
    """Return a record of 22.05 as 25.05 prints it, with the user's command line."""
    text = in_24_11(text).replace("Licenses=(null)", "Licenses=(null) LicensesAlloc=(null)")
    line = "sbatch --comment=JobState=FAILED -t 9-0 StartTime=1999-01-01T00:00:00 job.sh"
    return text.replace("   WorkDir=", f"   SubmitLine={line}\n   WorkDir=", 1)


def write(
    site: Site,
    kind: str,
    when: float,
    environment: dict[str, str],
    texts: tuple[str, str] = ("", ""),
) -> str:
    """Write an event into the spool and return its name."""
    variables = "".join(f"{name}={value}\0" for name, value in environment.items())
    event = f"ccapi-slurm 2\0{kind}\0{variables}\0{texts[0]}\0{texts[1]}\0end\0"
    job = environment.get("SLURM_JOB_ID") or environment["JOBID"]
    path = site.spool / "new" / f"{job}-{kind}-{when:.2f}"
    path.write_bytes(event.encode("utf-8", "surrogateescape"))
    os.utime(path, (when, when))
    return path.name


def write_start(site: Site, job_id: int, when: int = START, **environment: str) -> str:
    """Write a prolog event and return its name."""
    variables = {**PROLOG, "SLURM_JOB_ID": str(job_id), **environment}
    texts = scontrol_output(job_id, variables["SLURM_JOB_NAME"], when), "#!/bin/sh\nsrun ./rotor\n"
    return write(site, "prolog", when + 0.5, variables, texts)


def write_end(site: Site, job_id: int, when: int = START + 60, **environment: str) -> str:
    """Write a jobcomp event and return its name."""
    variables = {**JOBCOMP, "JOBID": str(job_id), "END": str(when), **environment}
    return write(site, "jobcomp", when + 0.5, variables)
