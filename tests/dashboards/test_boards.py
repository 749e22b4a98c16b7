"""The boards in dashboards/ are what Grafana and an operator expect of them.

Rules of the field's linter for dashboards, written anew, and our own: each number has a unit, each
panel says what it tells, each query parses and asks for metrics that a node exports.
"""
import json
import pathlib
import re
import subprocess
import sys
import unittest

import promql_parser

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "dashboards").glob("*.json"))}
NAMES = {"codeq-overview", "codeq-command", "codeq-api", "codeq-webhooks", "codeq-store", "codeq-nodes", "codeq-slo",
         "codeq-experience"}
# What others export: Prometheus itself, redis_exporter.
FOREIGN = re.compile(r"^(up|ALERTS|redis_\w+)$")
RECORDED = re.compile(r"^codeq:")


def panels(board):
    return [one for one in board["panels"] if one["type"] != "row"]


def every():
    for uid, board in BOARDS.items():
        for panel in panels(board):
            yield uid, board, panel


def substituted(expr):
    expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h")
    return re.sub(r"\$\{?\w+(:\w+)?\}?", ".*", expr)


def selectors(expr):
    """(metric name, text of its matchers) of every selector of a query."""
    bare = re.sub(r'\b(sum|max|min|avg|count|topk|by|on|without|ignoring|group_left|or|and|unless|offset|bool)\b', " ", expr)
    for match in re.finditer(r"([a-zA-Z_][\w:]*)\s*\{([^}]*)\}", bare):
        yield match.group(1), match.group(2)


