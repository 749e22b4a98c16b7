"""Each alert says what it owes the person it wakes, and is tested both ways."""
import re
import unittest

import promql_parser

import rules

# The limits that the project set itself, and the alert that watches each.
LIMITS = {
    "CodeqTaskLatencyP99High": r"quantile\(0\.99,.*> 2$",  # end to end
    "CodeqApiSlow": r"quantile\(0\.99,.*> 0\.2$",
    "CodeqStoreMeanSlow": r"_sum.*/.*_count.*> 0\.005$",
    "CodeqStoreSlow": r"quantile\(0\.99,.*> 0\.1$",  # a decision
    "CodeqWakeupSlow": r"quantile\(0\.95,.*> 0\.02$",  # propagation
    "CodeqClaimContention": r"> 0\.1$",  # success of claims, 90 %
    "CodeqStorePoolSaturated": r"> 0\.9$",
    "CodeqBacklogTotal": r"> 10000$",
    "CodeqQueueBacklogCritical": r"> 10000$",
    "CodeqLowSuccessRate": r"\[15m\].*> 0\.05 and",
    "CodeqPickupSlow": r"quantile\(0\.99,.*> 60$",
    "CodeqWorkersMissing": r"codeq_workers_active\) == 0 unless",
    "CodeqWorkerCapacityLow": r"< 0\.2 and.*> 10$",
}
# How long each must be so, with its severity, where that was promised.
HELD = {
    "CodeqTaskLatencyP99High": ("3m", "warning"),
    "CodeqBacklogTotal": ("5m", "warning"),
    "CodeqQueueBacklogCritical": ("5m", "critical"),
    "CodeqLowSuccessRate": ("5m", "critical"),
    "CodeqStoreSlow": ("5m", "warning"),
    "CodeqPickupSlow": ("5m", "warning"),
    "CodeqWorkersMissing": ("2m", "warning"),
    "CodeqWorkerCapacityLow": ("2m", "critical"),
}
# Those that CodeQ had, by what they are called here.
ORIGINAL = {
    "CodeqDLQGrowing", "CodeqDLQCritical", "CodeqQueueBacklogHigh", "CodeqTaskCompletionSlow", "CodeqHighFailureRate",
    "CodeqLeaseExpirySpiking", "CodeqNoTasksClaimed", "CodeqWebhookFailureRate", "CodeqRateLimitSustained",
    "CodeqTargetDown",
}
# What the store holds, every node tells: added up, it would be as many times too much.
SHARED = re.compile(r"codeq_(queue_depth|dlq_depth|subscriptions_active|queue_oldest_ready_age_seconds|queue_paused|"
                    r"workers_active|delayed_overdue_seconds|webhook_outbox_depth|webhook_destinations|"
                    r"webhook_outbox_oldest_age_seconds|store_memory_bytes)\b")


def flat(rule):
    return " ".join(rule["expr"].split())


