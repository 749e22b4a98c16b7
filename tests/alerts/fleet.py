"""A real broker for the story of a page: Redis, nodes, a collector that is not ours, a receiver."""
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request

import rules
import servers

TENANT, PRODUCER, WORKER = "acme", "story-producer", "story-worker"
SCOPES = ["codeq:claim", "codeq:heartbeat", "codeq:abandon", "codeq:nack", "codeq:result", "codeq:subscribe"]
TOKENS = {
    "PRODUCER_AUTH_PROVIDER": "static", "WORKER_AUTH_PROVIDER": "static",
    "PRODUCER_AUTH_CONFIG": json.dumps({"token": PRODUCER, "subject": "shop", "raw": {"tid": TENANT, "role": "ADMIN"}}),
    "WORKER_AUTH_CONFIG": json.dumps({"token": WORKER, "subject": "press", "eventTypes": ["*"], "scopes": SCOPES,
                                      "raw": {"tid": TENANT}}),
}


def call(url, body=None, token=None):
    """Status, headers and body of one request; a refused connection is status 0."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()
    except OSError:
        return 0, {}, b""


class Redis(servers.Program):
    def __init__(self, folder):
        self.socket = folder / "redis.sock"
        super().__init__(folder, "redis-server", "--port", "0", "--unixsocket", str(self.socket), "--appendonly", "yes",
                         "--save", "", "--maxmemory-policy", "noeviction")
        servers.until(self.socket.exists, "redis-server")


class Node(servers.Program):
    """A node with a listener for profiles; its name is the `instance` of its lines."""

    def __init__(self, folder, name, redis, **env):
        self.name, home = name, folder / name
        home.mkdir()
        self.address, self.profiles = (f"127.0.0.1:{servers.free_port()}" for _ in range(2))
        program = os.environ.get("CODEQ", str(rules.ROOT / "target" / "debug" / "codeq"))
        settings = {
            **TOKENS, **env, "PORT": self.address.split(":")[1], "BIND_ADDR": "127.0.0.1", "REDIS_URL": f"redis+unix://{redis.socket}",
            "HOSTNAME": name, "ENV": "dev", "LOG_FORMAT": "json", "CODEQ_PPROF": "1", "CODEQ_PPROF_ADDR": self.profiles,
            "SHUTDOWN_DELAY_SECONDS": "0", "ARTIFACT_STORE": f"file://{home}",
        }
        super().__init__(home, "env", *(f"{key}={value}" for key, value in settings.items()), program, "serve")
        servers.until(lambda: servers.get(f"http://{self.address}/health/ready"), f"{name}, see {self.log.name}")

    def api(self, path, body=None, token=PRODUCER):
        return call(f"http://{self.address}/v1/codeq{path}", body, token)

    def lines(self):
        with open(self.log.name, encoding="utf-8") as log:
            return [json.loads(line) for line in log if line.startswith("{") and line.endswith("}\n")]


class Collector(servers.Program):
    """What arrives is read from what it prints."""

    def __init__(self, folder):
        self.address = f"127.0.0.1:{servers.free_port()}"
        super().__init__(folder, "rotel-agent", "start", "--otlp-grpc-endpoint", self.address,
                         "--otlp-http-endpoint", f"127.0.0.1:{servers.free_port()}", "--exporter", "blackhole",
                         "--debug-log", "traces", "--debug-log-verbosity", "detailed")
        host, port = self.address.split(":")

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0
        servers.until(listens, "the collector")

    def spans(self, trace):
        """Spans of a trace: name, id, parent, milliseconds, attributes."""
        found = []
        with open(self.log.name, encoding="utf-8") as log:
            blocks = re.split(r"(?m)^Span #\d+$", log.read())[1:]
        for block in blocks:
            field = dict(re.findall(r"(?m)^ {4}([\w ]+?) *: (.*)$", block))
            times = re.findall(r"(?:Start|End) time: (\d+)", block)
            if field.get("Trace ID") == trace and len(times) == 2:
                attributes = dict(re.findall(r"(?m)^ +-> ([\w.]+): \w+\((.*)\)$", block))
                found.append({"name": field["Name"], "id": field["ID"], "parent": field.get("Parent ID", ""),
                              "ms": (int(times[1]) - int(times[0])) / 1e6, "attributes": attributes})
        return found


class Receiver(servers.Server):
    """Takes webhooks, those below /slow after `patience` seconds."""

    def __init__(self, patience):
        def take(_, path, __):
            if path.startswith("/slow"):
                time.sleep(patience)
            return 200, ""
        super().__init__(take)
