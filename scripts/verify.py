#!/usr/bin/env python3
"""Drives every surface of a node and reports which signals were seen: target/verify/report.md.

Exits 1 when a metric of the catalog has no sample (and needs no fault to have one), when a gauge of
work in flight is not back at 0, when an operation of the API was not called, or when a dashboard, a
rule or a page uses a metric that the node does not export. Python's standard library alone.

usage: verify.py [path of the codeq binary]
"""

import base64
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/codeq")
API = "/v1/codeq"

# Families whose sample needs a fault, a setting or a platform that this drive does not have.
NEEDS_A_FAULT = {
    "codeq_metrics_label_overflow_total": "more commands than metrics.maxCommands",
    "codeq_store_errors_total": "Redis away or full",
    "codeq_loop_errors_total": "a loop that fails",
    "codeq_loop_restarts_total": "a loop that panics",
    "codeq_otel_spans_dropped_total": "a collector that is too slow",
    "codeq_rate_limit_hits_total": "a rate limit that is set",
    "codeq_webhook_dead_total": "a receiver that never accepts",
    "codeq_jwks_fetches_total": "a key set",
    "codeq_jwks_last_success_timestamp_seconds": "a key set",
    "codeq_memory_bytes": "a memory limit of the cgroup",
}

# Gauges of work that is over at the end.
BACK_TO_ZERO = [
    ("codeq_http_requests_in_flight", ""),
    ("codeq_waiters", ""),
    ("codeq_webhook_in_flight", ""),
    ("codeq_webhook_outbox_depth", 'state="pending"'),
    ("codeq_queue_depth", 'queue="in_progress"'),
]

# In a query but no metric: labels, functions and recording rules have other forms.
NAME = re.compile(r"\b(codeq_[a-z0-9_]*[a-z0-9])\b(?!\*)")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes webhooks and spans; the first webhook to /flaky is refused."""

    protocol_version = "HTTP/1.1"
    spans, hooks, refused = set(), [], set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = 200
        if self.path.startswith("/v1/traces"):
            Sink.spans.update(span_names(body))
            body = b""
        else:
            Sink.hooks.append(self.path)
            if self.path.startswith("/flaky") and self.path not in Sink.refused:
                Sink.refused.add(self.path)
                status = 503
            body = b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def fields(message):
    """The length-delimited fields of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            varint()
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        else:
            size = varint()
            yield number, message[at : at + size]
            at += size


def span_names(body):
    """Names in an ExportTraceServiceRequest: resource_spans 1, scope_spans 2, spans 2, name 5."""
    for _, resource in (it for it in fields(body) if it[0] == 1):
        for _, scope in (it for it in fields(resource) if it[0] == 2):
            for _, span in (it for it in fields(scope) if it[0] == 2):
                for number, value in fields(span):
                    if number == 5:
                        yield value.decode()


