"""From a page to the failing line, the trace and the profile: real parts, no redeploy.

A receiver of webhooks becomes so slow that deliveries are given up. What an operator does then is
done here by script: alert → command → log line → traceparent → trace → profile.
"""
import json
import pathlib
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import fleet
import servers

SLOW, QUICK = "render", "thumbnail"


class Chain(unittest.TestCase):
    def start(self, part):
        self.addCleanup(part.stop)
        return part

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="codeq-chain-")
        self.addCleanup(folder.cleanup)
        place = pathlib.Path(folder.name)
        self.services, self.receiver = self.start(servers.Services()), self.start(fleet.Receiver(patience=1.5))
        self.collector, redis = self.start(fleet.Collector(place)), self.start(fleet.Redis(place))
        self.nodes = [self.start(fleet.Node(
            place, name, redis, TRACING_ENABLED="true", TRACING_OTLP_ENDPOINT=f"http://{self.collector.address}",
            OTEL_BSP_SCHEDULE_DELAY="200", WEBHOOK_TIMEOUT_MS="700", WEBHOOK_CONNECT_TIMEOUT_MS="500",
            RESULT_WEBHOOK_MAX_ATTEMPTS="1")) for name in ("node-a", "node-b")]
        manager, address = servers.alertmanager(place, self.services)
        self.start(manager)
        prometheus, self.prometheus = servers.prometheus(place, self.nodes, address)
        self.start(prometheus)

    def one_through(self, command, path):
        """Created on one node, claimed and submitted on the other."""
        first, second = self.nodes
        hook = f"http://{self.receiver.address}{path}"
        status, _, body = first.api("/tasks", {"command": command, "payload": {"n": 1}, "webhook": hook})
        assert status == 202, body
        status, _, body = second.api("/tasks/claim", {"commands": [command], "waitSeconds": 10}, fleet.WORKER)
        assert status == 200, body
        task = json.loads(body)["id"]
        status, _, body = second.api(f"/tasks/{task}/result", {"status": "COMPLETED", "result": {"ok": True}}, fleet.WORKER)
        assert status == 200, body

    def test_a8_a_page_leads_to_the_failing_line_its_trace_and_a_profile_of_its_node(self):
        over, broken = threading.Event(), []

        def load():
            try:
                while not over.wait(0.05):
                    self.one_through(SLOW, "/slow/hook")
                    self.one_through(QUICK, "/quick/hook")
            except AssertionError as failed:
                broken.append(failed)
        worker = threading.Thread(target=load)
        worker.start()
        try:
            self.follow()
        finally:
            over.set()
            worker.join()
        self.assertEqual(broken, [])

    def follow(self):
        # The page names the command whose receiver is slow.
        page = servers.until(lambda: self.services.of("CodeqWebhookFailureRate", "trigger"), "the page")[0]["payload"]
        labels = dict(pair.split("=", 1) for pair in page["custom_details"]["labels"].split())
        self.assertEqual(labels["command"], SLOW)
        self.assertIn("#codeqwebhookfailurerate", page["custom_details"]["runbook_url"])
        self.assertIn(f"/d/codeq-webhooks?var-command={SLOW}", page["custom_details"]["dashboard_url"])

        # The metric says how: attempts run out of time.
        asked = urllib.parse.quote('sum by (result) (codeq_webhook_attempts_total) > 0')
        found = json.loads(servers.get(f"http://{self.prometheus}/api/v1/query?query={asked}"))["data"]["result"]
        self.assertIn("timeout", {one["metric"]["result"] for one in found})

        # The command selects the failing line, which has the trace and the node.
        line = servers.until(lambda: self.failing_line(labels["command"]), "a line about a failed delivery")
        self.assertEqual((line["level"], line["message"]), ("ERROR", "result callback failed"))

        # In the trace, from the producer's call on, the call to the receiver is the wide span.
        def trace():
            spans = self.collector.spans(line["trace_id"])
            return spans if "codeq.webhook.task_result" in {span["name"] for span in spans} else None
        spans = servers.until(trace, "the trace at the collector")
        self.assertLessEqual({"codeq.task.create", "codeq.task.claim", "codeq.task.submit_result"}, {span["name"] for span in spans})
        widest = max((span for span in spans if span["name"].startswith("codeq.")), key=lambda span: span["ms"])
        self.assertEqual((widest["name"], widest["id"]), ("codeq.webhook.task_result", line["span_id"]))
        self.assertEqual(widest["attributes"]["codeq.command"], labels["command"])

        # The line's node gives a profile that names our functions.
        (node,) = [one for one in self.nodes if one.name == line["instance"]]
        status, headers, profile = fleet.call(f"http://{node.profiles}/debug/pprof/profile?seconds=2")
        self.assertEqual((status, headers["X-CodeQ-Instance"]), (200, line["instance"]))
        with tempfile.NamedTemporaryFile(suffix=".pb.gz") as kept:
            kept.write(profile)
            kept.flush()
            read = subprocess.run(["pprof", "-top", "-nodecount=500", kept.name], capture_output=True, text=True, check=False)
        self.assertEqual(read.returncode, 0, read.stderr)
        self.assertIn("codeq::", read.stdout)

    def failing_line(self, command):
        for node in self.nodes:
            for line in node.lines():
                if line.get("event") == "webhook.failed" and line["context"]["command"] == command:
                    return line
        return None


if __name__ == "__main__":
    unittest.main()
