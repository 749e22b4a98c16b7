"""A small client for codeq: several nodes, one connection, patience.

Every call here may be repeated, which is what makes a lost answer harmless: creates carry an
idempotency key, calls about a task carry its lease token. A claim is the exception: a repeat
claims another task, and the one whose answer was lost comes back when its lease ends.

Python's standard library only. One Client is for one thread.
"""

import http.client
import json
import random
import socket
import time
from urllib.parse import urlsplit

# Answers that mean "not now": the same call will do later.
LATER = {408, 429, 502, 503, 504}


class Unavailable(Exception):
    """No node took the call in the time allowed."""


class Refused(Exception):
    """The node understood the call and refuses it; repeating it changes nothing."""

    def __init__(self, status, answer):
        self.status = status
        self.error = answer.get("error", "") if isinstance(answer, dict) else ""
        self.detail = answer.get("detail", "") if isinstance(answer, dict) else ""
        super().__init__(f"{status} {self.error} {self.detail}".strip())


def backoff(failures, least=0.0, base=0.1, cap=5.0):
    """Seconds to wait after so many failures: full jitter, so that a fleet of clients that
    failed together does not come back together. `least` is what Retry-After asked for."""
    return least + random.uniform(0, min(cap, base * 2 ** min(failures, 16)))


class Client:
    def __init__(self, urls, token, patience=60.0, sleep=time.sleep):
        """`urls`: the nodes; any of them can do any call. `patience`: seconds after which a call
        is given up. `sleep`: how to wait; it may raise to leave early."""
        self.nodes = [urlsplit(url if "//" in url else f"http://{url}") for url in urls]
        # Everybody begins at another node, or the first one gets all the load.
        self.at = random.randrange(len(self.nodes))
        self.token = token
        self.patience = patience
        self.sleep = sleep
        self.connection = None
        self.no_more = False

    def call(self, method, path, body=None, headers=None, timeout=15.0, patience=None):
        """Returns (status, parsed JSON or None, response headers) of a 2xx answer.

        Goes to the next node and waits a little after each failure. Raises Refused for an answer
        that repeating cannot change, Unavailable when the patience is over.
        """
        give_up = time.monotonic() + (self.patience if patience is None else patience)
        failures = 0
        while True:
            least = 0.0
            try:
                status, answer, got = self._once(method, path, body, headers, timeout)
                if status < 300:
                    return status, answer, got
                if status not in LATER:
                    raise Refused(status, answer)
                trouble = f"{status} {answer}"
                least = retry_after(got)
            except (OSError, http.client.HTTPException, ValueError) as error:
                # Refused, reset, timed out or cut short: whether the node did it is not known.
                trouble = repr(error)
            self.close()
            self.at = (self.at + 1) % len(self.nodes)
            wait = backoff(failures, least)
            failures += 1
            if time.monotonic() + wait > give_up:
                raise Unavailable(f"{method} {path}: {trouble}")
            self.sleep(wait)

    def _once(self, method, path, body, headers, timeout):
        node = self.nodes[self.at]
        if self.connection is None:
            kind = http.client.HTTPSConnection if node.scheme == "https" else http.client.HTTPConnection
            self.connection = kind(node.hostname, node.port, timeout=timeout)
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.sock.settimeout(timeout)
        # Asked here, with the connection in place: half_close comes either before this line or
        # finds a socket to shut.
        if self.no_more:
            raise ConnectionError("half closed")
        # File names are long and mostly not ASCII-only: UTF-8 is shorter than \u escapes.
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent.update(headers or {})
        self.connection.request(method, node.path.rstrip("/") + path, data, sent)
        response = self.connection.getresponse()
        raw = response.read()
        if response.will_close:
            self.close()
        return response.status, parsed(raw), response.headers

    def half_close(self):
        """Tells the node that nothing more will be asked, and still reads what it has already
        said. Ends a waiting claim at once without losing a task that was just being handed over.
        The client makes no further call. Safe in a signal handler."""
        self.no_more = True
        sock = self.connection and self.connection.sock
        if sock:
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def parsed(raw):
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        # A proxy's error page, say.
        return {"error": raw[:200].decode("utf-8", "replace")}


def retry_after(headers):
    try:
        return max(0.0, float(headers.get("Retry-After", 0)))
    except ValueError:
        return 1.0
