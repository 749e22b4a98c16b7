"""The chart as Helm renders it, and the tools around it."""

import functools
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "codeq"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
TOOLS = Path(os.environ.get("CODEQ_TOOLS", ROOT / ".tools"))
BINARY = Path(os.environ.get("CODEQ_BIN", ROOT / "target" / "debug" / "codeq"))
# The range of `kubeVersion` in Chart.yaml, and of the schemas at hand.
OLDEST, NEWEST = "1.28", "1.37"

BROKER = "broker"


class Refused(Exception):
    """Helm did not render; the text is what it said."""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def helm(*arguments, program="helm"):
    done = run(program, *arguments)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


def settings(values):
    """`{"a.b": 1}` or a tree as a temporary file of values."""
    file = tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="values-", delete=False)
    with file:
        yaml.safe_dump(values, file)
    return file.name


def rendered(*files, values=None, release="one", kube=NEWEST, program="helm", chart=CHART):
    """The text that Helm renders of files of values, with `values` (a tree) laid over them."""
    command = ["template", release, chart, "--namespace", "tasks", "--kube-version", f"v{kube}.0"]
    for file in files:
        command += ["--values", file]
    if values is None:
        return helm(*command, program=program)
    extra = settings(values)
    try:
        return helm(*command, "--values", extra, program=program)
    finally:
        os.unlink(extra)


@functools.cache
def of_file(file, release="one", kube=NEWEST):
    """The objects of one file of values."""
    return objects(rendered(file, release=release, kube=kube))


def minimal(values=None, **options):
    """The objects of the least that is needed, and `values`."""
    return objects(rendered(CHART / "ci" / "minimal-values.yaml", values=values or {}, **options))


def notes(file, values=None):
    """What NOTES.txt says."""
    extra = settings(values or {})
    try:
        said = helm("install", "one", CHART, "--namespace", "tasks", "--dry-run=client",
                    "--values", file, "--values", extra)
    finally:
        os.unlink(extra)
    return said.split("NOTES:\n", 1)[1]


class Strict(yaml.SafeLoader):
    """A key that is there twice is an error, as it is for Kubernetes."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice the same key, {node.start_mark}: {keys}"
        return super().construct_mapping(node, deep)


def objects(text):
    return [each for each in yaml.load_all(text, Loader=Strict) if each]


def only(objects, kind, component=None):
    found = [
        each for each in objects
        if each["kind"] == kind and component in (
            None, each["metadata"]["labels"].get("app.kubernetes.io/component"))
    ]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def of_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def key(each):
    return each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]


def pod_specs(objects):
    """The pod specs, of whatever holds one, with a name for messages."""
    for each in objects:
        name = f"{each['kind']} {each['metadata'].get('name')}"
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield name, each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield name, each["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def container(objects, kind="Deployment", component=BROKER):
    return only(objects, kind, component)["spec"]["template"]["spec"]["containers"][0]


def config_of(objects):
    return only([each for each in objects if "codeq.yaml" in each.get("data", {})], "ConfigMap")["data"]["codeq.yaml"]


def node(*arguments, config="", env=None):
    """The real binary with a file of settings."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        return run(BINARY, *arguments, "--config", file.name, env={"PATH": os.environ["PATH"], **(env or {})})


def known_variables():
    """What codeq reads of its environment: the settings, and those without a key."""
    defaults = yaml.safe_load((ROOT / "src/config/defaults.yaml").read_text())

    def names(tree, path):
        if isinstance(tree, dict) and tree:
            for part, inner in tree.items():
                yield from names(inner, path + [part])
        else:
            yield re.sub(r"([A-Z])", r"_\1", "_".join(path)).upper()

    alone = re.search(r"ENV_ONLY.*?\n\];", (ROOT / "src/config/keys.rs").read_text(), re.S)[0]
    return set(names(defaults, [])) | set(re.findall(r'^\s*\(?"([A-Z_]+)",', alone, re.M))
