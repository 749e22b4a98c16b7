#!/usr/bin/env bash
# The whole job: creates a task for each file of a directory, has workers do them, checks the
# results against sha256sum. Exit 0 only when everything is right.
#
#   run.sh [-p PYTHON_WORKERS] [-s SHELL_WORKERS] [-o DIRECTORY_FOR_FILES] DIRECTORY URL…
#
# Workers that die are started again. In the directory of -o: manifest.jsonl (which task is which
# file), worker.N.journal (what worker N did), worker.N.pid, and the logs. The environment passes
# on: CODEQ_PRODUCER_TOKEN, CODEQ_WORKER_TOKEN, CODEQ_LEASE_SECONDS (30), CODEQ_MAX_ATTEMPTS (5),
# CODEQ_RUN (name of the round; a new one does the same files again), CODEQ_CHECK_SECONDS (600).
set -uo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
python_workers=2 shell_workers=2 out=./checksum.out
while getopts p:s:o: option; do
    case $option in
    p) python_workers=$OPTARG ;;
    s) shell_workers=$OPTARG ;;
    o) out=$OPTARG ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
directory=${1:?run.sh: which directory?}
shift
[[ $# -gt 0 ]] || { echo 'run.sh: which nodes?' >&2; exit 2; }
export CODEQ_URLS=$*
export CODEQ_COMMAND=checksum CODEQ_LEASE_SECONDS=${CODEQ_LEASE_SECONDS:-30}
mkdir -p "$out"

# Keeps one worker running until told to stop.
slot() { # slot NUMBER COMMAND…
    local number=$1 worker='' ending=0
    shift
    trap 'ending=1; [[ $worker ]] && kill "$worker" 2>/dev/null' TERM
    while ((!ending)); do
        "$@" 2>>"$out/worker.$number.log" &
        worker=$!
        ((ending)) && kill "$worker" 2>/dev/null # the signal came before the trap knew whom
        echo "$worker" >"$out/worker.$number.pid"
        wait "$worker"
        local code=$?
        # The first wait ends with the signal, the second with the worker.
        ((ending)) && { wait "$worker"; break; }
        echo "run: worker $number ended with $code and is started again" >&2
        sleep 0.2
    done
}

slots=() doing=''
# shellcheck disable=SC2329 # the trap calls it
stop() {
    # shellcheck disable=SC2086 # nothing when nothing is being done
    kill "${slots[@]}" $doing 2>/dev/null
    wait
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

number=0
for ((i = 0; i < python_workers; i++, number++)); do
    slot $number "$here/worker.py" --lease "$CODEQ_LEASE_SECONDS" \
        --journal "$out/worker.$number.journal" &
    slots+=($!)
done
for ((i = 0; i < shell_workers; i++, number++)); do
    CODEQ_JOURNAL=$out/worker.$number.journal slot $number "$here/worker.sh" &
    slots+=($!)
done

# In the background, with a wait each: a signal to this script is then answered at once.
"$here/produce.py" --manifest "$out/manifest.jsonl" --run "${CODEQ_RUN:-}" \
    --max-attempts "${CODEQ_MAX_ATTEMPTS:-5}" "$directory" &
doing=$!
wait $doing || exit 1
shopt -s nullglob
journals=("$out"/worker.*.journal)
"$here/check.py" --manifest "$out/manifest.jsonl" --wait "${CODEQ_CHECK_SECONDS:-600}" \
    ${journals[@]:+--journal "${journals[@]}"} &
doing=$!
wait $doing
exit $?