def exported():
    """Family → type, from the page that a test holds to the binary."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    found = dict(re.findall(r"`((?:codeq|process)_\w+)`[^\n]*?\b(counter|gauge|histogram)\b", page))
    assert found, "docs/metrics.md names no metric"
    return found


class Boards(unittest.TestCase):
    def test_there_are_the_eight_boards_and_each_file_has_its_uid(self):
        self.assertEqual(set(BOARDS), NAMES)
        for uid, board in BOARDS.items():
            self.assertEqual(board["uid"], uid)
            self.assertFalse(board["editable"])

    def test_the_files_are_what_the_script_writes(self):
        ran = subprocess.run([sys.executable, ROOT / "scripts" / "dashboards.py", "--check"], capture_output=True, text=True)
        self.assertEqual(ran.returncode, 0, ran.stderr)

    def test_every_panel_has_title_unit_description_and_a_query(self):
        for uid, _, panel in every():
            with self.subTest(board=uid, panel=panel["title"]):
                self.assertTrue(panel["title"] and panel["description"] and panel["targets"])
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                self.assertTrue(panel["fieldConfig"]["defaults"]["thresholds"]["steps"])
                for target in panel["targets"]:
                    self.assertTrue(target["legendFormat"])

    def test_every_panel_asks_the_chosen_data_source_and_no_fixed_one(self):
        for uid, board, panel in every():
            for one in [panel, *panel["targets"]]:
                self.assertEqual(one["datasource"], {"type": "prometheus", "uid": "${datasource}"}, f"{uid} {panel['title']}")
            kinds = {v["name"]: v["query"] for v in board["templating"]["list"] if v["type"] == "datasource"}
            self.assertEqual(kinds, {"datasource": "prometheus", "logs": "loki", "traces": "tempo"})

    def test_variables_are_read_again_when_the_time_range_changes(self):
        for uid, board in BOARDS.items():
            asked = [v for v in board["templating"]["list"] if v["type"] == "query"]
            self.assertTrue({"namespace", "job", "instance", "command"} <= {v["name"] for v in asked}, uid)
            for variable in asked:
                self.assertEqual(variable["refresh"], 2, f"{uid} {variable['name']}")

    def test_every_query_parses(self):
        for uid, _, panel in every():
            for target in panel["targets"]:
                with self.subTest(board=uid, panel=panel["title"], expr=target["expr"]):
                    promql_parser.parse(substituted(target["expr"]))

    def test_every_query_of_ours_names_installation_and_node(self):
        for uid, _, panel in every():
            for target in panel["targets"]:
                for name, matchers in selectors(target["expr"]):
                    if FOREIGN.match(name):
                        continue
                    with self.subTest(board=uid, panel=panel["title"], metric=name):
                        self.assertIn('job=~"$job"', matchers)
                        self.assertIn('namespace=~"$namespace"', matchers)
                        if not RECORDED.match(name):
                            self.assertIn('instance=~"$instance"', matchers)

    def test_counters_are_read_only_as_rates_over_the_panels_interval(self):
        kinds = exported()
        for uid, _, panel in every():
            for target in panel["targets"]:
                expr = target["expr"]
                for name, _ in selectors(expr):
                    family = re.sub(r"_(bucket|sum|count)$", "", name)
                    counts = kinds.get(name) == "counter" or kinds.get(family) == "histogram"
                    if not counts:
                        continue
                    with self.subTest(board=uid, panel=panel["title"], metric=name):
                        windows = re.findall(r"(?:rate|increase)\(" + name + r"\{[^}]*\}\[([^\]]+)\]", expr)
                        uses = len(re.findall(name + r"\{", expr))
                        self.assertEqual(len(windows), uses, expr)
                        self.assertTrue(set(windows) <= {"$__rate_interval", "24h", "1d", "30m"}, windows)

    def test_gauges_of_the_store_are_never_summed_over_nodes(self):
        of_the_store = ("codeq_queue_depth", "codeq_dlq_depth", "codeq_subscriptions_active", "codeq_workers_active",
                        "codeq_webhook_outbox_depth", "codeq_webhook_destinations", "codeq_queue_oldest_ready_age_seconds",
                        "codeq_webhook_outbox_oldest_age_seconds", "codeq_queue_paused", "codeq_store_memory_bytes")
        for uid, _, panel in every():
            for target in panel["targets"]:
                for name in of_the_store:
                    for at in re.finditer(name + r"\{", target["expr"]):
                        before = target["expr"][: at.start()]
                        self.assertRegex(before, r"max( by \([^)]*\))? \($", f"{uid} {panel['title']}: {target['expr']}")

    def test_no_query_uses_a_metric_that_a_node_does_not_export(self):
        kinds = exported()
        for uid, _, panel in every():
            for target in panel["targets"]:
                for name, _ in selectors(target["expr"]):
                    if FOREIGN.match(name) or RECORDED.match(name):
                        continue
                    family = re.sub(r"_(bucket|sum|count)$", "", name)
                    with self.subTest(board=uid, panel=panel["title"], metric=name):
                        self.assertTrue(name in kinds or kinds.get(family) == "histogram")

    def test_the_alert_of_a_panel_exists_and_has_its_place_in_the_runbooks(self):
        rules = "".join(path.read_text() for path in (ROOT / "alerts").glob("codeq*.yaml"))
        runbooks = (ROOT / "docs" / "runbooks.md").read_text().lower()
        for uid, _, panel in every():
            for alert in re.findall(r"Alert: \[(\w+)\]", panel["description"]):
                with self.subTest(board=uid, panel=panel["title"], alert=alert):
                    self.assertIn(f"alert: {alert}\n", rules)
                    self.assertRegex(runbooks, rf"(?m)^#+ {alert.lower()}\b")

    def test_an_alert_leads_to_a_board_that_shows_it(self):
        rules = "".join(path.read_text() for path in (ROOT / "alerts").glob("codeq*.yaml"))
        shown = {alert for _, _, panel in every() for alert in re.findall(r"Alert: \[(\w+)\]", panel["description"])}
        boards = set(re.findall(r"dashboard_url: \"?'?/d/([\w-]+)", rules))
        self.assertTrue(boards and boards <= NAMES, boards)
        self.assertTrue(shown, "no panel names an alert")

    def test_panels_do_not_lie_on_each_other_and_ids_are_unique(self):
        for uid, board in BOARDS.items():
            taken, ids = set(), [one["id"] for one in board["panels"]]
            self.assertEqual(len(ids), len(set(ids)), uid)
            for one in board["panels"]:
                at = one["gridPos"]
                self.assertLessEqual(at["x"] + at["w"], 24)
                cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
                self.assertFalse(cells & taken, f"{uid} {one['title']}")
                taken |= cells

    def test_m37_targets_of_the_field_are_the_thresholds(self):
        def steps(uid, title):
            (panel,) = [one for one in panels(BOARDS[uid]) if one["title"] == title]
            return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]

        self.assertEqual(steps("codeq-api", "Work time"), [0.1, 0.2])
        self.assertEqual(steps("codeq-store", "Mean script time"), [0.003, 0.005])
        self.assertEqual(steps("codeq-api", "Wake-up latency p95"), [0.01, 0.02])
        self.assertEqual(steps("codeq-overview", "End to end"), [0.5, 1])
        self.assertEqual(steps("codeq-api", "Claims that succeed"), [0.9, 0.95])
        self.assertEqual(steps("codeq-store", "Pool use"), [0.8, 0.9])


if __name__ == "__main__":
    unittest.main()
