"""A poor man's kubelet: runs a rendered container as a process, with the command, arguments,
environment, files and probes that Kubernetes would give it, and nothing else."""

import base64
import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

POD = "one-codeq-6c9d7b5f4-x2x7p"
FIELDS = {
    "metadata.name": POD, "metadata.namespace": "tasks", "spec.nodeName": "machine-7", "status.hostIP": "127.0.0.1",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(fact, seconds, what):
    """Waits for a fact."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def cpus(quantity):
    text = str(quantity)
    return math.ceil(int(text[:-1]) / 1000 if text.endswith("m") else float(text))


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code
    except OSError:
        return None


class Container:
    """One container of a pod. `programs` says where a program of the image is on this machine,
    `names` what stands for addresses that only a cluster knows."""

    def __init__(self, objects, pod_spec, programs, names):
        self.spec, self.pod, self.objects = pod_spec["containers"][0], pod_spec, objects
        self.folder = tempfile.TemporaryDirectory()
        self.names = dict(names)
        self.programs = programs
        self._mount()

    def _held(self, kind, name):
        [found] = [o for o in self.objects if o["kind"] == kind and o["metadata"]["name"] == name]
        data = found.get("data", {})
        if kind == "Secret":
            return {key: base64.b64decode(value).decode() for key, value in data.items()}
        return data

    def _mount(self):
        volumes = {volume["name"]: volume for volume in self.pod.get("volumes", [])}
        for mount in self.spec.get("volumeMounts", []):
            place = Path(self.folder.name) / mount["name"]
            place.mkdir()
            source = volumes.get(mount["name"], {}).get("configMap")
            if source:
                for name, text in self._held("ConfigMap", source["name"]).items():
                    place.joinpath(name).write_text(self._here(text))
            if mount["mountPath"] != "/tmp":
                self.names[mount["mountPath"]] = str(place)

    def _here(self, text):
        for there, here in self.names.items():
            text = text.replace(there, here)
        return text

    def environment(self):
        env = {}
        for each in self.spec.get("env", []):
            source = each.get("valueFrom", {})
            if "value" in each:
                value = re.sub(r"\$\((\w+)\)", lambda name: env.get(name[1], name[0]), each["value"])
            elif "fieldRef" in source:
                value = FIELDS[source["fieldRef"]["fieldPath"]]
            elif "resourceFieldRef" in source:
                value = str(cpus(self.spec["resources"]["limits"]["cpu"]))
            else:
                ref = source["secretKeyRef"]
                value = self._held("Secret", ref["name"])[ref["key"]]
            env[each["name"]] = self._here(value)
        return env

    def command(self):
        whole = self.spec["command"] + self.spec.get("args", [])
        return [str(self.programs.get(whole[0], whole[0]))] + [self._here(part) for part in whole[1:]]

    def start(self, **more):
        self.log = open(Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen(
            self.command(), env={**self.environment(), **more}, stdout=self.log, stderr=subprocess.STDOUT,
            cwd=self.folder.name, start_new_session=True)
        return self

    def lines(self):
        self.log.flush()
        return Path(self.log.name).read_text().splitlines()

    def probe(self, name):
        """Whether the probe succeeds now."""
        probe = self.spec[name]
        if "exec" in probe:
            command = [self._here(part) for part in probe["exec"]["command"]]
            env = {**os.environ, **self.environment()}
            return subprocess.run(command, env=env, capture_output=True).returncode == 0
        get = probe["httpGet"]
        [port] = [p["containerPort"] for p in self.spec["ports"] if get["port"] in (p["name"], p["containerPort"])]
        return status(f"http://127.0.0.1:{port}{get['path']}") == 200

    def come_up(self):
        """As the kubelet does: startup, within its patience, then readiness and liveness."""
        patience = self.spec["startupProbe"]["periodSeconds"] * self.spec["startupProbe"]["failureThreshold"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            until(lambda: self.process.poll() is not None or self.probe(name), min(patience, 60), name)
            assert self.process.poll() is None, "\n".join(self.lines())

    def terminate(self):
        """Sends SIGTERM; the exit code, when it came within the grace period."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=self.pod["terminationGracePeriodSeconds"])

    def run(self):
        """Runs it to its end."""
        env = self.environment()
        return subprocess.run(self.command(), env=env, capture_output=True, text=True, timeout=60)

    def close(self):
        if hasattr(self, "process"):
            # With what it started, should it have left that behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if hasattr(self, "log"):
            self.log.close()
        self.folder.cleanup()


def logged(lines):
    return [json.loads(line) for line in lines if line.startswith("{")]
