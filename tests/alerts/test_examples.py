"""docs/examples loads where its program can be had, and agrees with rules and log where it cannot.

Judged by their own programs: prometheus.yml, alertmanager.yml. By the schema of its kind:
keda-worker.yaml. The collector, Vector and Loki are in no package registry: of their files the test
sees that they are YAML, that every part that is named exists and is used, and what they promise.
"""
import json
import os
import re
import subprocess
import unittest

import promql_parser

import rules

EXAMPLES = rules.ROOT / "docs" / "examples"
TOOLS = rules.ROOT / ".tools"
# How long a line of each category is kept, in days.
KEPT = {"task": 30, "queue": 14, "worker": 14, "webhook": 30, "security": 365, "audit": 365, "system": 90, "debug": 1}


def load(name):
    return rules.yaml.safe_load((EXAMPLES / name).read_text())


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


class Prometheus(unittest.TestCase):
    def test_promtool_takes_it_with_our_rules(self):
        done = run("promtool", "check", "config", EXAMPLES / "prometheus.yml")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for path in rules.RULE_FILES:
            self.assertIn(path.name, done.stdout)

    def test_its_jobs_are_found_by_the_rules(self):
        settings = load("prometheus.yml")
        self.assertEqual(settings["global"]["evaluation_interval"], "30s")
        jobs = [job["job_name"] for job in settings["scrape_configs"]]
        self.assertTrue({"codeq", "codeq-by-name", "redis"} <= set(jobs))
        self.assertGreater(settings["storage"]["exemplars"]["max_exemplars"], 0)


class Alertmanager(unittest.TestCase):
    CONFIG = EXAMPLES / "alertmanager.yml"

    def inhibits(self, source):
        for rule in load("alertmanager.yml")["inhibit_rules"]:
            if rule["source_matchers"] == [f'alertname="{source}"']:
                (matcher,) = rule["target_matchers"]
                return set(re.fullmatch(r'alertname=~?"(.*)"', matcher).group(1).split("|")), rule["equal"]

    def test_amtool_takes_it(self):
        done = run("amtool", "check-config", self.CONFIG)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("1 templates", done.stdout)

    def test_every_alert_goes_to_both_services_and_nothing_else_does(self):
        for alert in rules.alerts():
            labels = [f"alertname={alert['alert']}"] + [f"{key}={value}" for key, value in alert["labels"].items()]
            done = run("amtool", "config", "routes", "test", f"--config.file={self.CONFIG}", "namespace=prod", "job=codeq",
                       *labels, "--verify.receivers=pagerduty,opsgenie")
            self.assertEqual(done.returncode, 0, f"{labels}: {done.stdout}{done.stderr}")
        done = run("amtool", "config", "routes", "test", f"--config.file={self.CONFIG}", "alertname=RedisDown", "--verify.receivers=nobody")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_an_incident_is_an_alert_with_its_labels(self):
        route = next(one for one in load("alertmanager.yml")["route"]["routes"] if one["receiver"] == "pagerduty")
        self.assertEqual(route["group_by"], ["..."])

    def test_a_store_that_is_down_silences_queues_latency_and_burning_budgets(self):
        queues = {rule["alert"] for group in rules.groups() if group["name"] == "codeq-queues" for rule in group["rules"]}
        latency = {rule["alert"] for rule in rules.alerts()
                   if re.search(r"Slow$|Latency", rule["alert"])}
        burn = {rule["alert"] for rule in rules.alerts() if rule["alert"].endswith("BudgetBurn")}
        targets, equal = self.inhibits("CodeqStoreDown")
        self.assertEqual(targets, queues | latency | burn)
        self.assertEqual(equal, ["namespace", "job"])

    def test_a_node_that_is_gone_silences_what_it_said_of_itself(self):
        of_a_node = {rule["alert"] for rule in rules.alerts()
                     if "instance" in rule["expr"] or rule["expr"].startswith("changes(")}
        self.assertEqual(self.inhibits("CodeqTargetDown"), (of_a_node, ["namespace", "job", "instance"]))
        self.assertEqual(self.inhibits("CodeqAbsent"), ({"CodeqTargetDown"}, ["namespace", "job"]))


