# Sourced by prolog, epilog and flush: settings, JSON, one request, and the spool.
#
# slurmd drains a node whose Prolog or Epilog fails, and waits for one that hangs. So a hook takes
# less than four seconds whatever the server does, and always exits with 0.
#
# The spool is a directory of plain files:
# new/JOBID-NUMBER-KIND   a request body that flush sends; the numbers of a job give their order
# dead/                   bodies that ccapi refused, each with ccapi's answer in a file NAME.answer
# jobs/JOBID              the start time that the prolog reported
# shellcheck shell=sh disable=SC2034,SC2154 # the hooks set "here" and read some of the variables

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CCAPI_CLUSTER=${SLURM_CLUSTER_NAME:-}
CCAPI_EXCLUSIVE=
CCAPI_HEADER_FILE=$here/header
CCAPI_SPOOL=/var/spool/ccapi-curl
CCAPI_SPOOL_EVENTS=10000
CCAPI_FLUSH_SPREAD=30
# shellcheck source=/dev/null
[ ! -r "$here/ccapi.conf" ] || . "$here/ccapi.conf"
LC_ALL=C
export PATH LC_ALL
umask 077
connect_timeout=1 timeout=3
job_id=${SLURM_JOB_ID:-}
# Slurm 22.05 passes only the second name to hooks of slurmd.
node_list=${SLURM_JOB_NODELIST:-${SLURM_NODELIST:-}}
newline='
'

# log TEXT: write a line into syslog, which may hang.
log() {
    timeout 0.5 logger -t ccapi-curl -p daemon.err -- "$1" || :
}

# is_first_node: succeed on the job's first node, n1x2 of "n[1-3,7]x[2-4],m5"; starts no process.
is_first_node() {
    rest=$node_list first=
    while :; do
        case ${rest%%,*} in
        *\[*)
            first=$first${rest%%\[*} rest=${rest#*\[}
            first=$first${rest%%[],-]*} rest=${rest#*]}
            ;;
        *) break ;;
        esac
    done
    [ -n "$job_id" ] && [ "$first${rest%%,*}" = "${SLURMD_NODENAME:-?}" ]
}

# number TEXT: print a text if it is a number of at most 18 digits.
number() {
    case ${1:-x} in
    *[!0-9]* | 0?* | ???????????????????*) ;;
    *) printf %s "$1" ;;
    esac
}

# json TEXT: print a text as a JSON string, and no more than 4096 bytes of a user's text.
json() {
    case $1 in
    *[!A-Za-z0-9._@/:+=-]*) printf %s "$1" | od -An -v -tu1 -N4096 | awk -f "$here/json.awk" ;;
    *) printf '"%.4096s"' "$1" ;;
    esac
}

# field NAME VALUE: append a field to $body, unless its value is empty.
field() {
    [ -z "$2" ] || body="$body,\"$1\":$2"
}

# post KIND: send $body to start_job or stop_job. $verdict says what to do with it then: done,
# refused or waiting. $answer is ccapi's answer, or what curl says. Repeating a request is safe.
post() {
    verdict=waiting status=000
    # Old curls hang in a resolver despite their own limits.
    answer=$(printf %s "$body" | timeout -s KILL "$timeout.2" curl -q -sS \
        --connect-timeout "$connect_timeout" --max-time "$timeout" -H "@$CCAPI_HEADER_FILE" \
        -H 'Content-Type: application/json' -H Expect: --data-binary @- \
        -w '\n%{http_code}' "$CCAPI_URL/$1_job/" 2>&1) || return 0
    status=${answer##*"$newline"}
    answer="$status ${answer%"$newline"*}"
    case $status/$answer in
    20[01]/*) verdict=done ;;
    422/*already*)
        # The run may be registered with another start time, so its stop names none.
        verdict=done
        rm -f "$CCAPI_SPOOL/jobs/$job_id"
        ;;
    401/* | 403/* | 408/* | 425/* | 429/*) ;;
    4*) verdict=refused ;;
    esac
}

# store FOLDER KIND: write $body into a folder of the spool, as the job's last event.
store() {
    mkdir -p "$CCAPI_SPOOL/new" "$CCAPI_SPOOL/dead"
    last=1000
    for path in "$CCAPI_SPOOL"/new/"$job_id"-* "$CCAPI_SPOOL"/dead/"$job_id"-*; do
        path=${path##*/"$job_id"-}
        [ "$path" = '*' ] || [ "${path%%-*}" -le "$last" ] || last=${path%%-*}
    done
    event=$job_id-$((last + 1))-$2 folder=$CCAPI_SPOOL/$1
    set -- "$CCAPI_SPOOL"/new/* "$CCAPI_SPOOL"/dead/*
    if [ "$#" -gt "$CCAPI_SPOOL_EVENTS" ] || ! printf %s "$body" >"$folder/.$event" ||
        ! mv "$folder/.$event" "$folder/$event"; then
        log "$event lost: $folder is full, or cannot be written"
        rm -f "$folder/.$event"
        return 1
    fi
}

# explain: write why ccapi refused $event.
explain() {
    log "$event is a dead letter: $answer"
    printf '%s\n' "$answer" >"$CCAPI_SPOOL/dead/$event.answer"
}

# report KIND: send $body, or store it if that fails or an earlier event of the job waits.
report() {
    set -- "$1" "$CCAPI_SPOOL/new/$job_id"-*
    verdict=waiting
    [ -e "$2" ] || post "$1"
    case $verdict in
    waiting) store new "$1" || : ;;
    refused) ! store dead "$1" || explain ;;
    esac
}
