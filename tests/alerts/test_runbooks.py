"""Each alert has a runbook that can be followed: its queries parse, its commands are ones there are."""
import re
import subprocess
import unittest

import promql_parser

import rules

PARTS = ["Meaning", "Impact", "Diagnosis", "Actions", "Escalation", "Keep for the report"]


METRICS = rules.ROOT / "docs" / "metrics.md"


def queries(text):
    return [line for block in rules.blocks(text, "promql") for line in block.splitlines() if line.strip()]


def anchor(heading):
    """As forges make it: lower case, spaces to hyphens, punctuation gone."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def documented_calls():
    """Paths that docs/http-api.md and docs/webhooks.md name, below /v1/codeq, each parameter as {}."""
    text = "".join((rules.ROOT / "docs" / page).read_text() for page in ("http-api.md", "webhooks.md"))
    found = set()
    for path in re.findall(r"`(?:[A-Z, `]+)?[ ]?(/(?:admin|tasks|workers)[\w/{}.-]*)", text):
        found.add(re.sub(r"\{\w+\}", "{}", path).rstrip("/"))
    # "POST /admin/queues/{command}/pause`, `/resume`": the second names only its own end.
    for base, others in re.findall(r"(/admin/[\w/{}-]+)/[\w-]+`((?:, `/[\w-]+`)+)", text):
        for other in re.findall(r"`(/[\w-]+)`", others):
            found.add(re.sub(r"\{\w+\}", "{}", base) + other)
    return found


class Runbooks(unittest.TestCase):
    def test_there_is_one_for_each_alert_and_no_other(self):
        self.assertEqual(sorted(rules.sections()), rules.names())

    def test_each_has_its_six_parts_in_order(self):
        for name, text in rules.sections().items():
            found = re.findall(r"^\*\*([A-Z][\w ]+)\.\*\*", text, flags=re.M)
            self.assertEqual(found, PARTS, name)

    def test_each_says_what_to_keep(self):
        for name, text in rules.sections().items():
            keep = text.rpartition("**Keep for the report.**")[2]
            for thing in ("screenshot", "trace_id", "profile"):
                self.assertIn(thing, keep, name)

    def test_every_query_parses(self):
        for name, text in rules.sections().items():
            self.assertTrue(queries(text), name)
            for query in queries(text):
                with self.subTest(name, query=query):
                    promql_parser.parse(query)

    @unittest.skipUnless(METRICS.exists(), "docs/metrics.md, which is held to what a node exports, is not there yet")
    def test_every_query_and_rule_asks_for_what_a_node_exports(self):
        exported = set(re.findall(r"`((?:codeq|process)_\w+)`", METRICS.read_text()))
        recorded = {rule["record"] for group in rules.groups() for rule in group["rules"] if "record" in rule}
        asked = [(name, query) for name, text in rules.sections().items() for query in queries(text)]
        asked += [(group["name"], rule["expr"]) for group in rules.groups() for rule in group["rules"]]
        for name, query in asked:
            for metric in re.findall(r"\b(?:codeq[_:]|process_)[\w:]+", re.sub(r'"[^"]*"', "", query)):
                family = re.sub(r"_(bucket|sum|count)$", "", metric)
                self.assertTrue(metric in recorded or {metric, family} & exported, f"{name}: {metric}")

    def test_the_alerts_own_metric_is_looked_at(self):
        """The first thing one wants to see is what the alert saw."""
        for rule in rules.alerts():
            seen = set(re.findall(r"\b(?:codeq_|process_|up\b)\w*|codeq:\w+:\w+?_ratio", rule["expr"]))
            shown = "".join(queries(rules.sections()[rule["alert"]]))
            self.assertTrue(any(metric in shown for metric in seen), rule["alert"])

    def test_every_command_is_well_formed_shell(self):
        text = rules.PAGE.read_text()
        inline = [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith(("admin ", "kubectl ", "redis-cli -u", "curl "))]
        for block in rules.blocks(text, "sh") + inline:
            done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
            self.assertEqual(done.returncode, 0, f"{block}\n{done.stderr}")

    def test_every_call_of_the_api_is_one_there_is(self):
        known = documented_calls()
        self.assertIn("/admin/queues/{}/resume", known)
        text = re.sub(r"^```promql\n.*?^```$", "", rules.PAGE.read_text(), flags=re.M | re.S)
        for path in re.findall(r"/v1/codeq(/[\w/${}-]*)", text):
            path = re.sub(r"\$\w+|\{\w+\}", "{}", path)
            self.assertIn(path, known)

    def test_every_link_within_the_page_arrives(self):
        text = rules.PAGE.read_text()
        anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.M)}
        for target in re.findall(r"\]\(#([^)]+)\)", text):
            self.assertIn(target, anchors)
        for page, target in re.findall(r"\]\(([\w-]+\.md)#([^)]+)\)", text):
            other = (rules.PAGE.parent / page).read_text()
            self.assertIn(target, {anchor(heading) for heading in re.findall(r"^#+ (.*)$", other, flags=re.M)})
        for rule in rules.alerts():
            page, _, target = rule["annotations"]["runbook_url"].partition("#")
            self.assertTrue((rules.ROOT / page).exists())
            self.assertIn(target, anchors)


if __name__ == "__main__":
    unittest.main()
