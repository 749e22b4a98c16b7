"""What the test from scrape to page is made of: nodes that say what they are told to, the real
Prometheus and Alertmanager with the shipped files, and a stand-in for the services they page.
"""
import http.server
import json
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import rules

EXAMPLES = rules.ROOT / "docs" / "examples"
PATIENCE = 60  # seconds until something that should come counts as lost


def until(fact, what):
    """Waits for `fact()` to be true and gives what it gave."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = fact()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read()
    except OSError:
        return None


class Server:
    """Answers on a port of its own with what `answer(method, path, body)` gives: status and text."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, text = answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4" if self.command == "GET" else "application/json")
                self.send_header("Content-Length", str(len(text)))
                try:
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:  # whoever asked has given up
                    self.close_connection = True

            do_GET = do_POST = do

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class Node(Server):
    """A node's `/metrics`; `says` maps a series to its value."""

    def __init__(self):
        self.says = {"codeq_store_up": 1}
        super().__init__(lambda *_: (200, "".join(f"{series} {value}\n" for series, value in list(self.says.items()))))


class Services(Server):
    """PagerDuty's and Opsgenie's doors; remembers what came."""

    def __init__(self):
        self.events, self.opsgenie = [], []
        super().__init__(self.take)

    def take(self, _, path, body):
        if path == "/v2/enqueue":
            self.events.append(json.loads(body))
        else:
            self.opsgenie.append((path, json.loads(body)))
        return 202, '{"status":"success","result":"taken","requestId":"1"}'

    def of(self, alert, action):
        return [event for event in self.events if event["payload"] and event["payload"].get("class") == alert
                and event["event_action"] == action]


class Program:
    """A server of its own, told to write below `folder`; it ends with the test."""

    def __init__(self, folder, *command):
        self.log = open(folder / f"{command[0]}.log", "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, cwd=folder)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def prometheus(folder, nodes, alertmanager):
    """The shipped rules and example, with everything that takes minutes taking a second."""
    (folder / "rules").mkdir()
    for path in rules.RULE_FILES:
        text = re.sub(r"(\binterval|\bfor): \S+", r"\1: 1s", path.read_text())
        (folder / "rules" / path.name).write_text(text)
    settings = rules.yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(folder / "rules" / "codeq*.yaml")]
    settings["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
    settings["scrape_configs"] = [job for job in settings["scrape_configs"] if job["job_name"] == "codeq"]
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [node.address for node in nodes]
    (folder / "prometheus.yml").write_text(rules.yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    server = Program(folder, "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                     f"--web.listen-address={address}", "--rules.alert.resend-delay=5s", "--rules.alert.for-grace-period=0s")
    until(lambda: get(f"http://{address}/-/ready"), "prometheus")
    return server, address


def alertmanager(folder, services):
    """The example, with addresses and secrets of the test and without its pauses."""
    text = (EXAMPLES / "alertmanager.yml").read_text()
    for old, new in (("https://events.pagerduty.com/", f"http://{services.address}/"), ("https://api.opsgenie.com/", f"http://{services.address}/"),
                     ("/etc/alertmanager/secrets/", f"{folder}/")):
        assert old in text, old
        text = text.replace(old, new)
    text = re.sub(r"(group_wait|group_interval): \S+", r"\1: 1s", text)
    (folder / "alertmanager.yml").write_text(text)
    for service in ("pagerduty", "opsgenie"):
        pathlib.Path(folder / service).write_text(f"key-of-{service}")
    shutil.copy(EXAMPLES / "alertmanager.tmpl", folder)
    address = f"127.0.0.1:{free_port()}"
    server = Program(folder, "prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'am'}",
                     f"--web.listen-address={address}", "--cluster.listen-address=")
    until(lambda: get(f"http://{address}/-/ready"), "alertmanager")
    return server, address
