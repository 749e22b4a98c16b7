"""A bad value is refused by its name, before anything is installed."""

import base64
import json
import re
import unittest

import yaml

from chart import CHART, ROOT, VALUES, Refused, config_of, container, minimal, node, objects, of_file, run


def tree(path, value):
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


class Refusals(unittest.TestCase):
    def test_a_value_of_the_wrong_kind_is_refused_by_name(self):
        for path, value in (
            ("replicaCount", "three"),
            ("replicaCount", -1),
            ("image.tag", "latest"),
            ("image.digest", "sha256:1"),
            ("image.pullPolicy", "Sometimes"),
            ("service.type", "Nodeport"),
            ("service.port", 0),
            ("redis.url", "http://redis"),
            ("redis.bundled.maxmemory", "lots"),
            ("autoscaling.minReplicas", 0),
            ("keda.prometheus.serverAddress", "prometheus:9090"),
            ("networkPolicy.redisPorts", ["redis"]),
            ("otel.protocol", "http"),
            ("pprof.enabled", "yes"),
            ("serviceMonitor.interval", "30"),
            ("existingSecretKeys", ["redisURL"]),
            ("podDisruptionBudget.maxUnavailable", "some"),
            ("commonLabels", {"a": 1}),
            ("config.port", 0),
            ("config.bindAddr", "127.0.0.1"),
            ("config.logLevel", "loud"),
            ("config.redis.poolSize", 0),
            ("config.tracingSampleRatio", 1.5),
            ("config.webhook.retryTailSeconds", [0]),
        ):
            with self.subTest(path, value=value):
                with self.assertRaises(Refused) as refused:
                    minimal(tree(path, value))
                self.assertIn("/" + path.replace(".", "/"), str(refused.exception))

    def test_a_key_that_does_not_exist_is_refused_by_name_at_every_depth(self):
        def objects(tree, path=""):
            yield path
            for part, inner in tree.items():
                if isinstance(inner, dict) and inner:
                    yield from objects(inner, f"{path}.{part}" if path else part)

        values = yaml.safe_load((CHART / "values.yaml").read_text())
        # Those belong to Kubernetes, whose schemas judge them once they are rendered.
        theirs = (
            "updateStrategy", "redis.bundled.resources", "podSecurityContext", "securityContext", "resources",
            "livenessProbe", "readinessProbe", "startupProbe", "autoscaling.behavior", "keda.fallback")
        ours = [path for path in objects(values) if not path.startswith(theirs)]
        self.assertGreater(len(ours), 20)
        wrong = {}
        for path in ours:
            place = wrong
            for part in path.split(".") if path else []:
                place = place.setdefault(part, {})
            place["noSuchKey"] = 1
        with self.assertRaises(Refused) as refused:
            minimal(wrong)
        said = str(refused.exception)
        for path in ours:
            self.assertIn(f"at '{'/' + path.replace('.', '/') if path else ''}': additional properties 'noSuchKey'", said)

    def test_what_contradicts_itself_is_refused_by_name(self):
        trial = {"redis": {"url": "", "bundled": {"enabled": True}}}
        for message, values in (
            ("image.repository is required", {"image": {"repository": ""}}),
            ("redis.url is required", {"redis": {"url": ""}}),
            ("redis.url is required", {"redis": {"url": ""}, "existingSecret": "s", "existingSecretKeys": ["webhookHmacSecret"]}),
            ("redis.url and redis.bundled.enabled are set", {"redis": {"bundled": {"enabled": True}}}),
            ("redis.url and secrets.redisUrl are set", {"secrets": {"redisUrl": "redis://:a@b"}}),
            ("redis.bundled.enabled needs secrets.redisPassword", trial),
            ("needs redisPassword among existingSecretKeys", {**trial, "existingSecret": "s", "existingSecretKeys": ["webhookHmacSecret"]}),
            ("secrets.webhookHmacSecret has no effect beside existingSecret", {"existingSecret": "s", "secrets": {"webhookHmacSecret": "x"}}),
            ("redis.url holds a password", {"existingSecret": "s", "redis": {"url": "redis://:a@b"}}),
            ("existingSecretKeys has no effect", {"existingSecretKeys": ["redisUrl"]}),
            ("autoscaling.maxReplicas is less", {"autoscaling": {"enabled": True, "maxReplicas": 2}}),
            ("keda.maxReplicas is less", {"keda": {"enabled": True, "maxReplicas": 2}}),
            ("readyTasksPerNode needs keda.prometheus.serverAddress", {"keda": {"enabled": True, "prometheus": {"readyTasksPerNode": 5}}}),
            ("autoscaling.customMetric.averageValue is required", {"autoscaling": {"enabled": True, "customMetric": {"name": "x"}}}),
            ("ingress.enabled needs ingress.hosts", {"ingress": {"enabled": True}}),
            ("httpRoute.enabled needs httpRoute.parentRefs", {"httpRoute": {"enabled": True}}),
            ("otel.endpoint and otel.hostPort", {"otel": {"endpoint": "a:1", "hostPort": 4317}}),
            ("tests.producerToken and tests.workerToken: one is missing", {"tests": {"workerToken": "a"}}),
            ("tests.existingSecret stands in place", {"tests": {"workerToken": "a", "producerToken": "b", "existingSecret": "c"}}),
            ("prometheusRule.defaultRules.nonsense: there is no such group", {"prometheusRule": {"enabled": True, "defaultRules": {"nonsense": False}}}),
        ):
            with self.subTest(message):
                with self.assertRaises(Refused) as refused:
                    minimal(values)
                self.assertIn(message, str(refused.exception))

    def test_labels_that_selectors_hold_on_to_are_not_for_others(self):
        for path in ("commonLabels", "podLabels", "dashboards.label"):
            value = "app.kubernetes.io/name"
            with self.subTest(path):
                with self.assertRaises(Refused) as refused:
                    minimal(tree(path, {value: "x"} if path != "dashboards.label" else value))
                self.assertIn("/" + path.replace(".", "/"), str(refused.exception))

    def test_a_secret_among_the_settings_is_refused_and_not_repeated(self):
        for path in ("redis.url", "redisPassword", "producerAuthConfig", "workerAuthConfig", "webhookHmacSecret", "webhook.opsUrl", "webhook.proxyUrl"):
            with self.subTest(path):
                with self.assertRaises(Refused) as refused:
                    minimal({"config": tree(path, "redis://:hunter2@r")})
                self.assertIn(f"'{path.split('.')[-1]}' not allowed", str(refused.exception))
                self.assertNotIn("hunter2", str(refused.exception))


