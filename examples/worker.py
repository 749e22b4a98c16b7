#!/usr/bin/env python3
"""A small worker, in Python's standard library only, that goes on with the trace of its tasks.

It claims one task after another, works on it under a span of its own, keeps the lease by a
heartbeat, and submits the result. The trace is the task's: the claim's answer holds `traceParent`
(the span of the claim), the worker's span is a child of it, and what the broker does next hangs
below the broker's own steps. With a collector the worker's span goes there too, as OTLP/HTTP JSON.

    CODEQ_URL=http://127.0.0.1:8080 CODEQ_TOKEN=dev-worker ./examples/worker.py mail print

Environment:
    CODEQ_URL                    the broker, default http://127.0.0.1:8080
    CODEQ_TOKEN                  a worker's token with the scopes claim, heartbeat, nack and result
    OTEL_EXPORTER_OTLP_ENDPOINT  the collector, as http://127.0.0.1:4318; unset: no span is sent
    OTEL_SERVICE_NAME            default worker.py
    WORKER_TASKS                 end after so many tasks; default 0: never

Arguments are the commands to work for; without any it takes whatever its token allows.
Replace `work` by what your worker does. An exception there gives the task back (nack).
"""

import json
import os
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request

URL = os.environ.get("CODEQ_URL", "http://127.0.0.1:8080").rstrip("/") + "/v1/codeq"
TOKEN = os.environ.get("CODEQ_TOKEN", "")
COLLECTOR = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
SERVICE = os.environ.get("OTEL_SERVICE_NAME", "worker.py")
TASKS = int(os.environ.get("WORKER_TASKS", "0"))
LEASE_SECONDS = 30
CONSUMER, ERROR = 5, 2  # SpanKind and StatusCode of OTLP


def work(task):
    """What a worker is there for. The payload is the task's own JSON, as text."""
    return {"echo": json.loads(task["payload"])}


def call(path, body, trace=None, token=None):
    """One call to the broker; its JSON answer, None for 204."""
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), method="POST")
    request.add_header("Authorization", "Bearer " + TOKEN)
    request.add_header("Content-Type", "application/json")
    if trace:
        request.add_header("traceparent", trace)
    if token:
        request.add_header("X-CodeQ-Lease-Token", token)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer) if answer.status != 204 else None


class Span:
    """The worker's part of a task's trace: a child of the claim, or a root without one."""

    def __init__(self, name, parent):
        trace, self.parent, flags = ("", "", "01")
        if parent:
            _, trace, self.parent, flags = parent.split("-")
        self.name, self.trace, self.flags = name, trace or secrets.token_hex(16), flags
        self.id = secrets.token_hex(8)
        self.began, self.failed = time.time_ns(), False

    def traceparent(self):
        return f"00-{self.trace}-{self.id}-{self.flags}"

    def end(self, attributes):
        """Sends it, unless the trace is not kept. A lost span is no reason to lose a task."""
        if not COLLECTOR or self.flags[1] not in "13579bdf":
            return
        text = lambda key, value: {"key": key, "value": {"stringValue": value}}
        span = {
            "traceId": self.trace,
            "spanId": self.id,
            "parentSpanId": self.parent,
            "name": self.name,
            "kind": CONSUMER,
            "startTimeUnixNano": str(self.began),
            "endTimeUnixNano": str(time.time_ns()),
            "attributes": [text(key, value) for key, value in attributes.items()],
            "status": {"code": ERROR} if self.failed else {},
        }
        export = {
            "resourceSpans": [
                {
                    "resource": {"attributes": [text("service.name", SERVICE)]},
                    "scopeSpans": [{"scope": {"name": "worker.py"}, "spans": [span]}],
                }
            ]
        }
        request = urllib.request.Request(COLLECTOR + "/v1/traces", json.dumps(export).encode())
        request.add_header("Content-Type", "application/json")
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError as error:
            print("a span was lost:", error, file=sys.stderr)


def keep(task, trace, done):
    """Extends the lease until the work is done: at once, then each third of a lease."""
    while True:
        try:
            beat = {"extendSeconds": LEASE_SECONDS}
            call(f"/tasks/{task['id']}/heartbeat", beat, trace, task["leaseToken"])
        except OSError as error:
            print("a heartbeat failed:", error, file=sys.stderr)
        if done.wait(LEASE_SECONDS / 3):
            return


def handle(task):
    span = Span(f"process {task['command']}", task.get("traceParent"))
    trace, token, done = span.traceparent(), task["leaseToken"], threading.Event()
    keeper = threading.Thread(target=keep, args=(task, trace, done))
    keeper.start()
    try:
        path, body = "result", {"status": "COMPLETED", "result": work(task)}
    except Exception as error:  # pylint: disable=broad-except
        span.failed, path, body = True, "nack", {"reason": str(error)}
    done.set()
    keeper.join()
    try:
        call(f"/tasks/{task['id']}/{path}", body, trace, token)
    except OSError as error:
        span.failed = True
        print("the outcome was not taken:", error, file=sys.stderr)
    span.end({"messaging.system": "codeq", "messaging.message.id": task["id"]})
    print(path, task["id"], flush=True)


def main():
    ask = {"commands": sys.argv[1:], "leaseSeconds": LEASE_SECONDS, "waitSeconds": 20}
    handled = 0
    while TASKS == 0 or handled < TASKS:
        try:
            task = call("/tasks/claim", ask)
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503):
                sys.exit(f"claim: {error.code} {error.read().decode()}")
            time.sleep(1)
            continue
        except OSError as error:
            print("the broker does not answer:", error, file=sys.stderr)
            time.sleep(1)
            continue
        if task:
            handle(task)
            handled += 1


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
