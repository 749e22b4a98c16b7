#!/usr/bin/env python3
"""A worker: claims a task, computes the SHA-256 of its file, submits it; for ever.

    worker.py --url http://127.0.0.1:8080

This is the loop to copy. Put your work in place of `work`, keep the rest:

  claim      waits up to --wait seconds for a task, so an idle worker costs almost nothing
  heartbeat  in a thread while the work runs; lets --lease be short, so that the task of a worker
             that dies is soon given to another
  submit     repeated until it is answered; the lease token makes the repeat harmless
  lost       404 or 409: the lease ended and the task belongs to somebody else; drop it, go on
  stop       SIGTERM and SIGINT: give the task in hand back (uncounted), exit 0
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time

import paths
from codeq_client import Client, Refused, Unavailable, backoff

CHUNK = 1 << 20


class Stopped(Exception):
    """The worker was told to stop."""


class LeaseLost(Exception):
    """The task is no longer ours."""


class CannotBeDone(Exception):
    """This task will not work for anybody, however often it is tried."""


# A plain flag: a signal handler may run between any two steps, so it must not take a lock.
stopping = False


def sleep(seconds):
    """Sleeps, but not on when the worker is told to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopping:
            raise Stopped
        time.sleep(min(left, 0.1))


class Heartbeat(threading.Thread):
    """Keeps the lease while the work runs. `lost` is set when it could not."""

    def __init__(self, options, task):
        super().__init__(daemon=True)
        # A connection of its own: the worker's is busy or belongs to another thread.
        self.client = Client(options.urls, options.token, patience=options.lease)
        self.path = f"/v1/codeq/tasks/{task['id']}/heartbeat"
        self.headers = headers_of(task)
        self.lease = options.lease
        self.ended = threading.Event()
        self.lost = threading.Event()

    def run(self):
        # Three tries in a lease, a little apart from those of the other workers.
        while not self.ended.wait(self.lease / 3 * random.uniform(0.8, 1.0)):
            try:
                self.client.call("POST", self.path, {"extendSeconds": self.lease}, self.headers)
            except Refused as refusal:
                if refusal.status in (404, 409):
                    self.lost.set()
                    break
                print(f"worker: heartbeat: {refusal}", file=sys.stderr)
            except Unavailable as trouble:
                # The lease may have ended meanwhile; the submit will tell.
                print(f"worker: heartbeat: {trouble}", file=sys.stderr)
        self.client.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()


def headers_of(task):
    """What goes with every call about a task: the token fences off a worker whose lease ended,
    and the trace shows the call under the task it belongs to."""
    headers = {"X-CodeQ-Lease-Token": task["leaseToken"]}
    if "traceParent" in task:
        headers["traceparent"] = task["traceParent"]
    return headers


def work(task, may_go_on):
    """The job itself. Calls may_go_on() now and then, which raises when there is no point."""
    try:
        path = paths.from_payload(json.loads(task["payload"]))
    except ValueError as error:
        raise CannotBeDone(f"bad payload: {error}") from error
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                may_go_on()
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise CannotBeDone(str(error)) from error
    return {"sha256": digest.hexdigest(), "size": size}


class Worker:
    def __init__(self, options):
        self.options = options
        # A stop ends a claim at once, but what is done is handed in: it gets one more lease of
        # time, which is also when the broker would give the task to somebody else.
        self.claims = Client(options.urls, options.token, sleep=sleep)
        self.verdicts = Client(options.urls, options.token, patience=options.lease)
        self.journal = open(options.journal, "a", encoding="ascii") if options.journal else None

    def stop(self, *_):
        global stopping
        stopping = True
        self.claims.half_close()

    def run(self):
        failures = 0
        while not stopping:
            try:
                task = self.claim()
                failures = 0
            except Unavailable as trouble:
                # No node for a minute: say so, and keep asking.
                print(f"worker: {trouble}", file=sys.stderr)
                sleep(backoff(failures, least=1.0))
                failures += 1
                continue
            if task is not None:
                self.handle(task)

    def claim(self):
        wait, lease = self.options.wait, self.options.lease
        body = {"commands": [self.options.command], "leaseSeconds": lease, "waitSeconds": wait}
        return self.claims.call("POST", "/v1/codeq/tasks/claim", body, timeout=wait + 15)[1]

    def handle(self, task):
        with Heartbeat(self.options, task) as heartbeat:

            def may_go_on():
                if stopping:
                    raise Stopped
                if heartbeat.lost.is_set():
                    raise LeaseLost("the heartbeat was refused")

            try:
                may_go_on()
                verdict = {"status": "COMPLETED", "result": work(task, may_go_on)}
            except CannotBeDone as error:
                verdict = {"status": "FAILED", "error": str(error)}
            except OSError as error:
                # A disk or a share that has a bad moment: later, perhaps on another machine.
                self.tell(task, "nack", {"reason": str(error)}, "nacked")
                return
            except Stopped:
                # Ready again at once, at the head of its queue, the attempt not counted.
                self.tell(task, "abandon", None, "abandoned")
                return
            except LeaseLost as error:
                self.note(task, "lost", str(error))
                return
            # Still under the heartbeat: the answer may take several tries.
            self.tell(task, "result", verdict, verdict["status"].lower())

    def tell(self, task, call, body, outcome):
        """Ends our lease, as long as it is ours; repeats until it is answered."""
        try:
            path = f"/v1/codeq/tasks/{task['id']}/{call}"
            _, _, got = self.verdicts.call("POST", path, body, headers_of(task))
            replayed = got.get("Idempotency-Replayed") == "true"
            self.note(task, outcome, "replayed" if replayed else "")
        except Refused as refusal:
            self.note(task, "lost" if refusal.status in (404, 409) else "refused", str(refusal))
        except Unavailable as trouble:
            self.note(task, "unknown", str(trouble))

    def note(self, task, outcome, detail=""):
        if outcome in ("lost", "refused", "unknown", "nacked", "failed"):
            print(f"worker: {task['id']} {outcome} {detail}".rstrip(), file=sys.stderr)
        if self.journal:
            self.journal.write(f"{task['id']} {outcome} {detail}".rstrip() + "\n")
            self.journal.flush()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", action="append", dest="urls", help="a node; repeat it for several")
    arguments.add_argument("--token", default=os.environ.get("CODEQ_WORKER_TOKEN", "dev-worker-token"))
    arguments.add_argument("--command", default="checksum")
    arguments.add_argument("--lease", type=int, default=30, help="seconds (30)")
    arguments.add_argument("--wait", type=int, default=20, help="seconds a claim waits (20, at most 30)")
    arguments.add_argument("--journal", help="file to which a line is added for each task")
    options = arguments.parse_args()
    options.urls = (
        options.urls or os.environ.get("CODEQ_URLS", "http://127.0.0.1:8080").replace(",", " ").split()
    )
    worker = Worker(options)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    try:
        worker.run()
    except Stopped:
        pass
    except Refused as refusal:
        # A wrong token or a command this worker may not claim: nothing to wait for.
        sys.exit(f"worker: claim refused: {refusal}")


if __name__ == "__main__":
    main()
