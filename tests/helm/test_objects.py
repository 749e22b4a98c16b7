"""What is rendered is what Kubernetes and its operators take, for every file in ci/."""

import json
import os
import unittest

import kubernetes_validate
import yaml

from chart import (
    CHART, NEWEST, OLDEST, ROOT, TOOLS, VALUES, Refused, helm, key, minimal, objects, of_file, of_kind,
    only, pod_specs, rendered, run,
)

OWN = ("v1", "apps/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1")
SEALED = yaml.safe_load((ROOT / "tests" / "helm" / "sealed.yaml").read_text())


class Objects(unittest.TestCase):
    def test_lint_finds_nothing(self):
        for file in [None, *VALUES]:
            with self.subTest(file):
                said = run("helm", "lint", "--strict", CHART, *(["--values", file] if file else []))
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
                self.assertNotRegex(said.stdout, r"\[(WARNING|ERROR)\]")

    def test_yaml_is_tidy(self):
        said = run("yamllint", "--strict", CHART / "values.yaml", CHART / "Chart.yaml", CHART / "ci", cwd=ROOT)
        self.assertEqual(said.returncode, 0, said.stdout)

    def test_the_oldest_and_the_newest_kubernetes_take_every_object(self):
        for kube in (OLDEST, NEWEST):
            for file in VALUES:
                for each in of_file(file, kube=kube):
                    if each["apiVersion"] in OWN:
                        with self.subTest(kube=kube, file=file.name, object=key(each)):
                            kubernetes_validate.validate(each, kube, strict=True)

    def test_an_older_kubernetes_is_refused(self):
        declared = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
        self.assertEqual(declared, f">={OLDEST}.0-0")
        with self.assertRaisesRegex(Refused, "kubeVersion"):
            minimal(kube="1.27")

    def test_operators_take_their_objects(self):
        theirs, kinds = [], set()
        for file in VALUES:
            found = [each for each in of_file(file) if each["apiVersion"] not in OWN]
            theirs += found
            kinds |= {each["kind"] for each in found}
        self.assertEqual(kinds, {"ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute"})
        worker = yaml.safe_load((ROOT / "docs" / "examples" / "keda-worker.yaml").read_text())
        self.assertEqual(judged([*theirs, worker]), [])

    def test_the_judge_of_operators_objects_sees_a_wrong_type_and_an_unknown_key(self):
        wrong, unknown = [only(minimal({"serviceMonitor": {"enabled": True}}), "ServiceMonitor") for _ in range(2)]
        wrong["spec"]["endpoints"][0]["interval"] = "often"
        unknown["spec"]["endpoints"][0]["intervals"] = "30s"
        self.assertIn("interval", judged([wrong])[0]["wrong"][0])
        self.assertIn("intervals is not a key", judged([unknown])[0]["wrong"][0])

    def test_helm_3_and_helm_4_render_the_same(self):
        for file in VALUES:
            with self.subTest(file.name):
                four, three = (
                    {key(each): each for each in objects(rendered(file, program=program))}
                    for program in ("helm", "helm3"))
                self.assertEqual(four, three)

    def test_no_object_is_there_twice_and_none_lies_in_a_namespace_by_chance(self):
        for file in VALUES:
            keys = [key(each) for each in of_file(file)]
            self.assertEqual(len(keys), len(set(keys)), file.name)
            for kind, namespace, name in keys:
                if not name.endswith("-extra"):
                    self.assertTrue(namespace, f"{file.name}: {kind} {name}")

    def test_two_releases_in_one_namespace_share_no_object_and_no_selector(self):
        for file in VALUES:
            if "everything" in file.name:  # it fixes its names
                continue
            for other in ("two", "codeq"):
                with self.subTest(file.name, release=other):
                    ours, theirs = of_file(file), of_file(file, release=other)
                    self.assertFalse(set(map(key, ours)) & set(map(key, theirs)))
                    for each in ours:
                        wanted = each["spec"].get("selector") if each["kind"] == "Service" else None
                        for one in theirs:
                            if wanted and one["kind"] == "Deployment":
                                labels = one["spec"]["template"]["metadata"]["labels"]
                                self.assertFalse(wanted.items() <= labels.items())

    def test_long_names_stay_names(self):
        long = "a-release-with-a-name-of-fifty-three-letters-in-total"
        for each in minimal({"dashboards": {"enabled": True}, "tests": {"existingSecret": "x"}}, release=long):
            self.assertLessEqual(len(each["metadata"]["name"]), 63)
        for each in of_file(VALUES[0], release=long):
            # A StatefulSet puts a hash of ten letters behind the name, in a label.
            self.assertLessEqual(len(each["metadata"]["name"]), 52)

    def test_every_object_has_the_recommended_labels_and_the_common_ones(self):
        recommended = {
            "helm.sh/chart", *("app.kubernetes.io/" + name for name in (
                "name", "instance", "version", "managed-by", "component", "part-of"))}
        for file in VALUES:
            for each in of_file(file):
                if each["metadata"]["name"].endswith("-extra"):
                    continue
                labels = each["metadata"]["labels"]
                self.assertLessEqual(recommended, set(labels), key(each))
                if "everything" in file.name:
                    self.assertEqual(labels["team"], "tasks")
                    self.assertEqual(each["metadata"]["annotations"]["example.org/owner"], "tasks")

    def test_each_selector_meets_its_own_pods_and_no_others(self):
        for file in VALUES:
            pods = {}
            for each in of_file(file):
                if each["kind"] in ("Deployment", "StatefulSet"):
                    pods[key(each)] = each["spec"]["template"]["metadata"]["labels"]
                elif each["kind"] == "Pod":
                    pods[key(each)] = each["metadata"]["labels"]
            for each in of_file(file):
                spec = each.get("spec", {})
                wanted = spec.get("podSelector") or spec.get("selector") or {}
                wanted = wanted.get("matchLabels", wanted)
                if each["kind"] in ("Service", "Deployment", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"):
                    met = [name for name, labels in pods.items() if wanted.items() <= labels.items()]
                    self.assertEqual(len(met), 1, f"{file.name}: {key(each)} meets {met}")

    def test_names_and_selectors_are_what_an_upgrade_needs_them_to_be(self):
        """What Kubernetes cannot change in place. When it must change, sealed.yaml says so, and the
        CHANGELOG of the chart how to get there."""
        now = {}
        for each in of_file(CHART / "ci" / "bundled-redis-values.yaml"):
            kind, _, name = key(each)
            if kind in ("Deployment", "StatefulSet", "Service"):
                spec = each["spec"]
                held = {"selector": spec["selector"]}
                for part in ("serviceName", "volumeClaimTemplates"):
                    if part in spec:
                        held[part] = spec[part]
                now[f"{kind} {name}"] = held
        self.assertEqual(now, SEALED)


def judged(theirs):
    said = run("node", ROOT / "tests" / "helm" / "crds.cjs", input=json.dumps(theirs),
               env={**os.environ, "NODE_PATH": str(TOOLS / "npm" / "node_modules")})
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


if __name__ == "__main__":
    unittest.main()