class Collector(unittest.TestCase):
    def test_every_part_that_is_named_exists_and_is_used(self):
        settings = load("otel-collector.yaml")
        for kind in ("receivers", "processors", "exporters"):
            used = {name for line in settings["service"]["pipelines"].values() for name in line[kind]}
            self.assertEqual(used, set(settings[kind]), kind)

    def test_traces_with_errors_or_longer_than_two_seconds_are_all_kept(self):
        settings = load("otel-collector.yaml")
        policies = {one["type"]: one for one in settings["processors"]["tail_sampling"]["policies"]}
        self.assertEqual(policies["status_code"]["status_code"]["status_codes"], ["ERROR"])
        self.assertEqual(policies["latency"]["latency"]["threshold_ms"], 2000)
        self.assertIn("tail_sampling", settings["service"]["pipelines"]["traces"]["processors"])

    def test_what_is_scraped_goes_to_both_services(self):
        line = load("otel-collector.yaml")["service"]["pipelines"]["metrics"]
        self.assertEqual((line["receivers"], line["exporters"]), (["prometheus"], ["datadog", "awsemf"]))

    def test_what_is_passed_on_are_metrics_that_alerts_or_boards_know(self):
        (condition,) = load("otel-collector.yaml")["processors"]["filter/few"]["metrics"]["metric"]
        pattern = re.search(r'"(.*)"', condition).group(1)
        known = "".join(path.read_text() for path in rules.RULE_FILES) + "".join(
            path.read_text() for path in (rules.ROOT / "dashboards").glob("*.json"))
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bcodeq_\w+", known)}
        passed = {name for name in names if re.search(pattern, name)}
        self.assertEqual(len(passed), 14, passed)


class Logs(unittest.TestCase):
    def test_vector_says_how_long_each_category_is_kept(self):
        text = (EXAMPLES / "vector.yaml").read_text()
        days = json.loads(re.search(r"days = (\{.*\})", text).group(1))
        self.assertEqual(days, {category: f"{kept}d" for category, kept in KEPT.items()})
        table = dict(re.findall(r"^# (\w+) +[A-Z][A-Z, ]+? {2,}(\d+ \w+)$", text, flags=re.M))
        units = {"days": 1, "year": 365, "hours": 1 / 24}
        self.assertEqual({name: int(kept.split()[0]) * units[kept.split()[1]] for name, kept in table.items()}, KEPT)

    def test_vectors_parts_are_joined(self):
        settings = load("vector.yaml")
        outputs = set(settings["sources"]) | set(settings["transforms"]) | {
            f"{name}.{route}" for name, one in settings["transforms"].items() for route in one.get("route", {})}
        inputs = {name for kind in ("transforms", "sinks") for one in settings[kind].values() for name in one["inputs"]}
        self.assertLessEqual(inputs, outputs)
        self.assertLessEqual(set(settings["sources"]) | {"parsed", "routed.evidence"}, inputs)

    def test_loki_deletes_by_the_same_days(self):
        settings = load("loki.yaml")
        self.assertTrue(settings["compactor"]["retention_enabled"])
        found = {}
        for stream in settings["limits_config"]["retention_stream"]:
            category = re.fullmatch(r'\{app="codeq",category="(\w+)"\}', stream["selector"]).group(1)
            found[category] = int(stream["period"].removesuffix("h")) // 24
        self.assertEqual(found, KEPT)
        labels = load("vector.yaml")["sinks"]["loki"]["labels"]
        self.assertEqual((labels["app"], labels["category"]), ("codeq", "{{ category }}"))


class Keda(unittest.TestCase):
    def test_it_fits_the_schema_of_its_kind(self):
        modules = TOOLS / "npm" / "node_modules"
        done = run("node", rules.ROOT / "tests" / "helm" / "crds.cjs", input=json.dumps([load("keda-worker.yaml")]),
                   env={**os.environ, "NODE_PATH": str(modules)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), [])

    def test_it_asks_once_for_what_every_node_tells(self):
        spec = load("keda-worker.yaml")["spec"]
        (trigger,) = spec["triggers"]
        promql_parser.parse(trigger["metadata"]["query"])
        self.assertRegex(trigger["metadata"]["query"], r'^max\(codeq_queue_depth\{queue="ready",command="')
        self.assertEqual(trigger["metadata"]["ignoreNullValues"], "false")
        self.assertGreaterEqual(spec["fallback"]["replicas"], spec["minReplicaCount"])


if __name__ == "__main__":
    unittest.main()