class Settings(unittest.TestCase):
    """`config` of the chart is what the binary takes."""

    def test_the_rendered_file_of_every_variant_is_accepted(self):
        for file in VALUES:
            with self.subTest(file.name):
                rendered = of_file(file)
                said = node("config", "check", config=config_of(rendered), env=secrets_of(rendered))
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_the_trial_in_the_readme_renders_and_is_accepted(self):
        [command] = re.findall(r"(?s)```sh\n(helm install .*?)```", (CHART / "README.md").read_text())
        said = run("bash", "-c", command.replace("helm install", "helm template", 1), cwd=ROOT)
        self.assertEqual(said.returncode, 0, said.stderr)
        held = objects(said.stdout)
        said = node("config", "check", config=config_of(held), env=secrets_of(held))
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_the_defaults_of_the_binary_fit_the_schema(self):
        defaults = yaml.safe_load((ROOT / "src/config/defaults.yaml").read_text())

        def without(tree, path=""):
            held = {}
            for part, value in tree.items():
                name = f"{path}.{part}" if path else part
                if isinstance(value, dict) and value:
                    held[part] = without(value, name)
                elif value is not None and name not in ("redis.url",):
                    held[part] = value
            return held

        self.assertIn("partitions: 16", config_of(minimal({"config": without(defaults)})))

    def test_the_bounds_of_the_schema_are_the_bounds_of_the_binary(self):
        """Both bounds of every number at once: a node lists every problem."""
        schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]
        bounded = []

        def walk(tree, path):
            for part, inner in tree["properties"].items():
                if "properties" in inner:
                    walk(inner, path + [part])
                elif inner.get("type") == "integer":
                    bounded.append((path + [part], inner))

        walk(schema, [])
        self.assertGreater(len(bounded), 35)
        for bound, step in (("minimum", -1), ("maximum", 1)):
            at_it, beyond = {}, {}
            for path, rule in bounded:
                if bound in rule:
                    for held, value in ((at_it, rule[bound]), (beyond, rule[bound] + step)):
                        for part in path[:-1]:
                            held = held.setdefault(part, {})
                        held[path[-1]] = value
            refused = node("config", "check", config=yaml.safe_dump(beyond))
            taken = node("config", "check", config=yaml.safe_dump(at_it))
            for path, rule in bounded:
                name = ".".join(path)
                # The binary takes port 0 for "any", with which no probe could find it.
                if bound in rule and (name, bound) != ("port", "minimum"):
                    self.assertRegex(refused.stderr, rf"(?m)\b{name}\b.* must be a whole number", name)
                    self.assertNotRegex(taken.stderr, rf"(?m)\b{name}\b.* must be a whole number", name)

    def test_schema_and_table_are_those_of_their_sources(self):
        said = run(ROOT / ".tools/venv/bin/python", ROOT / "scripts/chart.py", "--check")
        self.assertEqual(said.returncode, 0, said.stderr)

    def test_the_schema_and_the_files_of_values_are_valid(self):
        said = run("check-jsonschema", "--check-metaschema", CHART / "values.schema.json")
        self.assertEqual(said.returncode, 0, said.stdout)
        said = run("check-jsonschema", "--schemafile", CHART / "values.schema.json", CHART / "values.yaml", *VALUES)
        self.assertEqual(said.returncode, 0, said.stdout)


def secrets_of(rendered):
    """The variables that come from a Secret; one that somebody else makes has likely values."""
    data = {}
    for each in rendered:
        if each["kind"] == "Secret":
            data[each["metadata"]["name"]] = each["data"]
    likely = {"redisUrl": "redis://:pw@redis:6379", "webhookHmacSecret": "a-secret-of-at-least-32-bytes-here"}
    env = {}
    for each in container(rendered)["env"]:
        ref = each.get("valueFrom", {}).get("secretKeyRef")
        if ref:
            held = data.get(ref["name"])
            env[each["name"]] = base64.b64decode(held[ref["key"]]).decode() if held else likely[ref["key"]]
        elif "value" in each and each["name"] != "CODEQ_CONFIG":
            env[each["name"]] = each["value"]
    return env


if __name__ == "__main__":
    unittest.main()
