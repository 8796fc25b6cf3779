# Sourced by the hooks: writes one event file, from a slurmctld hook that has no PATH and no
# SLURM_CONF. Nothing here may take long, and nothing that fails here may reach slurmctld.
#
# An event is the words "ccapi-slurm 2", the kind, the environment as the kernel has it, an empty
# word, `scontrol show job`, the job script, and "end", each ended by a NUL; before "end" there may
# be empty words. A job's name may hold anything but a NUL, so nothing that a user writes can pass
# for another part. When it happened is when the file was written.
#
# A process costs a millisecond, and a busy slurmctld starts thousands of hooks a minute: so the file
# is written in place and its last word makes it whole, and no date, mv or stat is called for it.
# shellcheck shell=sh disable=SC2154 # here: the hook sets it

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CCAPI_SPOOL=/var/lib/ccapi-slurm
CCAPI_SPOOL_EVENTS=50000
CCAPI_SPOOL_RESERVE_MIB=64
CCAPI_JOB_SCRIPT_BYTES=65536
CCAPI_SLURM_STATE=
# shellcheck source=/dev/null
[ ! -r "$here/ccapi.conf" ] || . "$here/ccapi.conf"
# UTC, because scontrol prints local time without saying which.
TZ=UTC LC_ALL=C
export PATH TZ LC_ALL
[ -z "${SLURM_CONF:-}" ] || export SLURM_CONF
umask 077

# trace TEXT: the one thing that a hook says, into syslog, which may hang.
trace() {
    timeout 1 logger -t ccapi-slurm -p daemon.err -- "$1"
}

# room: whether the spool and its file system can take one more event; a few are no matter.
room() {
    set -- "$CCAPI_SPOOL"/new/*
    [ "$#" -lt "$CCAPI_SPOOL_EVENTS" ] || return 1
    [ "$#" -ge 100 ] || return 0
    free=$(stat -f -c '%a * (%S / 512) / 2048' "$CCAPI_SPOOL/new") || return 1
    # shellcheck disable=SC2004 # an expression, not a number
    [ "$(($free))" -ge "$CCAPI_SPOOL_RESERVE_MIB" ]
}

# job_record ID: what slurmctld knows about the job; a large job has a line for each kind of node.
job_record() {
    # The number of an array's last task is the array's too, and would show every task.
    if [ "${SLURM_ARRAY_JOB_ID:-}" = "$1" ]; then
        set -- "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    fi
    timeout 2 scontrol show job -d "$1"
}

# job_script ID: a batch job's script, out of the file that slurmctld keeps while the job is known:
# that costs a third of asking. It ends with a NUL there, which the sender passes over; the tasks
# of an array share one.
job_script() {
    [ "$CCAPI_JOB_SCRIPT_BYTES" -gt 0 ] || return 0
    whose=${SLURM_ARRAY_JOB_ID:-$1}
    kept=$CCAPI_SLURM_STATE/hash.$((whose % 10))
    if [ -z "$CCAPI_SLURM_STATE" ] || [ ! -x "$kept" ]; then
        timeout 1 scontrol write batch_script "$1" - | head -c "$CCAPI_JOB_SCRIPT_BYTES"
    elif [ -r "$kept/job.$whose/script" ]; then
        head -c "$CCAPI_JOB_SCRIPT_BYTES" "$kept/job.$whose/script"
    fi
}

# facts KIND ID: an event; fails when the last word cannot be written.
facts() {
    printf 'ccapi-slurm 2\0%s\0' "$1" && cat /proc/self/environ && printf '\0' || return 1
    [ "$1" != prolog ] || job_record "$2"
    printf '\0'
    [ "$1" != prolog ] || job_script "$2"
    printf '\0end\0'
}

# spool KIND ID: write an event; its name says which job, and the uptime makes it the only one.
spool() {
    read -r uptime _ </proc/uptime
    event=$CCAPI_SPOOL/new/$2-$1-$uptime
    if ! room; then
        trace "job $2: $1 not recorded: $CCAPI_SPOOL is full or missing"
    elif ! facts "$1" "$2" >"$event"; then
        trace "job $2: $1 not recorded: cannot write to $CCAPI_SPOOL"
        rm -f "$event"
    fi
}
