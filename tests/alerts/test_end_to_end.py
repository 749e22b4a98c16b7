"""From what a node says to the page and its end, through the real Prometheus and Alertmanager."""
import json
import pathlib
import tempfile
import unittest
import urllib.parse

import servers

DEAD = 'codeq_dlq_depth{command="mail out"}'


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="codeq-alerts-")
        cls.addClassCleanup(folder.cleanup)
        place = pathlib.Path(folder.name)
        cls.services = servers.Services()
        cls.addClassCleanup(cls.services.stop)
        cls.nodes = [servers.Node(), servers.Node()]
        for node in cls.nodes:
            cls.addClassCleanup(node.stop)
        manager, cls.manager = servers.alertmanager(place, cls.services)
        cls.addClassCleanup(manager.stop)
        prometheus, cls.prometheus = servers.prometheus(place, cls.nodes, cls.manager)
        cls.addClassCleanup(prometheus.stop)

    def tearDown(self):
        for node in self.nodes:
            node.says = {"codeq_store_up": 1}

    def page(self, alert, action="trigger"):
        return servers.until(lambda: self.services.of(alert, action), f"{action} of {alert}")

    def incident_ends(self, alert):
        (key,) = {event["dedup_key"] for event in self.services.of(alert, "trigger")}
        ends = self.page(alert, "resolve")
        self.assertEqual({event["dedup_key"] for event in ends}, {key})

    def managed(self, alert):
        matcher = urllib.parse.quote(f'alertname="{alert}"')
        return json.loads(servers.get(f"http://{self.manager}/api/v2/alerts?filter={matcher}") or "[]")

    def test_a_dead_task_is_one_incident_with_its_links_and_ends_with_its_requeue(self):
        for node in self.nodes:
            node.says[DEAD] = 3
        event = self.page("CodeqDLQGrowing")[0]
        self.assertEqual(event["routing_key"], "key-of-pagerduty")
        self.assertEqual(event["payload"]["severity"], "warning")
        self.assertEqual(event["payload"]["source"], "codeq")
        self.assertEqual(event["payload"]["group"], "prod/codeq")
        self.assertIn("CodeqDLQGrowing", event["payload"]["summary"])
        board = "https://grafana.example.com/d/codeq-command?var-command=mail%20out"
        page = "https://git.example.com/codeq/blob/main/docs/runbooks.md#codeqdlqgrowing"
        self.assertEqual({link["text"]: link["href"] for link in event["links"]}, {"Runbook": page, "Dashboard": board})
        details = event["payload"]["custom_details"]
        self.assertEqual((details["runbook_url"], details["dashboard_url"], details["priority"]), (page, board, "P2"))
        self.assertEqual(details["description"], "3 tasks of mail out are dead.")
        for label in ("alertname=CodeqDLQGrowing", "command=mail out", "namespace=prod", "job=codeq", "severity=warning"):
            self.assertIn(label, details["labels"])
        self.assertTrue(event["dedup_key"])

        def told_opsgenie():
            return [body for path, body in self.services.opsgenie if path == "/v2/alerts" and "CodeqDLQGrowing" in body["message"]]
        beside = servers.until(told_opsgenie, "the alert at Opsgenie")[0]
        self.assertEqual((beside["priority"], beside["details"]["runbook_url"]), ("P2", page))

        for node in self.nodes:
            node.says[DEAD] = 0
        self.incident_ends("CodeqDLQGrowing")

    def test_two_commands_are_two_incidents(self):
        for command in ("sms", "fax"):
            for node in self.nodes:
                node.says[f'codeq_queue_oldest_ready_age_seconds{{command="{command}"}}'] = 90
        servers.until(lambda: len({event["dedup_key"] for event in self.services.of("CodeqQueueStalled", "trigger")}) == 2, "two keys")

    def test_a_node_is_the_source_of_what_concerns_it_alone(self):
        self.nodes[0].says["codeq_scrape_collector_success"] = 0
        self.nodes[1].says["codeq_scrape_collector_success"] = 1
        event = self.page("CodeqCollectorFailing")[0]
        self.assertEqual(event["payload"]["source"], self.nodes[0].address)

    def test_a_store_that_is_down_is_a_critical_page_and_the_only_one(self):
        for node in self.nodes:
            node.says["codeq_store_up"] = 0
        event = self.page("CodeqStoreDown")[0]
        self.assertEqual((event["payload"]["severity"], event["payload"]["custom_details"]["priority"]), ("critical", "P1"))
        for node in self.nodes:
            node.says['codeq_queue_depth{command="mail",queue="ready"}'] = 20000
        held = servers.until(lambda: self.managed("CodeqQueueBacklogCritical"), "the backlog at Alertmanager")
        self.assertEqual(held[0]["status"]["state"], "suppressed")
        self.assertEqual(self.services.of("CodeqQueueBacklogCritical", "trigger"), [])
        for node in self.nodes:
            node.says["codeq_store_up"] = 1
        self.incident_ends("CodeqStoreDown")
        # Now that Redis is back, the backlog is news.
        self.page("CodeqQueueBacklogCritical")

    def test_no_rule_fails_to_be_evaluated(self):
        def evaluated():
            groups = json.loads(servers.get(f"http://{self.prometheus}/api/v1/rules"))["data"]["groups"]
            found = [rule for group in groups for rule in group["rules"]]
            return found if all(rule["health"] != "unknown" for rule in found) else None
        found = servers.until(evaluated, "a round of all rules")
        self.assertEqual({rule["health"] for rule in found}, {"ok"})
        self.assertEqual(len(found), sum(len(group["rules"]) for group in servers.rules.groups()))


if __name__ == "__main__":
    unittest.main()
