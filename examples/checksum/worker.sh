#!/usr/bin/env bash
# A worker without Python: claims a task, computes the SHA-256 of its file, submits it; for ever.
#
#   worker.sh http://127.0.0.1:8080 [another node …]
#
# Needs bash 4.4, curl, jq, and coreutils (sha256sum, base64). JSON is read and written by jq
# only: quoting it by hand goes wrong with the first file name that has a quote in it.
#
# As worker.py, but for the stop: bash runs a trap only when the command in front has ended, so a
# signal waits for the claim in hand (--wait, 5 s), and then gives a task it brought back.
set -uo pipefail

token=${CODEQ_WORKER_TOKEN:-dev-worker-token}
command=${CODEQ_COMMAND:-checksum}
lease=${CODEQ_LEASE_SECONDS:-30}
wait=${CODEQ_WAIT_SECONDS:-5}
journal=${CODEQ_JOURNAL:-/dev/null}
read -ra nodes <<<"${*:-${CODEQ_URLS:-http://127.0.0.1:8080}}"
at=$((RANDOM % ${#nodes[@]}))   # everybody begins at another node

tmp=$(mktemp -d)
stopping=0
hashing='' beating=''
trap 'rm -rf "$tmp"' EXIT
# A long hash is not waited for. `kill` on a process that has just ended is no error here.
trap 'stopping=1; [[ $hashing ]] && kill "$hashing" 2>/dev/null' TERM INT

# Waits like sleep, but without a process: a trap runs at once, and nothing is left behind when
# this shell is killed. The pipe never has anything to read.
mkfifo "$tmp/nothing"
exec {nothing}<>"$tmp/nothing"
pause() { read -rt "$1" -u "$nothing" _; }

seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); } # seconds MILLISECONDS

# Seconds to wait after $1 failures: full jitter up to 5 s, plus what the node asked for ($2).
backoff() {
    local cap=$((100 * (1 << ($1 < 6 ? $1 : 6))))
    ((cap > 5000)) && cap=5000
    seconds $((RANDOM % (cap + 1) + ${2:-0} * 1000))
}

# call NAME PATH LEASE_TOKEN BODY PATIENCE: one POST, repeated at the next node while the answer
# is "not now" or none, for PATIENCE seconds (and once at least). Every call may be repeated: the
# lease token makes the second one harmless, and a claim that was lost comes back by itself.
# Leaves $status (000: no node) and the files $tmp/NAME.body and $tmp/NAME.head.
call() {
    local name=$1 path=$2 lease_token=$3 body=$4 failures=0 after give_up=$((SECONDS + $5))
    while :; do
        # Headers by a file of their own, so that no token stands in the list of processes.
        printf 'Authorization: Bearer %s\nContent-Type: application/json\n' "$token" >"$tmp/$name.ask"
        [[ $lease_token ]] && printf 'X-CodeQ-Lease-Token: %s\n' "$lease_token" >>"$tmp/$name.ask"
        : >"$tmp/$name.body"
        : >"$tmp/$name.head"
        status=$(curl --silent --max-time $((wait + 15)) --connect-timeout 3 \
            --header @"$tmp/$name.ask" --data-binary "$body" --dump-header "$tmp/$name.head" \
            --output "$tmp/$name.body" --write-out '%{http_code}' "${nodes[at]%/}/v1/codeq/$path" 2>/dev/null) || status=000
        case $status in
        000 | 408 | 429 | 502 | 503 | 504) ;;
        *) return ;;
        esac
        at=$(((at + 1) % ${#nodes[@]}))
        ((SECONDS >= give_up)) && return
        [[ $name == claim ]] && ((stopping)) && return
        after=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,4\}\).*/\1/p' "$tmp/$name.head")
        pause "$(backoff "$failures" "${after:-0}")"
        failures=$((failures + 1))
    done
}

field() { jq -j "$2 // empty" "$tmp/$1.body"; }

note() { # note ID OUTCOME [DETAIL]
    printf '%s\n' "$*" >>"$journal"
    case $2 in completed | abandoned) ;; *) printf 'worker: %s\n' "$*" >&2 ;; esac
}

