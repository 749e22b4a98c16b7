#!/usr/bin/env python3
"""Creates one task per regular file below a directory, and writes which task is which file.

    produce.py --manifest manifest.jsonl /usr/share

Run it twice, or kill it half-way and run it again: each file still has one task, because the
idempotency key is made of the path. --run NAME begins a new round over the same files.
"""

import argparse
import hashlib
import json
import os
import sys

import paths
from codeq_client import Client, Refused, Unavailable, backoff

BATCH = 100  # the most the broker takes in one call

# What an item of a batch may say that passes; the whole batch may have been taken otherwise.
PASSING = {"store_unavailable", "outcome_unknown", "rate_limited"}


def regular_files(root):
    """Paths as bytes: a name that is not UTF-8 is a name too. Links are not followed."""
    waiting = [root]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.path
        except OSError as error:
            print(f"produce: {error}", file=sys.stderr)


def batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def task_for(path, options):
    # Hashed, because a key has at most 255 bytes and a path up to 4096.
    key = hashlib.sha256(options.run.encode() + b"\0" + path).hexdigest()
    return {
        "command": options.command,
        "payload": paths.to_payload(path),
        "idempotencyKey": key,
        "maxAttempts": options.max_attempts,
    }


def create(client, files, options):
    """Yields (path, task id, was there already) for each file, in any order."""
    failures = 0
    while files:
        body = {"tasks": [task_for(path, options) for path in files]}
        _, answer, _ = client.call("POST", "/v1/codeq/tasks/batch", body)
        again = []
        for path, item in zip(files, answer["results"]):
            if "task" in item:
                yield path, item["task"]["id"], item.get("replayed", False)
            elif item.get("code") in PASSING:
                again.append(path)
            else:
                raise Refused(400, item)
        if again:
            client.sleep(backoff(failures, least=0.5))
            failures += 1
        files = again


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("directory")
    arguments.add_argument("--url", action="append", help="a node; repeat it for several")
    arguments.add_argument("--token", default=os.environ.get("CODEQ_PRODUCER_TOKEN", "dev-producer-token"))
    arguments.add_argument("--command", default="checksum")
    arguments.add_argument("--run", default="", help="name of the round; a new one makes new tasks")
    arguments.add_argument("--max-attempts", type=int, default=5)
    arguments.add_argument("--manifest", default="manifest.jsonl", help="file to write: one line a task")
    options = arguments.parse_args()
    urls = options.url or os.environ.get("CODEQ_URLS", "http://127.0.0.1:8080").replace(",", " ").split()
    if not os.path.isdir(options.directory):
        sys.exit(f"produce: {options.directory} is no directory")

    client = Client(urls, options.token)
    created = replayed = 0
    # Under another name until it is whole, so that nobody takes half a manifest for all of it.
    with open(options.manifest + ".part", "w", encoding="ascii") as manifest:
        root = os.fsencode(os.path.abspath(options.directory))
        for files in batches(regular_files(root), BATCH):
            for path, task, was_there in create(client, files, options):
                manifest.write(json.dumps({"id": task, **paths.to_payload(path)}) + "\n")
                created += not was_there
                replayed += was_there
    os.replace(options.manifest + ".part", options.manifest)
    print(f"produce: {created} tasks created, {replayed} were there already")


if __name__ == "__main__":
    try:
        main()
    except (Refused, Unavailable) as error:
        sys.exit(f"produce: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
