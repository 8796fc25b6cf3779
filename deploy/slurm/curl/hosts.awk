# Expand Slurm's notation of host lists, such as f[01-03,7]r[1-2],g1, into the field "resources".
# Input: a line with the GPU indices of the first host, such as 0,1, and a line with the list.
# The GPUs of other hosts are unknown, so only a job with one host gets "numAcc".
# Fails on anything else, and beyond 65,536 hosts.

function fail() {
    failed = 1
    exit
}

function print_host(host) {
    if (hosts++ >= 65536 || host !~ /^[A-Za-z0-9._-]+$/) fail()
    if (hosts > 1) printf ","
    printf "{\"hostname\":\"%s\"%s}", host, (hosts > 1 ? "" : accelerators)
}

# Some awks take a number with a leading zero for an octal one.
function decimal(text) {
    sub(/^0+/, "", text)
    return text + 0
}

# Expand the first brackets of `rest`, and for each of their numbers the brackets behind them.
function expand(done, rest,   open, close_, ranges, count, ends, width, i, number, last) {
    open = index(rest, "[")
    if (!open) {
        print_host(done rest)
        return
    }
    close_ = index(rest, "]")
    count = split(substr(rest, open + 1, close_ - open - 1), ranges, ",")
    if (!count) fail()
    for (i = 1; i <= count; i++) {
        if (ranges[i] !~ /^[0-9]+(-[0-9]+)?$/) fail()
        last = split(ranges[i], ends, "-")
        last = decimal(ends[last])
        width = length(ends[1])
        for (number = decimal(ends[1]); number <= last; number++)
            expand(done substr(rest, 1, open - 1) sprintf("%0" width "d", number), \
                substr(rest, close_ + 1))
    }
}

NR == 1 && /^[A-Za-z0-9._:-]+(,[A-Za-z0-9._:-]+)*$/ {
    gpus = gsub(/,/, "\",\"") + 1
    accelerators = ",\"accelerators\":[\"" $0 "\"]"
}

NR == 2 {
    printf "\"resources\":["
    for (text = $0 ","; text != ""; text = substr(text, part + 1)) {
        if (!match(text, /^([^][,]|\[[^][]*\])+,/)) fail()
        part = RLENGTH
        expand("", substr(text, 1, part - 1))
    }
    printf "]"
}

END {
    if (failed || !hosts) exit 1
    if (gpus && hosts == 1) printf ",\"numAcc\":%d", gpus
}
