#!/usr/bin/env python3
"""Writes what of helm/codeq follows from other files: values.schema.json, and the table of values in
README.md. With --check it writes nothing and exits 1 when one of them is stale.

The values' own types come from values.yaml, the settings below `config` from the defaults that are
compiled into the binary (src/config/defaults.yaml): the comment of a key names its range. What
neither of them says is in RULES.
"""

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "codeq"
DEFAULTS = ROOT / "src" / "config" / "defaults.yaml"
KEYS = ROOT / "src" / "config" / "keys.rs"

TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 63}
COUNT = {"type": "integer", "minimum": 0}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
PORTS = {"type": "array", "items": PORT}
OBJECTS = {"type": "array", "items": {"type": "object"}}
FREE = {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
# The chart's own labels are not among them: selectors hold on to some.
OWN_LABELS = "^(app\\.kubernetes\\.io|helm\\.sh)/"
LABELS = {**TEXTS, "patternProperties": {OWN_LABELS: False}}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([kKMGTP]i?|m)?$"}
PERCENT = {"type": "integer", "minimum": 1, "maximum": 1000}
AMOUNT = {"type": ["integer", "string", "null"], "minimum": 0, "pattern": "^[0-9]+%$"}
SECRET_KEYS = [
    "webhookHmacSecret", "redisUrl", "redisPassword", "producerAuthConfig", "workerAuthConfig",
    "webhookOpsUrl", "webhookProxyUrl",
]


def one_of(*names):
    return {"enum": list(names)}


def fields(required, **properties):
    return {
        "type": "object", "additionalProperties": False,
        "required": required, "properties": properties,
    }


# What the values may be beyond their type in values.yaml, by path. An object that belongs to
# Kubernetes is left to the schemas of Kubernetes.
RULES = {
    "nameOverride": NAME,
    "fullnameOverride": NAME,
    "namespaceOverride": NAME,
    "commonLabels": LABELS,
    "commonAnnotations": TEXTS,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.tag": {"type": "string", "pattern": "^[A-Za-z0-9_.-]*$", "not": {"const": "latest"}},
    "image.pullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "imagePullSecrets": {"type": "array", "items": fields(["name"], name=TEXT)},
    "replicaCount": COUNT,
    "revisionHistoryLimit": COUNT,
    "updateStrategy": FREE,
    "minReadySeconds": COUNT,
    "redis.url": {
        "type": "string",
        "pattern": "^((rediss?|redis\\+sentinel|redis\\+cluster)://[^#]+)?$",
    },
    "redis.bundled.image.pullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "redis.bundled.maxmemory": {"type": "string", "pattern": "^[0-9]+(mb|gb)$"},
    "redis.bundled.resources": FREE,
    "redis.bundled.persistence.size": QUANTITY,
    "secrets.redisPassword": {"type": "string", "pattern": "^[^\\n\\r]*$"},
    "existingSecretKeys": {"type": "array", "items": {"enum": SECRET_KEYS}, "uniqueItems": True},
    "service.type": one_of("ClusterIP", "NodePort", "LoadBalancer"),
    "service.port": PORT,
    "service.annotations": TEXTS,
    "service.loadBalancerSourceRanges": {"type": "array", "items": TEXT},
    "ingress.annotations": TEXTS,
    "ingress.hosts": {
        "type": "array",
        "items": fields(
            ["host"], host=TEXT,
            paths={
                "type": "array",
                "items": fields(
                    ["path"], path={"type": "string", "pattern": "^/"},
                    pathType=one_of("Prefix", "Exact", "ImplementationSpecific"),
                ),
            },
        ),
    },
    "ingress.tls": {
        "type": "array",
        "items": fields([], secretName=TEXT, hosts={"type": "array", "items": TEXT}),
    },
    "httpRoute.annotations": TEXTS,
    "httpRoute.parentRefs": OBJECTS,
    "httpRoute.hostnames": {"type": "array", "items": TEXT},
    "httpRoute.requestTimeout": DURATION,
    "serviceAccount.annotations": TEXTS,
    "podAnnotations": TEXTS,
    "podLabels": LABELS,
    "podSecurityContext": FREE,
    "securityContext": FREE,
    "resources": FREE,
    "livenessProbe": FREE,
    "readinessProbe": FREE,
    "startupProbe": FREE,
    "lifecycle": FREE,
    "preStop.sleepSeconds": {"type": "integer", "minimum": 0, "maximum": 600},
    "terminationGracePeriodSeconds": {"type": ["integer", "null"], "minimum": 1},
    "autoscaling.minReplicas": {"type": "integer", "minimum": 1},
    "autoscaling.maxReplicas": {"type": "integer", "minimum": 1},
    "autoscaling.targetCPUUtilizationPercentage": PERCENT,
    "autoscaling.behavior": FREE,
    "keda.minReplicas": {"type": "integer", "minimum": 1},
    "keda.maxReplicas": {"type": "integer", "minimum": 1},
    "keda.pollingInterval": {"type": "integer", "minimum": 1},
    "keda.targetCPUUtilizationPercentage": PERCENT,
    "keda.prometheus.serverAddress": {"type": "string", "pattern": "^(https?://.+)?$"},
    "keda.prometheus.inFlightPerNode": COUNT,
    "keda.prometheus.readyTasksPerNode": COUNT,
    "keda.fallback": FREE,
    "keda.extraTriggers": OBJECTS,
    "podDisruptionBudget.minAvailable": AMOUNT,
    "podDisruptionBudget.maxUnavailable": AMOUNT,
    "topologySpreadConstraints": OBJECTS,
    "affinity": FREE,
    "nodeSelector": TEXTS,
    "tolerations": OBJECTS,
    "networkPolicy.from": OBJECTS,
    "networkPolicy.metricsFrom": OBJECTS,
    "networkPolicy.redisTo": OBJECTS,
    "networkPolicy.redisPorts": PORTS,
    "networkPolicy.otlpPorts": PORTS,
    "networkPolicy.webhookPorts": PORTS,
    "networkPolicy.extraIngress": OBJECTS,
    "networkPolicy.extraEgress": OBJECTS,
    "otel.hostPort": {"type": "integer", "minimum": 0, "maximum": 65535},
    "otel.protocol": one_of("", "grpc", "http/protobuf"),
    "otel.resourceAttributes": {
        "type": "object", "additionalProperties": {"type": "string", "pattern": "^[^,=]*$"},
    },
    "pprof.port": PORT,
    "serviceMonitor.additionalLabels": LABELS,
    "serviceMonitor.annotations": TEXTS,
    "serviceMonitor.interval": DURATION,
    "serviceMonitor.scrapeTimeout": DURATION,
    "serviceMonitor.relabelings": OBJECTS,
    "serviceMonitor.metricRelabelings": OBJECTS,
    "prometheusRule.additionalLabels": LABELS,
    "prometheusRule.annotations": TEXTS,
    "prometheusRule.additionalRuleLabels": TEXTS,
    "prometheusRule.defaultRules": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "dashboards.label": {"type": "string", "minLength": 1, "not": {"pattern": OWN_LABELS}},
    "dashboards.annotations": TEXTS,
    "artifacts.sizeLimit": QUANTITY,
    "extraEnv": {
        "type": "array",
        "items": fields(["name"], name=TEXT, value=TEXT, valueFrom=FREE),
    },
    "extraEnvFrom": OBJECTS,
    "extraVolumes": OBJECTS,
    "extraVolumeMounts": OBJECTS,
    "extraContainers": OBJECTS,
    "initContainers": OBJECTS,
    "extraObjects": OBJECTS,
    # Where the comment of a setting does not name what it may be.
    # A probe needs to know the port, and pods are reached from outside of themselves.
    "config.port": PORT,
    "config.bindAddr": {"type": "string", "pattern": "^[0-9a-fA-F.:]+$", "not": {"pattern": "^(127\\.|::1$)"}},
    "config.redis.keyPrefix": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "config.redis.durability": one_of("async", "replicated", "synced"),
    "config.redis.softMemoryRatio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "config.spread": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 1024}},
    "config.producerAuthProvider": one_of("jwks", "static", "multi"),
    "config.workerAuthProvider": one_of("jwks", "static", "multi"),
    "config.backoffPolicy": one_of("fixed", "linear", "exponential", "exp_full_jitter", "exp_equal_jitter"),
    "config.webhook.retryTailSeconds": {
        "type": "array", "maxItems": 20, "items": {"type": "integer", "minimum": 1, "maximum": 604800},
    },
    "config.webhook.secretScope": one_of("shared", "tenant"),
    "config.webhook.allowedPorts": PORTS,
    "config.logLevel": one_of("error", "warn", "info", "debug", "trace"),
    "config.logFormat": one_of("json", "text"),
    "config.artifactStore": {"type": "string", "pattern": "^(file:///|s3://.|gs://.|az://.)"},
    "config.webhook.disableAfterSeconds": {"type": "integer", "minimum": 0, "maximum": 31536000},
    **{
        f"config.rateLimit.{who}.burstSize": {"type": "integer", "minimum": 1, "maximum": 1000000}
        for who in ("producer", "worker", "webhook", "admin")
    },
    "config.metrics.tenants": {"type": "array", "maxItems": 50, "items": TEXT},
    "config.metrics.priorityCommands": {"type": "array", "maxItems": 10, "items": TEXT},
}
# Settings that `redis.url` stands for.
NOT_IN_CONFIG = {"redis.url", "redisAddr"}


def commented(text, mark):
    """The keys of a YAML file that have a comment above them, by path."""
    found, path, comment = {}, [], None
    for line in text.splitlines():
        said = line.strip()
        if said.startswith(mark):
            comment = said[len(mark):].strip()
        elif said.startswith("#"):
            comment = f"{comment} {said[1:].strip()}" if comment is not None else None
        else:
            key = re.match(r"( *)([A-Za-z][A-Za-z0-9]*):", line)
            if key:
                path = path[: len(key[1]) // 2] + [key[2]]
                if comment:
                    found[".".join(path)] = comment
            comment = None
    return found


def at(tree, path):
    for part in path.split("."):
        tree = tree[part]
    return tree


def secret_settings():
    block = re.search(r"const SECRETS: .*?= \[(.*?)\];", KEYS.read_text(), re.S)[1]
    return set(re.findall(r'"(.*?)"', block))


def of_setting(path, default, comment):
    rule = RULES.get(f"config.{path}")
    if rule is None:
        # "1 to 60"; one bound may be the name of another setting, which the node looks at.
        bounds = re.search(r"(\d+|`[A-Za-z.]+`) to (\d+|`[A-Za-z.]+`)", comment)
        if isinstance(default, bool):
            rule = {"type": "boolean"}
        elif isinstance(default, float):
            rule = {"type": "number", "minimum": 0, "maximum": 1}
        elif isinstance(default, int) or (default is None and bounds):
            rule = {"type": "integer"}
            for name, bound in zip(("minimum", "maximum"), bounds.groups() if bounds else ()):
                if bound.isdigit():
                    rule[name] = int(bound)
        elif isinstance(default, list):
            rule = {"type": "array", "items": TEXT}
        else:
            rule = TEXT
    return {"description": comment, **rule}


def config_schema():
    defaults = yaml.safe_load(DEFAULTS.read_text())
    secrets, root = secret_settings(), fields([])
    for path, comment in commented(DEFAULTS.read_text(), "#").items():
        default = at(defaults, path)
        if path in secrets | NOT_IN_CONFIG or (isinstance(default, dict) and path != "spread"):
            continue
        section = root
        *heads, last = path.split(".")
        for head in heads:
            section = section["properties"].setdefault(head, fields([]))
        section["properties"][last] = of_setting(path, default, comment)
    return {"description": "The settings of codeq; secrets are not among them.", **bare(root)}


def bare(schema):
    """Without empty lists of required fields."""
    if isinstance(schema, dict):
        return {key: bare(value) for key, value in schema.items() if key != "required" or value}
    return schema


def schema_of(value, path, comments):
    said = {"description": comments[path]} if path in comments else {}
    if path == "config":
        return config_schema()
    if path in RULES:
        return {**said, **RULES[path]}
    if isinstance(value, dict):
        inner = {k: schema_of(v, f"{path}.{k}" if path else k, comments) for k, v in value.items()}
        return {**said, "type": "object", "additionalProperties": False, "properties": inner}
    for kind, name in ((bool, "boolean"), (str, "string")):
        if isinstance(value, kind):
            return {**said, "type": name}
    raise SystemExit(f"scripts/chart.py: RULES must say what {path} may be")


def schema():
    text = (CHART / "values.yaml").read_text()
    whole = schema_of(yaml.safe_load(text), "", commented(text, "# --"))
    # Helm gives every chart this one.
    whole["properties"]["global"] = FREE
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart codeq"}
    return json.dumps(bare({**head, **whole}), indent=2, ensure_ascii=False) + "\n"


def table():
    text = (CHART / "values.yaml").read_text()
    values, comments = yaml.safe_load(text), commented(text, "# --")

    def leaves(tree, path):
        if isinstance(tree, dict) and tree and path not in comments:
            for key, inner in tree.items():
                yield from leaves(inner, f"{path}.{key}" if path else key)
        else:
            yield path

    rows = ["| value | default | what |", "|---|---|---|"]
    for path in leaves(values, ""):
        if path not in comments:
            raise SystemExit(f"values.yaml: {path} has no comment that begins with `# --`")
        default = json.dumps(at(values, path), ensure_ascii=False)
        default = f"`{default}`" if len(default) <= 50 else "values.yaml"
        rows.append(f"| `{path}` | {default} | {comments[path].replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def readme():
    text = (CHART / "README.md").read_text()
    begin, end = "<!-- values: scripts/chart.py -->\n", "\n<!-- end of values -->"
    head, rest = text.split(begin)
    return head + begin + table() + end + rest.split(end)[1]


def main():
    files = {CHART / "values.schema.json": schema, CHART / "README.md": readme}
    stale = []
    for file, make in files.items():
        now = make()
        if not file.exists() or file.read_text() != now:
            stale.append(str(file.relative_to(ROOT)))
            if "--check" not in sys.argv[1:]:
                file.write_text(now)
    if "--check" in sys.argv[1:] and stale:
        raise SystemExit(f"{' and '.join(stale)}: stale, run .tools/venv/bin/python scripts/chart.py")


if __name__ == "__main__":
    main()