class Rules(unittest.TestCase):
    def test_groups_are_evaluated_every_30_seconds(self):
        for group in rules.groups():
            self.assertEqual(group.get("interval"), "30s", group["name"])

    def test_every_expression_parses(self):
        for group in rules.groups():
            for rule in group["rules"]:
                promql_parser.parse(rule["expr"])

    def test_every_alert_has_a_severity_and_all_annotations(self):
        for rule in rules.alerts():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], {"critical", "warning", "info"})
                notes = rule["annotations"]
                self.assertEqual(set(notes), {"summary", "description", "runbook_url", "dashboard_url"})
                self.assertIn("$value", notes["description"])
                self.assertNotIn("{{", notes["summary"])
                self.assertEqual(notes["runbook_url"], "docs/runbooks.md#" + rule["alert"].lower())

    def test_every_link_to_a_board_names_one_of_ours_with_the_command_where_there_is_one(self):
        for rule in rules.alerts():
            with self.subTest(rule["alert"]):
                board, _, query = rule["annotations"]["dashboard_url"].removeprefix("/d/").partition("?")
                self.assertIn(board, rules.BOARDS)
                self.assertTrue((rules.ROOT / "dashboards" / f"{board}.json").exists())
                by_command = re.match(r"^\(?(\w+\(0\.\d+, )?(max|sum) by \([^)]*\bcommand\b", flat(rule))
                self.assertEqual(query, "var-command={{ $labels.command }}" if by_command else "")

    def test_limits_are_those_that_were_set(self):
        by_name = {rule["alert"]: rule for rule in rules.alerts()}
        for name, pattern in LIMITS.items():
            self.assertRegex(flat(by_name[name]), pattern, name)
        for name, (held, severity) in HELD.items():
            self.assertEqual((by_name[name]["for"], by_name[name]["labels"]["severity"]), (held, severity), name)
        self.assertLessEqual(ORIGINAL, set(by_name))

    def test_gauges_of_the_store_are_joined_by_max_and_installations_stay_apart(self):
        for rule in rules.alerts():
            with self.subTest(rule["alert"]):
                text = flat(rule)
                for match in SHARED.finditer(text):
                    self.assertRegex(text[:match.start()], r"max by \(namespace, job[^)]*\) \( ?$")
                for labels in re.findall(r"\bby \(([^)]*)\)", text):
                    self.assertTrue(labels.startswith("namespace, job"), labels)
                self.assertNotRegex(text, r"\b(sum|max|min|avg|count)\s*\(")

    def test_every_alert_is_seen_to_fire_and_nearly_to_fire(self):
        fired, held, annotated = set(), set(), True
        for file, test, alert, expected in rules.checks():
            if not expected and ("near miss" in test or "near misses" in test):
                held.add(alert)
            for one in expected:
                fired.add((alert, one["exp_labels"].get("long")))
                self.assertEqual(set(one["exp_annotations"]), {"summary", "description", "runbook_url", "dashboard_url"},
                                 f"{file}: {test}")
        self.assertEqual(fired, {(rule["alert"], rule["labels"].get("long")) for rule in rules.alerts()})
        self.assertEqual(held, set(rules.names()))

    def test_every_near_miss_has_something_to_be_near_to(self):
        """A near miss on series that the rule does not read would pass whatever the rule says."""
        metrics = {rule["alert"]: set(re.findall(r"\b(?:codeq_|process_|up\b)\w*", rule["expr"])) for rule in rules.alerts()}
        for name in ("error", "slow"):
            alert = {"error": "CodeqApiErrorBudgetBurn", "slow": "CodeqApiLatencyBudgetBurn"}[name]
            metrics[alert] = {"codeq_http_requests_total"} if name == "error" else {"codeq_http_request_work_seconds_bucket"}
        for path in rules.TEST_FILES:
            for test in rules.yaml.safe_load(path.read_text())["tests"]:
                given = {one["series"].partition("{")[0] for one in test["input_series"]}
                near = re.match(r"(Codeq\w+) near miss", test["name"])
                if near:
                    self.assertTrue(metrics[near.group(1)] & given, f"{path.name}: {test['name']}")

    def test_a_windows_pair_burns_at_its_pace(self):
        pairs = {("1h", "5m"): ("14.4", "2m", "critical"), ("6h", "30m"): ("6", "15m", "critical"),
                 ("1d", "2h"): ("3", "1h", "warning"), ("3d", "6h"): ("1", "3h", "warning")}
        for alert, ratio, budget in (("CodeqApiErrorBudgetBurn", "error", "0.001"), ("CodeqApiLatencyBudgetBurn", "slow", "0.01")):
            found = [rule for rule in rules.alerts() if rule["alert"] == alert]
            self.assertEqual({(rule["labels"]["long"], rule["labels"]["short"]) for rule in found}, set(pairs))
            for rule in found:
                long, short = rule["labels"]["long"], rule["labels"]["short"]
                pace, held, severity = pairs[long, short]
                self.assertEqual(flat(rule), f"codeq:http_requests:{ratio}_ratio_rate{long} > {pace} * {budget} and on (namespace, job) "
                                             f"codeq:http_requests:{ratio}_ratio_rate{short} > {pace} * {budget}")
                self.assertEqual((rule["for"], rule["labels"]["severity"]), (held, severity))

    def test_every_recorded_ratio_looks_at_the_window_in_its_name(self):
        recorded = {rule["record"]: rule["expr"] for group in rules.groups() for rule in group["rules"] if "record" in rule}
        windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
        self.assertEqual(set(recorded), {f"codeq:http_requests:{kind}_ratio_rate{w}" for kind in ("error", "slow") for w in windows})
        for name, expr in recorded.items():
            self.assertEqual(set(re.findall(r"\[(\w+)\]", expr)), {name.rpartition("rate")[2]}, name)


if __name__ == "__main__":
    unittest.main()
