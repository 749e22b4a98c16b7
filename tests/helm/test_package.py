"""What is shipped: the package with rules and dashboards from their one source, and the image."""

import base64
import gzip
import json
import os
import re
import shutil
import tarfile
import tempfile
import unittest
from pathlib import Path

import yaml

from chart import (
    BINARY, CHART, ROOT, VALUES, container, helm, minimal, objects, of_file, of_kind, only, rendered, run,
)

ALERTS = sorted((ROOT / "alerts").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
# The limit of etcd for one object; a release is stored as one.
MOST_BYTES = 1 << 20


class Package(unittest.TestCase):
    def package(self, *arguments):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        helm("package", CHART, "--destination", folder.name, *arguments)
        [file] = Path(folder.name).glob("*.tgz")
        return file

    def test_rules_and_dashboards_are_links_here_and_files_in_the_package(self):
        listed = run("git", "ls-files", "-s", "helm/codeq/files", cwd=ROOT).stdout.splitlines()
        self.assertEqual([line.split()[0] for line in listed], ["120000", "120000"])
        with tarfile.open(self.package()) as package:
            held = {m.name.removeprefix("codeq/"): m for m in package.getmembers()}
            for source in ALERTS + DASHBOARDS:
                member = held[f"files/{source.parent.name}/{source.name}"]
                self.assertTrue(member.isfile())
                self.assertEqual(package.extractfile(member).read(), source.read_bytes())
            self.assertFalse([name for name in held if name.startswith(("ci/", "files/alerts/tests"))])
            for name in ("README.md", "CHANGELOG.md", "values.schema.json"):
                self.assertIn(name, held)

    def test_the_package_renders_what_the_folder_does(self):
        package = self.package()
        for file in VALUES:
            with self.subTest(file.name):
                self.assertEqual(objects(rendered(file, chart=package)), of_file(file))

    def test_an_upgrade_replaces_no_pod_that_it_need_not(self):
        def templates(package, file="bundled-redis", **values):
            held = objects(rendered(CHART / "ci" / f"{file}-values.yaml", chart=package, values=values))
            return {each["kind"]: each["spec"]["template"] for each in held if "template" in each.get("spec", {})}

        now = templates(self.package())
        self.assertEqual(templates(self.package("--version", "7.0.0")), now)
        newer = templates(self.package("--version", "7.0.0", "--app-version", "7.0.0"))
        self.assertEqual(newer["StatefulSet"], now["StatefulSet"])
        self.assertTrue(newer["Deployment"]["spec"]["containers"][0]["image"].endswith(":7.0.0"))
        other = templates(CHART, secrets={"webhookHmacSecret": "another-secret-of-at-least-32-bytes"})
        self.assertEqual(other["StatefulSet"], now["StatefulSet"])
        self.assertNotEqual(other["Deployment"], now["Deployment"])
        other = templates(CHART, secrets={"redisPassword": "another"})
        self.assertNotEqual(other["StatefulSet"], now["StatefulSet"])

    def test_a_release_fits_into_the_object_that_helm_stores(self):
        package = self.package()
        with tarfile.open(package) as held:
            texts = [held.extractfile(m).read() for m in held.getmembers() if m.isfile()]
        production = rendered(CHART / "ci" / "production-values.yaml", values={"secrets": {}})
        # Helm stores templates and files as base64 within JSON, the manifest beside them, zipped.
        body = json.dumps([base64.b64encode(text).decode() for text in texts] + [production]).encode()
        self.assertLess(len(base64.b64encode(gzip.compress(body))), MOST_BYTES)

    def test_the_rules_are_those_of_the_repository(self):
        self.assertTrue(ALERTS)
        held = of_kind(of_file(CHART / "ci" / "production-values.yaml"), "PrometheusRule")
        sources = [yaml.safe_load(file.read_text()) for file in ALERTS]
        self.assertCountEqual([each["spec"] for each in held], sources)
        for each in held:
            self.assertEqual(each["metadata"]["labels"]["release"], "prometheus")
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump(each["spec"], file)
                file.flush()
                said = run("promtool", "check", "rules", file.name)
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_a_group_is_left_out_and_alerts_get_further_labels(self):
        groups = [g["name"] for file in ALERTS for g in yaml.safe_load(file.read_text())["groups"]]
        gone = groups[0]
        held = of_kind(minimal({"prometheusRule": {
            "enabled": True, "defaultRules": {gone: False, groups[-1]: True},
            "additionalRuleLabels": {"team": "tasks"}}}), "PrometheusRule")
        left = [group for each in held for group in each["spec"]["groups"]]
        self.assertEqual(sorted(group["name"] for group in left), sorted(groups[1:]))
        for group in left:
            for rule in group["rules"]:
                self.assertEqual("alert" in rule, "team" in rule.get("labels", {}))
                if "alert" in rule:
                    self.assertIn("severity", rule["labels"])

    def test_each_dashboard_is_a_config_map_that_grafanas_sidecar_finds(self):
        self.assertTrue(DASHBOARDS)
        held = {}
        for each in of_kind(of_file(CHART / "ci" / "production-values.yaml"), "ConfigMap"):
            if "grafana_dashboard" in each["metadata"]["labels"]:
                self.assertEqual(each["metadata"]["labels"]["grafana_dashboard"], "1")
                held |= each["data"]
        self.assertEqual(set(held), {file.name for file in DASHBOARDS})
        for file in DASHBOARDS:
            self.assertEqual(json.loads(held[file.name]), json.loads(file.read_text()))
            self.assertLess(len(held[file.name]), MOST_BYTES)

    def test_the_chart_says_what_it_is(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        for field in ("kubeVersion", "icon", "maintainers", "description", "annotations"):
            self.assertTrue(chart[field], field)
        # Every file of values that its README names is there: the chart that went before promised
        # profiles that it did not have.
        named = set(re.findall(r"ci/[a-z-]+\.yaml", (CHART / "README.md").read_text()))
        for name in named:
            self.assertTrue((CHART / name).exists(), name)
        self.assertIn("ci/production-values.yaml", named)


class Image(unittest.TestCase):
    """The Dockerfile, without a container engine."""

    def setUp(self):
        text = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text()))
        self.lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]

    def all(self, word):
        return [rest for name, rest in self.lines if name == word]

    def context(self):
        """What the build stage has: what is copied, of what .dockerignore lets through."""
        allowed = {
            line[1:].strip() for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = [rest.split()[:-1] for rest in self.all("COPY") if not rest.startswith("--from")]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name in [name for names in copied for name in names]:
            self.assertIn(name, allowed)
            source, target = ROOT / name, Path(folder.name) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return Path(folder.name)

    def test_the_linter_finds_nothing(self):
        said = run("hadolint", ROOT / "Dockerfile")
        self.assertEqual(said.returncode, 0, said.stdout)

    def test_cargo_takes_the_command_in_what_is_copied(self):
        """All but the compiling: the plan of the build, with its profile."""
        [command] = [part.strip() for part in re.split(r"&&", self.all("RUN")[0]) if " cargo " in f" {part}"]
        command = command[command.index("cargo build"):].split()
        self.assertIn("--locked", command)
        said = run(*command, "--offline", "-Z", "unstable-options", "--unit-graph", cwd=self.context(),
                   env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
        self.assertEqual(said.returncode, 0, said.stderr)
        plan = json.loads(said.stdout)
        [root] = [plan["units"][index] for index in plan["roots"]]
        self.assertEqual((root["target"]["name"], root["target"]["kind"]), ("codeq", ["bin"]))
        self.assertEqual(root["profile"]["name"], "release")
        # Profiles and panics name functions and lines.
        self.assertEqual(root["profile"]["debuginfo"], 1)  # limited: names of inlined functions too
        self.assertNotIn(str(root["profile"]["strip"]), ("symbols", "debuginfo"))

    def test_what_is_copied_is_all_that_the_program_is_built_from(self):
        root = BINARY.resolve().parents[2]
        read = Path(f"{BINARY}.d").read_text().split(": ", 1)[1].replace("\\ ", "\0").split()
        inside = [Path(name.replace("\0", " ")).relative_to(root) for name in read if name.startswith(str(root))]
        self.assertGreater(len(inside), 100)
        context = self.context()
        missing = [str(name) for name in inside if (ROOT / name).exists() and not (context / name).exists()]
        self.assertEqual(missing, [])
        self.assertIn("force-frame-pointers=yes", (context / ".cargo" / "config.toml").read_text())

    def test_bases_are_pinned_and_the_compiler_is_ours(self):
        build, base = self.all("FROM")
        channel = re.search(r'channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text())[1]
        self.assertEqual(build.split(":")[1].split("-")[0], channel)
        # The program is linked against the glibc of the first stage, and runs with that of the last.
        self.assertIn("bookworm", build)
        self.assertIn("debian12", base)

    def test_the_image_runs_as_the_chart_says(self):
        node = container(minimal())
        self.assertEqual(json.loads(self.all("ENTRYPOINT")[0]), node["command"])
        self.assertEqual(json.loads(self.all("CMD")[0]), node["args"])
        pod = only(minimal(), "Deployment")["spec"]["template"]["spec"]["securityContext"]
        self.assertEqual(self.all("USER"), [f"{pod['runAsUser']}:{pod['runAsGroup']}"])
        self.assertIn("/usr/local/bin/codeq", self.all("COPY")[-1])
        check = json.loads(re.search(r"\[.*\]", self.all("HEALTHCHECK")[0])[0])
        said = run(BINARY, *check[1:], "--help")
        self.assertEqual(said.returncode, 0)
        self.assertEqual(check[1], "healthcheck")
        labels = " ".join(self.all("LABEL"))
        for name in ("title", "description", "licenses", "version", "revision"):
            self.assertIn(f"org.opencontainers.image.{name}=", labels)
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        self.assertIn(f"VERSION={version}", self.all("ARG"))


if __name__ == "__main__":
    unittest.main()
