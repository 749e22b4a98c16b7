"""What the chart promises about pods: restricted, watched, spread, stopped in order."""

import re
import unittest

import yaml

from chart import (
    BROKER, CHART, NEWEST, OLDEST, ROOT, VALUES, Refused, config_of, container, containers, known_variables, minimal,
    notes, of_file, of_kind, only, pod_specs,
)

# Read by the runtime, by the shell of variables, or ours for what Kubernetes tells a pod.
OTHER_VARIABLES = {"HOSTNAME", "POD_NAMESPACE", "NODE_NAME", "HOST_IP", "TOKIO_WORKER_THREADS"}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


class Policy(unittest.TestCase):
    def of_every_pod(self, check):
        for file in VALUES:
            for name, spec in pod_specs(of_file(file)):
                with self.subTest(file=file.name, pod=name):
                    check(spec)

    def of_every_container(self, check):
        self.of_every_pod(lambda spec: [check(each) for each in containers(spec)])

    def test_pods_are_restricted(self):
        """The `restricted` pod security standard, and a read-only root beside it."""
        def pod(spec):
            held = spec["securityContext"]
            self.assertIs(held["runAsNonRoot"], True)
            self.assertGreater(held["runAsUser"], 0)
            self.assertEqual(held["seccompProfile"]["type"], "RuntimeDefault")
            self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & set(spec))
            for volume in spec.get("volumes", []):
                self.assertNotIn("hostPath", volume)

        def within(each):
            held = each["securityContext"]
            self.assertIs(held["allowPrivilegeEscalation"], False)
            self.assertIs(held["readOnlyRootFilesystem"], True)
            self.assertEqual(held["capabilities"], {"drop": ["ALL"]})
            self.assertNotIn("privileged", held)
            self.assertFalse([port for port in each.get("ports", []) if "hostPort" in port])

        self.of_every_pod(pod)
        self.of_every_container(within)

    def test_no_pod_gets_a_token_or_the_variables_of_services(self):
        def check(spec):
            self.assertIs(spec["automountServiceAccountToken"], False)
            self.assertIs(spec["enableServiceLinks"], False)

        self.of_every_pod(check)
        for file in VALUES:
            for account in of_kind(of_file(file), "ServiceAccount"):
                self.assertIs(account["automountServiceAccountToken"], False)

    def test_every_container_asks_for_what_it_needs_and_has_a_limit_of_memory(self):
        def check(each):
            self.assertLessEqual({"cpu", "memory"}, set(each["resources"]["requests"]))
            self.assertIn("memory", each["resources"]["limits"])

        self.of_every_container(check)

    def test_no_image_floats(self):
        def check(each):
            self.assertRegex(each["image"], r"^[^@]+(:[^:/@]+|@sha256:[0-9a-f]{64})$")
            self.assertFalse(each["image"].endswith(":latest"))

        self.of_every_container(check)

    def test_the_tag_is_the_version_of_the_program(self):
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        self.assertIn(f'\nversion = "{version}"\n', (ROOT / "Cargo.toml").read_text())
        self.assertEqual(container(minimal())["image"], f"registry.example.org/codeq:{version}")
        everything = container(of_file(CHART / "ci" / "everything-values.yaml"))["image"]
        self.assertRegex(everything, r"^registry\.example\.org/tools/codeq@sha256:")

    def test_h6_probes_have_their_defaults_and_liveness_is_not_readiness(self):
        node = container(minimal())
        shape = {
            name: (
                node[name]["httpGet"], node[name].get("initialDelaySeconds"),
                node[name]["periodSeconds"], node[name]["failureThreshold"],
            ) for name in PROBES
        }
        self.assertEqual(shape, {
            "startupProbe": ({"path": "/healthz", "port": "http"}, None, 10, 30),
            "livenessProbe": ({"path": "/healthz", "port": "http"}, 10, 10, 3),
            "readinessProbe": ({"path": "/ready", "port": "http"}, 5, 5, 3),
        })
        [port] = node["ports"]
        self.assertEqual((port["name"], port["containerPort"]), ("http", 8080))

    def test_a_probe_is_replaced_whole(self):
        node = container(minimal({"readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "initialDelaySeconds": None}, "startupProbe": None}))
        self.assertEqual(node["readinessProbe"]["httpGet"]["path"], "/readyz")
        self.assertNotIn("startupProbe", node)

    def test_the_grace_period_covers_sleep_stop_and_spans(self):
        def spec(values=None, kube=NEWEST):
            deployment = only(minimal(values, kube=kube), "Deployment")
            return deployment["spec"]["template"]["spec"]

        for values, drain, sleep in (
            ({}, 25, 5),
            ({"config": {"shutdown": {"drainSeconds": 90}}, "preStop": {"sleepSeconds": 12}}, 90, 12),
            ({"preStop": {"sleepSeconds": 0}}, 25, 0),
        ):
            pod = spec(values)
            self.assertEqual(pod["terminationGracePeriodSeconds"], drain + sleep + 5 + 5)
            hook = pod["containers"][0].get("lifecycle", {})
            self.assertEqual(hook, {"preStop": {"sleep": {"seconds": sleep}}} if sleep else {})
        older = spec(kube=OLDEST)  # which knows no sleep
        self.assertEqual(older["terminationGracePeriodSeconds"], 35)
        self.assertNotIn("lifecycle", older["containers"][0])
        with self.assertRaisesRegex(Refused, "terminationGracePeriodSeconds is less than"):
            spec({"terminationGracePeriodSeconds": 29})
        self.assertEqual(spec({"terminationGracePeriodSeconds": 31})["terminationGracePeriodSeconds"], 31)

    def test_threads_follow_the_cpu_limit(self):
        def threads(values=None):
            return [e for e in container(minimal(values))["env"] if e["name"] == "TOKIO_WORKER_THREADS"]

        self.assertEqual(threads()[0]["valueFrom"]["resourceFieldRef"], {
            "containerName": "codeq", "resource": "limits.cpu", "divisor": "1"})
        self.assertEqual(threads({"resources": {"limits": {"cpu": None}}}), [])

    def test_every_variable_is_one_that_codeq_reads(self):
        known = known_variables()
        for file in VALUES:
            for each in container(of_file(file))["env"]:
                name = each["name"].removesuffix("_FILE")
                self.assertIn(name, known | OTHER_VARIABLES, file.name)

    def test_l14_a_node_is_called_like_its_pod_everywhere(self):
        env = {e["name"]: e for e in container(minimal())["env"]}
        self.assertEqual(env["HOSTNAME"]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name")
        self.assertEqual(
            env["OTEL_RESOURCE_ATTRIBUTES"]["value"],
            "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(HOSTNAME),k8s.node.name=$(NODE_NAME)")
        # Kubernetes expands only what stands above.
        names = list(env)
        for each in ("HOSTNAME", "POD_NAMESPACE", "NODE_NAME"):
            self.assertLess(names.index(each), names.index("OTEL_RESOURCE_ATTRIBUTES"))
        monitor = only(minimal({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]
        self.assertEqual(monitor["endpoints"][0]["relabelings"][0], {
            "sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance", "action": "replace"})

    def test_the_job_of_the_metrics_is_codeq(self):
        rendered = minimal({"serviceMonitor": {"enabled": True}})
        monitor, service = only(rendered, "ServiceMonitor")["spec"], only(rendered, "Service")
        labels = service["metadata"]["labels"]
        self.assertEqual(labels[monitor["jobLabel"]], "codeq")
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), labels.items())
        self.assertEqual(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"])
        self.assertEqual(monitor["namespaceSelector"]["matchNames"], [service["metadata"]["namespace"]])

    def test_e9_profiles_are_off_and_never_leave_the_pod(self):
        self.assertNotIn("CODEQ_PPROF", {e["name"] for e in container(minimal())["env"]})
        on = minimal({"pprof": {"enabled": True}})
        env = {e["name"]: e.get("value") for e in container(on)["env"]}
        self.assertEqual((env["CODEQ_PPROF"], env["CODEQ_PPROF_ADDR"]), ("1", "127.0.0.1:6060"))
        self.assertEqual(len(container(on)["ports"]), 1)
        self.assertEqual(len(only(on, "Service")["spec"]["ports"]), 1)
        self.assertIn("port-forward POD 6060", (CHART / "README.md").read_text())

    def test_an_autoscaler_decides_about_replicas_alone(self):
        self.assertEqual(only(minimal(), "Deployment")["spec"]["replicas"], 3)
        for scaler, kind in (("autoscaling", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):
            rendered = minimal({scaler: {"enabled": True}})
            self.assertNotIn("replicas", only(rendered, "Deployment")["spec"])
            target = only(rendered, kind)["spec"]["scaleTargetRef"]["name"]
            self.assertEqual(target, only(rendered, "Deployment")["metadata"]["name"])
        with self.assertRaisesRegex(Refused, "autoscaling.enabled and keda.enabled"):
            minimal({"autoscaling": {"enabled": True}, "keda": {"enabled": True}})

    def test_nodes_are_scaled_by_cpu_and_calls_and_by_ready_tasks_only_when_asked(self):
        def triggers(**prometheus):
            spec = only(minimal({"keda": {"enabled": True, "prometheus": prometheus}}), "ScaledObject")["spec"]
            return spec, [each["metadata"].get("query", each["type"]) for each in spec["triggers"]]

        calls = 'sum(codeq_http_requests_in_flight{job="codeq",namespace="tasks"})'
        ready = 'sum(max by (command) (codeq_queue_depth{queue="ready",job="codeq",namespace="tasks"}))'
        alone, found = triggers()
        self.assertEqual(found, ["cpu"])
        self.assertNotIn("fallback", alone)  # KEDA has none for CPU
        spec, found = triggers(serverAddress="http://prometheus:9090")
        self.assertEqual(found, ["cpu", calls])
        self.assertEqual(spec["fallback"], {"failureThreshold": 3, "replicas": 3})
        self.assertEqual(spec["triggers"][1]["metadata"]["ignoreNullValues"], "false")
        self.assertEqual(triggers(serverAddress="http://prometheus:9090", readyTasksPerNode=9)[1], ["cpu", calls, ready])
        # A query for a metric that nobody has would never scale.
        metrics = "\n".join(path.read_text() for path in (ROOT / "src" / "telemetry").rglob("*.rs"))
        for name in ("codeq_http_requests_in_flight", "codeq_queue_depth"):
            self.assertIn(name, metrics)

    def test_one_node_needs_no_disruption_budget_and_more_get_one(self):
        budgets = lambda values: of_kind(minimal(values), "PodDisruptionBudget")
        self.assertEqual(budgets({"replicaCount": 1}), [])
        self.assertEqual(budgets({"podDisruptionBudget": {"enabled": False}}), [])
        self.assertEqual(budgets({"autoscaling": {"enabled": True, "minReplicas": 1}}), [])
        [budget] = budgets({})
        self.assertEqual(budget["spec"]["maxUnavailable"], 1)
        [budget] = budgets({"podDisruptionBudget": {"minAvailable": "50%"}})
        self.assertEqual(budget["spec"]["minAvailable"], "50%")
        self.assertNotIn("maxUnavailable", budget["spec"])

    def test_nodes_are_spread_and_replaced_one_by_one(self):
        spec = only(minimal(), "Deployment")["spec"]
        self.assertEqual(spec["strategy"], {
            "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
        spread = spec["template"]["spec"]["topologySpreadConstraints"]
        self.assertEqual([each["topologyKey"] for each in spread], ["topology.kubernetes.io/zone", "kubernetes.io/hostname"])
        self.assertEqual({each["whenUnsatisfiable"] for each in spread}, {"ScheduleAnyway"})

    def test_what_changes_settings_or_secrets_changes_the_pods_and_nothing_else_does(self):
        def sums(values):
            return only(minimal(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

        base = sums({})
        self.assertNotEqual(base["checksum/config"], sums({"config": {"logLevel": "debug"}})["checksum/config"])
        self.assertNotEqual(base["checksum/config"], sums({"redis": {"url": "redis://other"}})["checksum/config"])
        self.assertNotEqual(base["checksum/secret"], sums({"secrets": {"redisPassword": "x"}})["checksum/secret"])
        self.assertEqual(base, sums({"replicaCount": 7, "commonLabels": {"a": "b"}}))

    def test_no_secret_is_in_a_config_map_a_variable_or_the_notes(self):
        marks = ("secret-", "secret\"of", "c2VjcmV0LW9mLWEtdHJpYWw")
        for file in VALUES:
            for each in of_file(file):
                if each["kind"] != "Secret":
                    text = yaml.safe_dump(each)
                    for mark in marks:
                        self.assertNotIn(mark, text.replace("existing-secret", ""), f"{file.name}: {each['kind']}")
            for mark in marks:
                self.assertNotIn(mark, notes(file), file.name)

    def test_a_redis_url_with_a_password_goes_to_the_secret(self):
        for url in ("redis://:pw@r:6379", "redis://u:pw@r", "rediss://u@r/2", "redis+sentinel://:p@a:1,b:2/m"):
            rendered = minimal({"redis": {"url": url}})
            self.assertNotIn("redis", yaml.safe_load(config_of(rendered)) or {})
            self.assertIn("redisUrl", only(rendered, "Secret")["data"])
            self.assertIn("REDIS_URL", {e["name"] for e in container(rendered)["env"]})
        plain = minimal()
        self.assertEqual(yaml.safe_load(config_of(plain)), {"redis": {"url": "redis://redis.example.org:6379"}})
        self.assertEqual(of_kind(plain, "Secret"), [])

    def test_of_an_existing_secret_what_is_not_there_counts_as_unset_unless_it_is_named(self):
        def refs(**values):
            rendered = minimal(values)
            self.assertEqual(of_kind(rendered, "Secret"), [])
            env = container(rendered)["env"]
            found = [e["valueFrom"]["secretKeyRef"] for e in env if "secretKeyRef" in e.get("valueFrom", {})]
            self.assertEqual({ref["name"] for ref in found}, {"mine"})
            return {ref["key"]: ref.get("optional", False) for ref in found}

        secrets = yaml.safe_load((CHART / "values.yaml").read_text())["secrets"]
        self.assertEqual(refs(existingSecret="mine"), dict.fromkeys(secrets, True))
        self.assertEqual(
            refs(existingSecret="mine", existingSecretKeys=["redisUrl", "webhookHmacSecret"]),
            {"redisUrl": False, "webhookHmacSecret": False})

    def test_the_bundled_redis_keeps_what_it_was_given_and_lets_nobody_else_in(self):
        rendered = of_file(CHART / "ci" / "bundled-redis-values.yaml")
        redis = only(rendered, "StatefulSet")
        arguments = " ".join(redis["spec"]["template"]["spec"]["containers"][0]["args"])
        for wanted in ("--appendonly yes", "--maxmemory-policy noeviction"):
            self.assertIn(wanted, arguments)
        self.assertTrue(redis["spec"]["volumeClaimTemplates"])
        self.assertGreater(redis["spec"]["template"]["spec"]["securityContext"]["fsGroup"], 0)
        policy = only(rendered, "NetworkPolicy", "redis")["spec"]
        [rule] = policy["ingress"]
        nodes = only(rendered, "Deployment")["spec"]["selector"]
        self.assertEqual(rule["from"], [{"podSelector": nodes}])
        self.assertEqual(of_kind(minimal(), "StatefulSet"), [])

    def test_notes_warn_about_what_is_unsafe(self):
        trial = notes(CHART / "ci" / "bundled-redis-values.yaml")
        for warning in ("bundled Redis", "one node", "not production"):
            self.assertIn(warning, trial)
        bare = notes(CHART / "ci" / "minimal-values.yaml", {"ingress": {"enabled": True, "hosts": [{"host": "a.b"}]}})
        for warning in ("no Secret", "no TLS", "producer tokens", "worker tokens", "not production"):
            self.assertIn(warning, bare)
        production = notes(CHART / "ci" / "production-values.yaml")
        self.assertNotIn("Warnings", production)
        for command in ("rollout status", "helm -n tasks test one", "port-forward"):
            self.assertIn(command, production)

    def test_no_default_names_a_place_on_the_internet_or_a_time_zone(self):
        """But for the image of the bundled Redis, which is off."""
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        self.assertFalse(values["redis"]["bundled"]["enabled"])
        del values["redis"]["bundled"]["image"]
        text = yaml.safe_dump(values)
        self.assertNotRegex(text, r"://|\b\w+\.(com|io|org|net|dev|cloud)\b")
        self.assertNotRegex(text.lower(), r"time_?zone|\btz\b")
        for each in minimal():
            rest = yaml.safe_dump(each).replace("app.kubernetes.io", "").replace("topology.kubernetes.io", "")
            hosts = set(re.findall(r"[\w.-]+\.(?:com|io|org|net|dev|cloud)\b", rest))
            self.assertLessEqual(hosts, {"registry.example.org", "redis.example.org", "kubernetes.io"})

    def test_ingress_and_route_lead_to_the_service_and_show_only_the_api(self):
        rendered = of_file(CHART / "ci" / "everything-values.yaml")
        service = only(rendered, "Service")
        name, [port] = service["metadata"]["name"], service["spec"]["ports"]
        for rule in only(rendered, "Ingress")["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                self.assertEqual(path["path"], "/v1/codeq")
                self.assertEqual(path["backend"]["service"], {"name": name, "port": {"name": port["name"]}})
        [rule] = only(rendered, "HTTPRoute")["spec"]["rules"]
        self.assertEqual(rule["backendRefs"], [{"name": name, "port": port["port"]}])
        self.assertEqual(rule["matches"], [{"path": {"type": "PathPrefix", "value": "/v1/codeq"}}])
        # A claim waits for 60 s.
        self.assertGreater(int(rule["timeouts"]["request"].removesuffix("s")), 60)

    def test_production_keeps_five_percent_of_traces(self):
        config = yaml.safe_load(config_of(of_file(CHART / "ci" / "production-values.yaml")))
        self.assertEqual((config["env"], config["tracingSampleRatio"]), ("production", 0.05))

    def test_the_network_policy_lets_out_what_a_node_needs(self):
        def ports(values):
            policy = only(minimal({"networkPolicy": {"enabled": True}, **values}), "NetworkPolicy", BROKER)
            return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

        self.assertEqual(ports({}), {53, 6379, 4317, 4318, 80, 443})
        self.assertIn(14317, ports({"otel": {"hostPort": 14317}}))
        everything = only(of_file(CHART / "ci" / "everything-values.yaml"), "NetworkPolicy")["spec"]
        allowed = everything["ingress"][0]["from"]
        self.assertEqual(len(allowed), 3)  # producers, Prometheus, and the pod of `helm test`
        self.assertEqual(allowed[2]["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "test")


if __name__ == "__main__":
    unittest.main()
