# Sourced by the hooks: writes one event into the spool. slurmctld runs a hook without PATH and
# without SLURM_CONF. A hook must be quick, and none of its failures may reach slurmctld.
#
# An event is a file of words, each followed by a NUL: "ccapi-slurm 2", the kind, the environment
# of the hook, an empty word, the output of `scontrol show job`, the job script, and "end". There
# may be empty words before "end". A job's name may contain anything but a NUL, so users cannot
# forge a word. The time of the event is the mtime of the file.
#
# A process costs a millisecond, and a busy slurmctld starts thousands of hooks a minute. So the
# hook writes the file in place, its last word marks it as complete, and date, mv and stat are not
# needed.
# shellcheck shell=sh disable=SC2154 # the hook sets "here"

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CCAPI_SPOOL=/var/lib/ccapi-slurm
CCAPI_SPOOL_EVENTS=50000
CCAPI_SPOOL_RESERVE_MIB=64
CCAPI_JOB_SCRIPT_BYTES=65536
CCAPI_SLURM_STATE=
# shellcheck source=/dev/null
[ ! -r "$here/ccapi.conf" ] || . "$here/ccapi.conf"
# UTC, because scontrol prints local time without its zone.
TZ=UTC LC_ALL=C
export PATH TZ LC_ALL
[ -z "${SLURM_CONF:-}" ] || export SLURM_CONF
umask 077

# log_error TEXT: write a line into syslog, which may hang.
log_error() {
    timeout 1 logger -t ccapi-slurm -p daemon.err -- "$1"
}

# has_space: succeed if the spool is below its limits. Otherwise the word in "cause" says why not.
#
# Counting 20,000 events takes as long as the rest of a hook. So one hook in a hundred does it, that
# whose uptime has no hundredths. While the spool is full, or if it may be small, each hook does.
has_space() {
    cause=missing
    [ -d "$CCAPI_SPOOL/new" ] || return 1
    case $uptime in
        *00) ;;
        *) [ -e "$CCAPI_SPOOL/full" ] || [ "$CCAPI_SPOOL_EVENTS" -lt 1000 ] || return 0 ;;
    esac
    if is_below_limits; then
        [ ! -e "$CCAPI_SPOOL/full" ] || rm -f "$CCAPI_SPOOL/full"
    else
        printf x >"$CCAPI_SPOOL/full"
        return 1
    fi
}

# is_below_limits: as has_space; free space counts from a hundred events on.
is_below_limits() {
    cause=full
    set -- "$CCAPI_SPOOL"/new/*
    [ "$#" -lt "$CCAPI_SPOOL_EVENTS" ] || return 1
    [ "$#" -ge 100 ] || return 0
    cause=space
    free=$(stat -f -c '%a * (%S / 512) / 2048' "$CCAPI_SPOOL/new") || return 1
    # shellcheck disable=SC2004 # an expression, not a number
    [ "$(($free))" -ge "$CCAPI_SPOOL_RESERVE_MIB" ]
}

# lose ID KIND CAUSE: log that an event is lost, and append a byte to the cause's file. If there is
# no spool, Slurm's state directory has the file.
lose() {
    log_error "job $1: $2 not recorded in $CCAPI_SPOOL: $3"
    [ -d "$CCAPI_SPOOL/lost" ] || mkdir "$CCAPI_SPOOL/lost"
    printf x >>"$CCAPI_SPOOL/lost/$3" || [ -z "$CCAPI_SLURM_STATE" ] ||
        printf x >>"$CCAPI_SLURM_STATE/ccapi-lost-$3"
}

# job_record ID: print slurmctld's record of the job, with a line for each group of equal nodes.
job_record() {
    # The last task of an array has the array's id, which alone would select every task. The
    # leader of a heterogeneous job has the id of all its parts.
    if [ "${SLURM_ARRAY_JOB_ID:-}" = "$1" ]; then
        set -- "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    elif [ "${SLURM_HET_JOB_ID:-}" = "$1" ]; then
        set -- "$1+0"
    fi
    timeout 2 scontrol show job -d "$1"
}

# job_script ID: print a batch job's script. Reading slurmctld's copy is three times as fast as
# scontrol. The copy ends with a NUL, which the sender ignores. Array tasks share one script.
job_script() {
    [ "$CCAPI_JOB_SCRIPT_BYTES" -gt 0 ] || return 0
    script_id=${SLURM_ARRAY_JOB_ID:-$1}
    # The last digit, without arithmetic: where sh is bash, it would run a command in the text.
    case $script_id in "" | *[!0-9]*) return 0 ;; esac
    hash_dir=$CCAPI_SLURM_STATE/hash.${script_id#"${script_id%?}"}
    if [ -z "$CCAPI_SLURM_STATE" ] || [ ! -x "$hash_dir" ]; then
        timeout 1 scontrol write batch_script "$1" - | head -c "$CCAPI_JOB_SCRIPT_BYTES"
    elif [ -r "$hash_dir/job.$script_id/script" ]; then
        head -c "$CCAPI_JOB_SCRIPT_BYTES" "$hash_dir/job.$script_id/script"
    fi
}

# print_event KIND ID: print an event; fail if the last word cannot be written.
print_event() {
    printf 'ccapi-slurm 2\0%s\0' "$1" && cat /proc/self/environ && printf '\0' || return 1
    [ "$1" != prolog ] || job_record "$2"
    printf '\0'
    [ "$1" != prolog ] || job_script "$2"
    printf '\0end\0'
}

# spool KIND ID: write an event. The job id, the kind and the uptime make its name unique.
spool() {
    read -r uptime _ </proc/uptime
    event=$CCAPI_SPOOL/new/$2-$1-$uptime
    if ! has_space; then
        lose "$2" "$1" "$cause"
    elif ! print_event "$1" "$2" >"$event"; then
        rm -f "$event"
        lose "$2" "$1" write
    fi
}
