"""What the chart renders runs: the bundled Redis, a node in front of it, the pod of `helm test`."""

import json
import os
import signal
import subprocess
import threading
import unittest
import urllib.request

from chart import BINARY, BROKER, CHART, objects, only, rendered, run
from kubelet import POD, Container, free_port, logged, status, until

TRIAL = CHART / "ci" / "bundled-redis-values.yaml"


class Node(unittest.TestCase):
    """One Redis and one node for all: they start in a second."""

    @classmethod
    def setUpClass(cls):
        cls.port, cls.redis_port, cls.pprof_port = free_port(), free_port(), free_port()
        cls.objects = objects(rendered(TRIAL, values={
            "config": {"port": cls.port},
            "service": {"port": 80},
            "pprof": {"enabled": True, "port": cls.pprof_port},
            "otel": {"resourceAttributes": {"service.namespace": "tasks"}},
        }))
        # The names of Services: the one of Redis, and that of the nodes.
        names = {"6379": str(cls.redis_port), "one-codeq-redis": "127.0.0.1", "one-codeq.tasks:80": f"127.0.0.1:{cls.port}"}
        programs = {"/usr/local/bin/codeq": BINARY}
        pod = lambda kind, component: only(cls.objects, kind, component)["spec"]["template"]["spec"]
        cls.redis = Container(cls.objects, pod("StatefulSet", "redis"), {}, names)
        cls.addClassCleanup(cls.redis.close)
        cls.redis.start(PATH=os.environ["PATH"])
        cls.redis.come_up()
        cls.node = Container(cls.objects, pod("Deployment", BROKER), programs, names)
        cls.addClassCleanup(cls.node.close)
        cls.node.start()
        cls.node.come_up()
        cls.task = Container(cls.objects, only(cls.objects, "Pod")["spec"], programs, names)
        cls.addClassCleanup(cls.task.close)

    def redis_cli(self, *command, env=None):
        env = {**os.environ, **(self.redis.environment() if env is None else env)}
        return run("redis-cli", "-p", self.redis_port, *command, env=env).stdout.strip()

    def test_h1_every_probe_is_answered(self):
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.assertTrue(self.node.probe(name), name)
            self.assertTrue(self.redis.probe(name), name)

    def test_helm_test_takes_a_task_through_and_fails_when_it_may_not(self):
        self.assertEqual(self.port_of_service(), self.port)
        done = self.task.run()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"cycle\D+1\b")
        stranger = subprocess.run(
            self.task.command(), env={**self.task.environment(), "CODEQ_WORKER_TOKEN": "nobody"}, capture_output=True)
        self.assertNotEqual(stranger.returncode, 0)

    def port_of_service(self):
        [port] = only(self.objects, "Service", BROKER)["spec"]["ports"]
        [held] = [p["containerPort"] for p in self.node.spec["ports"] if p["name"] == port["targetPort"]]
        return held

    def test_the_health_check_of_the_image_says_yes(self):
        for more in ([], ["--live"]):
            said = run(BINARY, "healthcheck", *more, env=self.node.environment())
            self.assertEqual(said.returncode, 0, said.stderr)

    def test_l14_the_node_is_called_like_its_pod(self):
        lines = logged(self.node.lines())
        self.assertTrue(lines)
        self.assertEqual({line["instance"] for line in lines}, {POD})
        env = self.node.environment()
        self.assertEqual(
            env["OTEL_RESOURCE_ATTRIBUTES"],
            f"k8s.namespace.name=tasks,k8s.pod.name={POD},k8s.node.name=machine-7,service.namespace=tasks")
        self.assertEqual(env["TOKIO_WORKER_THREADS"], "2")

    def test_e9_profiles_are_on_the_loopback_and_not_on_the_port_of_the_api(self):
        self.assertEqual(status(f"http://127.0.0.1:{self.pprof_port}/debug/pprof/"), 200)
        self.assertEqual(status(f"http://127.0.0.1:{self.port}/debug/pprof/"), 404)

    def test_h5_without_redis_a_pod_gets_no_calls_and_is_not_restarted(self):
        self.redis.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: not self.node.probe("readinessProbe"), 30, "the pod leaves the Service")
            self.assertTrue(self.node.probe("livenessProbe"))
        finally:
            self.redis.process.send_signal(signal.SIGCONT)
        until(lambda: self.node.probe("readinessProbe"), 30, "the pod comes back")

    def test_the_bundled_redis_asks_for_its_password_and_writes_what_it_is_told(self):
        self.assertEqual(self.redis_cli("ping"), "PONG")
        self.assertIn("NOAUTH", self.redis_cli("ping", env={"REDISCLI_AUTH": ""}))
        self.assertEqual(self.redis_cli("config", "get", "maxmemory-policy").split()[1], "noeviction")
        self.assertEqual(self.redis_cli("config", "get", "appendonly").split()[1], "yes")
        # Not where others on the machine could read it.
        arguments = " ".join(self.redis.command())
        self.assertNotIn(self.redis.environment()["REDISCLI_AUTH"], arguments)


class Stop(unittest.TestCase):
    def test_a_node_stops_in_order_within_the_grace_period(self):
        """With a claim that waits, and the delay of production."""
        port, redis_port = free_port(), free_port()
        held = objects(rendered(TRIAL, values={"config": {
            "port": port, "env": "production", "shutdown": {"delaySeconds": 1, "drainSeconds": 8}}}))
        names = {"6379": str(redis_port), "one-codeq-redis": "127.0.0.1"}
        pod = lambda kind, component: only(held, kind, component)["spec"]["template"]["spec"]
        redis = Container(held, pod("StatefulSet", "redis"), {}, names)
        self.addCleanup(redis.close)
        redis.start(PATH=os.environ["PATH"]).come_up()
        node = Container(held, pod("Deployment", BROKER), {"/usr/local/bin/codeq": BINARY}, names)
        self.addCleanup(node.close)
        node.start().come_up()
        seen = []

        def claim():
            call = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/codeq/tasks/claim", method="POST",
                data=json.dumps({"commands": ["NOTHING"], "waitSeconds": 30}).encode(),
                headers={"authorization": "Bearer secret-trial-worker", "content-type": "application/json"})
            with urllib.request.urlopen(call, timeout=60) as answer:
                seen.append(answer.status)

        waiting = threading.Thread(target=claim)
        waiting.start()
        in_flight = lambda: "codeq_http_requests_in_flight 1" in scraped(port)
        until(in_flight, 20, "the claim waits")
        self.assertEqual(node.terminate(), 0, "\n".join(node.lines()))
        waiting.join(10)
        self.assertEqual(seen, [204])
        self.assertEqual(redis.terminate(), 0)


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    unittest.main()
