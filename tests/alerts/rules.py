"""The shipped rules, their unit tests and the runbooks, read once for the tests beside this file."""
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULE_FILES = sorted((ROOT / "alerts").glob("codeq*.yaml"))
TEST_FILES = sorted((ROOT / "alerts" / "tests").glob("*.yaml"))
PAGE = ROOT / "docs" / "runbooks.md"
BOARDS = {"codeq-overview", "codeq-command", "codeq-api", "codeq-webhooks", "codeq-store", "codeq-nodes", "codeq-slo",
          "codeq-experience"}


def groups():
    for path in RULE_FILES:
        yield from yaml.safe_load(path.read_text())["groups"]


def alerts():
    """Every alerting rule; a name may have several (a pair of windows each)."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def names():
    return sorted({rule["alert"] for rule in alerts()})


def checks():
    """(file, test's name, alert, expected alerts) of every check of an alert in the unit tests."""
    for path in TEST_FILES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for check in test.get("alert_rule_test", []):
                yield path.name, test["name"], check["alertname"], check["exp_alerts"]


def sections():
    """Alert → text of its runbook."""
    parts = re.split(r"^## (Codeq\w+)\n", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)