class Node:
    """A Redis and a node of its own."""

    def __init__(self, folder, sink):
        self.folder = pathlib.Path(folder)
        self.socket = self.folder / "redis.sock"
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.redis = subprocess.Popen(
            ["redis-server", "--port", "0", "--save", "", "--unixsocket", self.socket, "--dir", folder], **quiet
        )
        until(self.socket.exists, "redis-server listens")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.pprof = free.getsockname()[1]
        scopes = ["claim", "heartbeat", "abandon", "nack", "result", "subscribe"]
        everything = {"tid": "acme"}
        producer = {"token": "maker", "subject": "maker", "scopes": ["codeq:admin", "codeq:operator"], "raw": everything}
        worker = {
            "token": "doer", "subject": "doer", "eventTypes": ["*"], "raw": everything,
            "scopes": [f"codeq:{scope}" for scope in scopes],
        }
        self.log = open(self.folder / "log", "w+b")
        environment = {
            "PORT": "0", "BIND_ADDR": "127.0.0.1", "REDIS_URL": f"redis+unix://{self.socket}",
            "PRODUCER_AUTH_PROVIDER": "static", "PRODUCER_AUTH_CONFIG": json.dumps([producer]),
            "WORKER_AUTH_PROVIDER": "static", "WORKER_AUTH_CONFIG": json.dumps([worker]),
            "WEBHOOK_HMAC_SECRET": "0123456789abcdef0123456789abcdef",
            "RESULT_WEBHOOK_BASE_BACKOFF_SECONDS": "1", "SUBSCRIPTION_CLEANUP_INTERVAL_SECONDS": "1",
            "SUBSCRIPTION_MIN_INTERVAL_SECONDS": "1", "LOG_LEVEL": "debug", "BACKOFF_POLICY": "fixed",
            "BACKOFF_BASE_SECONDS": "1", "SHUTDOWN_DELAY_SECONDS": "0", "ARTIFACT_STORE": f"file://{folder}/artifacts",
            "TRACING_ENABLED": "true", "TRACING_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "200",
            "METRICS_TENANTS": "acme", "METRICS_PRIORITY_COMMANDS": "plain",
            "CODEQ_PPROF": "1", "CODEQ_PPROF_ADDR": f"127.0.0.1:{self.pprof}",
        }
        self.process = subprocess.Popen(
            [BINARY, "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        started = until(lambda: self.line("node.started"), "the node listens")
        self.origin = "http://" + started["context"]["address"]
        until(lambda: self.call("GET", "/readyz", ok=None)[0] == 200, "the node is ready")
        self.called = set()
        self.operations = operations(self.call("GET", "/openapi.json")[1])

    def lines(self):
        self.log.flush()
        text = (self.folder / "log").read_text(errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def line(self, event, **context):
        for line in self.lines():
            of = line.get("context", {})
            if line.get("event") == event and all(of.get(name) == value for name, value in context.items()):
                return line
        return None

    def call(self, method, path, body=None, token=None, ok=True, **headers):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.origin + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        except urllib.error.URLError:
            status, text = 0, b""
        for known, pattern in getattr(self, "operations", {}).items():
            if known[0] == method and pattern.fullmatch(path.split("?")[0]):
                self.called.add(known)
        if ok and status >= 300:
            sys.exit(f"{method} {path}: {status} {text.decode(errors='replace')}")
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")

    def make(self, method, path, body=None, **more):
        return self.call(method, API + path, body, token="maker", **more)[1]

    def work(self, method, path, body=None, **more):
        return self.call(method, API + path, body, token="doer", **more)[1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def kill(self):
        for process in [self.process, self.redis]:
            process.kill()
            process.wait()


def operations(document):
    """Method and path of each operation, with a pattern of the paths that are it."""
    found = {}
    for path, methods in document["paths"].items():
        parts = ["[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/")]
        for method in methods:
            if method in ("get", "put", "post", "delete"):
                found[(method.upper(), path)] = re.compile("/".join(parts))
    return found


def until(found, what):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.02)
    sys.exit(f"not within 30 seconds: {what}")


def drive(node, sink):
    """Every operation, and every way of a task's life."""
    hook = f"http://127.0.0.1:{sink}"
    task = lambda command, **more: node.make("POST", "/tasks", {"command": command, "payload": {"n": 1}, **more})["id"]
    claim = lambda command: node.work("POST", "/tasks/claim", {"commands": [command], "waitSeconds": 20})["id"]
    done = {"status": "COMPLETED", "result": {"ok": True}}

    # A subscriber first, so that it is told of what comes.
    subscription = node.work("POST", "/workers/subscriptions", {"callbackUrl": hook + "/nudge", "eventTypes": ["plain"]})
    node.work("POST", f"/workers/subscriptions/{subscription['subscriptionId']}/heartbeat", {"ttlSeconds": 60})

    # One life with everything in it: kept, given back, failed once, completed, told at the second try.
    id = task("plain", webhook=hook + "/flaky", idempotencyKey="once", priority=5)
    task("plain", webhook=hook + "/flaky", idempotencyKey="once", priority=5)
    claim("plain")
    node.work("POST", f"/tasks/{id}/heartbeat")
    node.work("POST", f"/tasks/{id}/abandon")
    claim("plain")
    node.work("POST", f"/tasks/{id}/nack", {"reason": "later"})
    claim("plain")
    artifact = {"name": "a.txt", "contentBase64": base64.b64encode(b"artifact").decode()}
    node.work("POST", f"/tasks/{id}/result", {**done, "artifacts": [artifact]})
    for path in ["", "/result", "/timeline", "/webhook"]:
        node.make("GET", f"/tasks/{id}{path}")
    until(lambda: len([it for it in Sink.hooks if it == "/flaky"]) >= 2, "a second try")
    until(lambda: node.line("webhook.delivered"), "a delivery")

    # Waiters: one for a task, one for a result.
    waits = threading.Thread(target=claim, args=["awaited"])
    waits.start()
    until(lambda: sample(node, "codeq_waiters", 'kind="claim"') > 0, "somebody waits")
    id = task("awaited")
    waits.join()
    waits = threading.Thread(target=node.make, args=["GET", f"/tasks/{id}/result?waitSeconds=20"])
    waits.start()
    until(lambda: sample(node, "codeq_waiters", 'kind="result"') > 0, "somebody waits")
    node.work("POST", f"/tasks/{id}/result", {"status": "FAILED", "error": "a verdict"})
    waits.join()

    # Batches, and a lease that runs out.
    node.make("POST", "/tasks/batch", {"tasks": [{"command": "batch", "payload": 1}] * 3})
    claimed = node.work("POST", "/tasks/claim/batch", {"commands": ["batch"], "count": 3})["tasks"]
    node.work("POST", "/tasks/batch/results", {"results": [{"taskId": it["id"], **done} for it in claimed]})
    late = task("late", maxAttempts=1)
    node.work("POST", "/tasks/claim", {"commands": ["late"], "leaseSeconds": 1})
    until(lambda: node.line("task.dead_lettered", task_id=late), "a lease that ran out")

    # Dead letters, cancels, queues, topics.
    for _ in range(2):
        id = task("dead", maxAttempts=1, webhook=hook + "/dead")
        claim("dead")
        node.work("POST", f"/tasks/{id}/nack", {})
    node.make("POST", "/admin/queues/dead/dlq/requeue", {"limit": 1})
    node.make("POST", "/admin/queues/dead/dlq/purge")
    node.make("POST", f"/tasks/{task('cancel')}/cancel")
    node.make("DELETE", f"/admin/tasks/{task('cancel')}")
    node.make("GET", "/admin/queues")
    node.make("GET", "/admin/queues/plain")
    node.make("POST", "/admin/queues/plain/pause")
    node.make("POST", "/admin/queues/plain/resume")
    node.make("GET", "/admin/queues/plain/tasks?state=ready")
    node.make("POST", "/admin/tasks/cleanup")
    node.make("PUT", "/admin/topics/plain", {"maxAttempts": 3})
    node.make("GET", "/admin/topics/plain")
    node.make("DELETE", "/admin/topics/plain?deletionPolicy=Delete")

    # Webhooks as an administrator sees them.
    node.make("GET", "/admin/webhook-secret")
    node.make("POST", "/admin/webhooks/test", {"url": hook + "/test"})
    node.make("GET", "/admin/webhooks?state=delivered", ok=None)
    delivered = node.make("GET", f"/tasks/{node.line('webhook.delivered')['context']['task_id']}/webhook")
    webhook = urllib.parse.quote(delivered.get("webhookId") or delivered.get("id") or "")
    node.make("GET", f"/admin/webhooks/{webhook}")
    node.make("POST", f"/admin/webhooks/{webhook}/replay")
    node.make("DELETE", f"/admin/webhooks/{webhook}", ok=None)
    recovery = node.make("POST", "/admin/webhooks/recover", {"since": "2020-01-01T00:00:00Z"})
    recovery = recovery.get("recoveryId", "0190b5a0-0000-7000-8000-000000000000")
    node.make("GET", f"/admin/webhooks/recoveries/{recovery}", ok=None)
    node.make("DELETE", f"/admin/webhooks/recoveries/{recovery}", ok=None)
    destinations = node.make("GET", "/admin/webhook-destinations")
    rows = destinations.get("items") or destinations.get("destinations") or []
    destination = rows[0]["id"] if rows else "aaaaaaaaaaaaaaaa"
    node.make("PUT", f"/admin/webhook-destinations/{destination}", {"ratePerSecond": 100}, ok=None)
    node.make("POST", f"/admin/webhook-destinations/{destination}/pause", ok=None)
    node.make("POST", f"/admin/webhook-destinations/{destination}/resume", ok=None)

    # The node itself, and callers that are turned away.
    node.make("GET", "/admin/log-level")
    node.make("PUT", "/admin/log-level", {"level": "debug"})
    for path in ["/healthz", "/health/live", "/health/ready", "/ready", "/readyz", "/health", "/metrics", "/openapi.json"]:
        node.call("GET", path, ok=None)
    node.call("POST", API + "/tasks", {"command": "x"}, token="nobody", ok=None)
    for path in ["", "profile?seconds=1", "flamegraph?seconds=1", "heap", "mutex", "block"]:
        with socket.create_connection(("127.0.0.1", node.pprof)) as connection:
            connection.sendall(f"GET /debug/pprof/{path} HTTP/1.0\r\n\r\n".encode())
            while connection.recv(65536):
                pass
    until(lambda: node.line("sweep.moved"), "a sweep")
    until(lambda: any(name.startswith("codeq.webhook.queue_ready") for name in Sink.spans), "a nudge")


def scrape(node):
    """Family → help seen, and series → value."""
    families, series = set(), {}
    for line in node.call("GET", "/metrics")[1].splitlines():
        if line.startswith("# TYPE "):
            families.add(line.split()[2])
        elif not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            series[name] = float(value)
    return families, series


def sample(node, family, part=""):
    _, series = scrape(node)
    return sum(value for name, value in series.items() if name.split("{")[0] == family and part in name)


def catalog():
    """Every family that the binary declares, or its source where there is no `codeq metrics`."""
    page = subprocess.run([BINARY, "metrics"], capture_output=True, text=True)
    if page.returncode == 0:
        return set(re.findall(r"^### `([a-z0-9_]+)`", page.stdout, re.M))
    text = "".join(path.read_text() for path in (ROOT / "src/telemetry/metrics").glob("*.rs") if path.name != "tests.rs")
    return set(re.findall(r'"(codeq_[a-z0-9_]+)"', text))


def used():
    """Names in dashboards, rules and pages, each with the first file that uses it."""
    found = {}
    files = [*ROOT.glob("dashboards/**/*.json"), *ROOT.glob("alerts/**/*.y*ml"), *ROOT.glob("docs/**/*.md")]
    for path in sorted(files):
        for name in NAME.findall(path.read_text()):
            found.setdefault(name, path.relative_to(ROOT))
    return found


def base(name, families):
    return name if name in families else SUFFIX.sub("", name)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink = server.server_address[1]
    with tempfile.TemporaryDirectory() as folder:
        node = Node(folder, sink)
        try:
            drive(node, sink)

            def is_over():
                return all(sample(node, *of) == 0 for of in BACK_TO_ZERO)

            end = time.monotonic() + 20
            while not is_over() and time.monotonic() < end:
                time.sleep(0.05)
            families, series = scrape(node)
            node.stop()
            lines = node.lines()
        finally:
            node.kill()
    sys.exit(report(node, families, series, lines))


def report(node, families, series, lines):
    seen = {}
    for name, value in series.items():
        family = base(name.split("{")[0], families)
        # A sample that shows something is worth more than a zero.
        if family not in seen or (seen[family][1] == 0 and value != 0):
            seen[family] = (name, value)
    declared = catalog()
    unsampled = sorted(declared - set(seen) - set(NEEDS_A_FAULT))
    is_gauge = lambda name: any(name.split("{")[0] == family and part in name for family, part in BACK_TO_ZERO)
    not_zero = {name: value for name, value in series.items() if is_gauge(name) and value != 0}
    zeros = sorted(family for family, (_, value) in seen.items() if value == 0)
    uses = used()
    known = declared | families
    not_exported = {name: where for name, where in uses.items() if base(name, known) not in known}
    in_use = {base(name, known) for name in uses if not str(uses[name]).startswith("docs/metrics.md")}
    nowhere = sorted(name for name in families if name.startswith("codeq_") and name not in in_use)
    uncalled = sorted(set(node.operations) - node.called)
    failures = {
        "Declared, but without a sample": unsampled,
        "Not back at 0": [f"{name} {value:g}" for name, value in sorted(not_zero.items())],
        "Used, but not exported": [f"{name} ({where})" for name, where in sorted(not_exported.items())],
        "Operations that were not called": [" ".join(one) for one in uncalled],
    }
    events = sorted({(line.get("category", ""), line.get("event", "")) for line in lines})
    text = ["# What a node shows when everything is called", ""]
    for title, items in failures.items():
        text += [f"## {title}: {len(items)}", "", *[f"- {item}" for item in items], ""]
    text += ["## Needs a fault, a setting or a platform", ""]
    text += [f"- {name}: {why}" for name, why in sorted(NEEDS_A_FAULT.items()) if name in declared and name not in seen]
    text += ["", f"## Metrics: {len(seen)}", "", "| family | a sample | value |", "|---|---|---|"]
    escape = lambda text: text.replace("|", "\\|")
    text += [f"| {family} | `{escape(name)}` | {value:g} |" for family, (name, value) in sorted(seen.items())]
    text += ["", "## Nothing but zeros", "", *[f"- {family}" for family in zeros]]
    text += ["", "## Exported, and used by no dashboard, rule or page", "", *[f"- {name}" for name in nowhere]]
    text += ["", f"## Spans: {len(Sink.spans)}", "", *[f"- {name}" for name in sorted(Sink.spans)]]
    text += ["", f"## Events: {len(events)}", "", *[f"- {category}: {event}" for category, event in events], ""]
    path = ROOT / "target/verify/report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text))
    print(f"{path.relative_to(ROOT)}: {len(seen)} metrics, {len(Sink.spans)} spans, {len(events)} events")
    for title, items in failures.items():
        for item in items:
            print(f"{title}: {item}")
    return 1 if any(failures.values()) else 0


if __name__ == "__main__":
    main()