# Keeps the lease until it is killed, or the worker is; when the lease is gone it says so and ends the hash.
heartbeat() { # heartbeat ID TOKEN PID_OF_HASH
    trap - TERM INT EXIT
    while :; do
        # Three tries in a lease, a little apart from those of the other workers.
        pause "$(seconds $((lease * 10 * (80 + RANDOM % 21) / 3)))"
        # $$ is the worker, here too: a killed one must not keep its lease from the grave.
        kill -0 $$ 2>/dev/null || return
        call beat "tasks/$1/heartbeat" "$2" "{\"extendSeconds\":$lease}" "$lease"
        if [[ $status == 404 || $status == 409 ]]; then
            : >"$tmp/lost"
            kill "$3" 2>/dev/null
            return
        fi
    done
}

# tell ID TOKEN CALL BODY OUTCOME: ends our lease, as long as it is ours.
tell() {
    call verdict "tasks/$1/$3" "$2" "$4" "$lease"
    case $status in
    200)
        if grep -qi '^idempotency-replayed: *true' "$tmp/verdict.head"; then
            note "$1" "$5" replayed
        else
            note "$1" "$5"
        fi
        ;;
    404 | 409) note "$1" lost "$status" ;;   # it is somebody else's now: drop it
    000 | 408 | 429 | 5??) note "$1" unknown "$status" ;;
    *) note "$1" refused "$status $(field verdict .error)" ;;
    esac
}

failed() { jq -cn --arg error "$1" '{status: "FAILED", error: $error}'; }

handle() {
    local id lease_token path sum size
    id=$(field claim .id)
    lease_token=$(field claim .leaseToken)
    if ((stopping)); then
        # Ready again at once, at the head of its queue, the attempt not counted.
        tell "$id" "$lease_token" abandon '' abandoned
        return
    fi
    # The x keeps a newline at the end of a name; $(…) would eat it. A name that is not UTF-8
    # comes in Base64, because JSON cannot carry it.
    path=$(field claim '.payload | fromjson | .path' 2>/dev/null; echo x) && path=${path%x}
    [[ $path ]] || { path=$(field claim '.payload | fromjson | .pathBase64' 2>/dev/null | base64 -d 2>/dev/null; echo x) && path=${path%x}; }
    if [[ ! $path ]]; then
        tell "$id" "$lease_token" result "$(failed 'bad payload')" failed
        return
    fi
    if [[ ! -f $path || ! -r $path ]]; then
        tell "$id" "$lease_token" result "$(failed 'no such file, or not readable')" failed
        return
    fi

    rm -f "$tmp/lost"
    # By standard input: sha256sum then escapes nothing and takes no name for an option.
    sha256sum <"$path" >"$tmp/sum" 2>"$tmp/trouble" &
    hashing=$!
    ((stopping)) && kill "$hashing" 2>/dev/null # the signal came before the trap knew whom to end
    heartbeat "$id" "$lease_token" "$hashing" &
    beating=$!
    # A signal ends the first wait early; the trap has killed the hash then.
    wait "$hashing"
    local ended=$?
    ((stopping)) && { wait "$hashing"; ended=1; }
    hashing=''
    read -r sum _ <"$tmp/sum"
    size=$(stat -Lc %s -- "$path" 2>/dev/null)

    if [[ -e $tmp/lost ]]; then
        note "$id" lost heartbeat
    elif ((ended == 0)); then
        # Still under the heartbeat: the answer may take several tries.
        tell "$id" "$lease_token" result "$(jq -cn --arg sum "$sum" --argjson size "${size:-0}" \
            '{status: "COMPLETED", result: {sha256: $sum, size: $size}}')" completed
    elif ((stopping)); then
        tell "$id" "$lease_token" abandon '' abandoned
    elif [[ ! -e $path ]]; then
        tell "$id" "$lease_token" result "$(failed 'the file vanished')" failed
    else
        # A disk or a share that has a bad moment: later, perhaps on another machine.
        tell "$id" "$lease_token" nack "$(jq -cnR --rawfile why "$tmp/trouble" '{reason: $why}')" nacked
    fi
    kill "$beating" 2>/dev/null
    wait "$beating" 2>/dev/null
    beating=''
}

ask=$(jq -cn --arg command "$command" --argjson lease "$lease" --argjson wait "$wait" \
    '{commands: [$command], leaseSeconds: $lease, waitSeconds: $wait}')
while ((!stopping)); do
    call claim tasks/claim '' "$ask" 60
    case $status in
    200) handle ;;
    204) ;;
    000 | 408 | 429 | 5??) ((stopping)) || printf 'worker: no node takes a claim: %s\n' "$status" >&2 ;;
    *)
        # A wrong token or a command this worker may not claim: nothing to wait for.
        printf 'worker: claim refused: %s %s\n' "$status" "$(field claim .error)" >&2
        exit 1
        ;;
    esac
done
