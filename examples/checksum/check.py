#!/usr/bin/env python3
"""Checks a finished run: every result against sha256sum, every task finished exactly once,
nothing left in the queue. Waits for tasks that are still under way. Exit 1 on any difference.

    check.py --manifest manifest.jsonl
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import paths
from codeq_client import Client, Refused, Unavailable


def sha256sums(names):
    """What sha256sum says: {path: hex digest}; a file that cannot be read is missing."""
    sums = {}
    for start in range(0, len(names), 200):
        # --zero: no escapes, whatever is in a name.
        command = [b"sha256sum", b"--zero", b"--", *names[start : start + 200]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        for line in done.stdout.split(b"\0"):
            if line:
                sums[line[66:]] = line[:64].decode("ascii")
    return sums


def result_of(client, task, deadline):
    """The answer of GET …/result, waited for; None when the time is over."""
    while True:
        # Short waits: the node that holds a long one may be the next to be killed.
        wait = max(0, min(5, int(deadline - time.monotonic())))
        try:
            path = f"/v1/codeq/tasks/{task}/result?waitSeconds={wait}"
            return client.call("GET", path, timeout=wait + 15)[1]
        except Refused as refusal:
            if refusal.error != "result not found" or wait == 0:
                return None


def ends_of(client, task):
    """How often the task reached its end."""
    events = client.call("GET", f"/v1/codeq/tasks/{task}/timeline")[1]["events"]
    return sum(event.get("to") == "NONE" for event in events)


def left_in(client, command):
    """Tasks in each state of the queue: {"ready": n, …}, once it is quiet."""
    path = "/v1/codeq/admin/queues/" + urllib.parse.quote(command, safe="")
    stats = client.call("GET", path)[1]
    return {state: stats[state] for state in ("ready", "delayed", "inProgress", "dlq")}


def depth_of(node, command):
    """The gauges of codeq_queue_depth of this command, as one node tells them: {labels: tasks}."""
    # Not through Client: /metrics is text, and asks for no token.
    with urllib.request.urlopen(node.rstrip("/") + "/metrics", timeout=15) as answer:
        lines = answer.read().decode().splitlines()
    gauges = [line.rsplit(" ", 1) for line in lines if line.startswith("codeq_queue_depth{")]
    label = f'command="{command}"'.lower()
    return {series: float(value) for series, value in gauges if label in series.lower()}


def twice_in(journals):
    """Tasks that workers finished more than once, each time as if for the first time."""
    finished = collections.Counter()
    for journal in journals:
        with open(journal, encoding="ascii", errors="replace") as lines:
            for line in lines:
                task, outcome, *detail = line.split() + [""]
                finished[task] += outcome in ("completed", "failed") and "replayed" not in detail
    return [task for task, times in finished.items() if times > 1]


class Findings:
    """Counts what was looked at, and shows the first few of what is wrong."""

    def __init__(self):
        self.wrong = collections.Counter()

    def add(self, kind, text):
        self.wrong[kind] += 1
        if self.wrong[kind] <= 10:
            print(f"check: {kind}: {text}", file=sys.stderr)


def check_results(client, tasks, deadline, found):
    sums = sha256sums(list(tasks.values()))
    right = 0
    for task, path in tasks.items():
        answer = result_of(client, task, deadline)
        if answer is None:
            found.add("not finished", f"{task} {path!r}")
            continue
        record, expected = answer["result"], sums.get(path)
        told = record.get("result", {}).get("sha256")
        if expected is None:
            # sha256sum cannot read it either, so a failure is the right answer.
            if record["status"] != "FAILED":
                found.add("no such file", f"{task} {path!r} has the result {told}")
                continue
        elif told != expected:
            found.add("wrong", f"{task} {path!r}: {record['status']} {told or record.get('error')}")
            continue
        ends = ends_of(client, task)
        if ends != 1:
            found.add("ends", f"{task} {path!r} ended {ends} times")
            continue
        right += 1
    return right


def check_queue(client, urls, command, found):
    try:
        left = left_in(client, command)
    except Refused as refusal:
        if refusal.status != 401:
            raise
        print("check: the queue itself was not looked at: the token is no admin's", file=sys.stderr)
        return
    if any(left.values()):
        found.add("left over", str(left))
    # The gauges are read from Redis now and then, so they may take a moment to follow.
    for url in urls:
        give_up = time.monotonic() + 30
        depth = "no answer"
        while time.monotonic() < give_up:
            try:
                depth = depth_of(url, command)
                if not any(depth.values()):
                    break
            except OSError as error:
                depth = error  # a node that is being restarted, perhaps
            time.sleep(0.5)
        else:
            found.add("gauges", f"{url}: {depth}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", action="append", help="a node; repeat it for several")
    arguments.add_argument(
        "--token",
        default=os.environ.get("CODEQ_PRODUCER_TOKEN", "dev-producer-token"),
        help="a producer's; an admin's to look at the queue too",
    )
    arguments.add_argument("--command", default="checksum")
    arguments.add_argument("--manifest", default="manifest.jsonl", help="what produce.py wrote")
    arguments.add_argument("--journal", nargs="*", default=[], help="what workers wrote")
    arguments.add_argument("--wait", type=float, default=600, help="seconds for all tasks to end")
    options = arguments.parse_args()
    urls = options.url or os.environ.get("CODEQ_URLS", "http://127.0.0.1:8080").replace(",", " ").split()

    with open(options.manifest, encoding="ascii") as lines:
        entries = [json.loads(line) for line in lines]
    tasks = {entry["id"]: paths.from_payload(entry) for entry in entries}
    found = Findings()
    if len(tasks) != len(entries) or len(set(tasks.values())) != len(entries):
        found.add("manifest", "a task or a file is named twice")

    client = Client(urls, options.token, patience=options.wait)
    right = check_results(client, tasks, time.monotonic() + options.wait, found)
    for task in twice_in(options.journal):
        found.add("twice", f"workers finished {task} more than once")
    check_queue(client, urls, options.command, found)

    print(f"check: {len(tasks)} tasks, {right} right, {sum(found.wrong.values())} findings", dict(found.wrong))
    sys.exit(1 if found.wrong or not tasks else 0)


if __name__ == "__main__":
    try:
        main()
    except (Refused, Unavailable) as error:
        sys.exit(f"check: {error}")
