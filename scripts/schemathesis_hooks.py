"""What schemathesis cannot know: ids that exist, that nobody wants to wait half a minute, and that
a cursor comes from the page before."""

import json
import os
import urllib.request
import zlib

import schemathesis

URL = os.environ["CODEQ_URL"] + "/v1/codeq"
LONGEST_WAIT_SECONDS = 1


def call(path, token, body):
    request = urllib.request.Request(
        URL + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.loads(answer.read() or "null")


def task(kind):
    """The id of a task that is ready, or held by the worker whose token is used."""
    created = call("/tasks", "dev-producer-token", {"command": f"st-{kind}", "payload": {}})
    if kind == "held":
        claimed = call("/tasks/claim", "dev-worker-token", {"commands": ["st-held"]})
        # Nothing, when the run has just paused that queue.
        return (claimed or created)["id"]
    return created["id"]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    # Two of three generated ids become real ones; by their text, so that a run can be repeated.
    if path_parameters and "id" in path_parameters:
        chance = zlib.crc32(str(path_parameters["id"]).encode()) % 3
        if chance:
            path_parameters["id"] = task("held" if chance == 1 else "ready")
    return path_parameters


def whole(value):
    """Schemas take 2.0 for an integer; this API does not: seconds are whole numbers."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: whole(field) for name, field in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def wait_less(values):
    wait = values.get("waitSeconds")
    # In a query it is text already. What is no number is left to be refused.
    try:
        if wait is not None and not isinstance(wait, bool) and float(wait) > LONGEST_WAIT_SECONDS:
            values["waitSeconds"] = type(wait)(LONGEST_WAIT_SECONDS)
    except (TypeError, ValueError, OverflowError):
        pass


@schemathesis.hook
def before_call(context, case, kwargs):
    # Every phase comes through here, also the one that has no use for hooks on generated values.
    if isinstance(case.body, (dict, list)):
        case.body = whole(case.body)
    for values in (case.body, case.query):
        if isinstance(values, dict):
            wait_less(values)
    # An item of a batch that named no task; without it the path is another one.
    if isinstance(case.path_parameters, dict) and case.path_parameters.get("id") == "":
        case.path_parameters["id"] = "none"
    # Only the broker makes cursors; what it does with others is tested in `contract/hostile`.
    if isinstance(case.query, dict):
        case.query.pop("cursor", None)
