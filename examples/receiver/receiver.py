#!/usr/bin/env python3
"""Receives the webhooks of codeq: verifies, de-duplicates, continues the trace.

    WEBHOOK_HMAC_SECRET=… receiver.py --port 9000

Put your work in place of `work`, keep the rest:

  verify     both signatures, in constant time, and not older than five minutes: signatures.py
  twice      codeq delivers at least once. A webhook-id that was done is answered 200 and not done
             again; two of one at the same time wait for each other
  trace      the span that works is a child of the one that delivered: traces.py
  answer     2xx when it is done, and not before; 500 when it should come again. codeq waits 15 s
             by default, so what takes longer is written down here and done elsewhere
  stop       SIGTERM and SIGINT: finish what is in hand, exit 0
"""

import argparse
import collections
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time

import signatures
import traces

# A connection that says nothing for so long is closed; also the longest a body may take to come.
PATIENCE_SECONDS = 30


def work(event, headers_for_calls):
    """The job itself. `event` is the body, parsed; send `headers_for_calls` with every call made
    for it, so that the trace goes on. Whatever it raises makes codeq deliver again."""


class Done:
    """The webhook-ids that were done, the last so many; older ones are forgotten."""

    def __init__(self, room):
        self.room = room
        self.ids = collections.OrderedDict()
        self.doing = set()
        self.changed = threading.Condition()

    def once(self, identity, job):
        """Does the job unless it was done already; whether it was done now. A job that raises was
        not done."""
        with self.changed:
            while identity in self.doing:
                self.changed.wait()
            if identity in self.ids:
                self.ids.move_to_end(identity)
                return False
            self.doing.add(identity)
        worked = False
        try:
            job()
            worked = True
        finally:
            with self.changed:
                self.doing.discard(identity)
                if worked:
                    self.ids[identity] = None
                    if len(self.ids) > self.room:
                        self.ids.popitem(last=False)
                self.changed.notify_all()
        return True


class Refused(Exception):
    """A request that is answered with an error of its own."""

    def __init__(self, status, error):
        super().__init__(error)
        self.status = status


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many deliveries
    server_version, sys_version = "codeq-receiver", ""
    disable_nagle_algorithm = True
    timeout = PATIENCE_SECONDS

    def do_POST(self):
        begun = time.monotonic()
        span = traces.child_of(self.headers.get("traceparent"), self.headers.get("tracestate"))
        line = {"traceId": span.trace_id, "spanId": span.span_id, "parentSpanId": span.parent_id}
        try:
            done = self.receive(span, line)
            status, answer = 200, {"ok": True, "duplicate": not done}
            line["duplicate"] = not done
        except Refused as refusal:
            status, answer = refusal.status, {"error": str(refusal)}
        except OSError:
            # The sender went away in the middle of its body: nobody is left to answer.
            self.close_connection = True
            return
        except Exception as error:
            status, answer = 500, {"error": "it did not work, please send it again"}
            line["error"] = repr(error)
        line["status"], line["ms"] = status, round((time.monotonic() - begun) * 1000, 1)
        if status in (401, 400, 411, 413):
            line["error"] = answer["error"]
        say(line)
        self.answer(status, answer, traces.headers_of(span))

    def receive(self, span, line):
        """Whether the delivery was new."""
        body = self.read_body()
        try:
            signatures.verify(self.server.keys, self.headers, body, self.server.tolerance)
        except signatures.Rejected as rejected:
            raise Refused(401, str(rejected)) from None
        # From here on the sender is known.
        identity = self.headers["webhook-id"]
        line["webhookId"], line["attempt"] = identity, self.headers.get("X-CodeQ-Attempt")
        try:
            event = json.loads(body)
        except ValueError:
            raise Refused(400, "the body is not JSON") from None
        if isinstance(event, dict):
            line.update({name: event[name] for name in ("type", "taskId") if name in event})
        return self.server.done.once(identity, lambda: work(event, traces.headers_of(span)))

    def read_body(self):
        """The body, byte for byte. What cannot be read whole ends the connection: the next request
        would begin in the middle of it."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refused(411, "a delivery says its length")
        if int(length) > self.server.max_body:
            self.close_connection = True
            raise Refused(413, f"longer than {self.server.max_body} bytes: raise --max-body")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the sender went away")
        return body

    def answer(self, status, answer, headers):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.stopping or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.close_connection = True
        self.answer(405, {"error": "webhooks come by POST"}, {"Allow": "POST"})

    do_PUT = do_DELETE = do_HEAD = do_GET

    def log_message(self, *_):
        """Not its lines, but those of `say`."""

    def handle_one_request(self):
        # A stop ends connections on which nothing is being asked, and no others.
        if self.server.rest(self.connection):
            super().handle_one_request()
        else:
            self.close_connection = True

    def parse_request(self):
        self.server.busy(self.connection)
        return super().parse_request()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # a stop waits for them
    request_queue_size = 128

    def __init__(self, address, keys, options):
        self.keys, self.done = keys, Done(options.remember)
        self.tolerance, self.max_body = options.tolerance, options.max_body
        self.stopping, self.resting, self.lock = False, set(), threading.Lock()
        super().__init__(address, Handler)

    def rest(self, connection):
        """A connection waits for its next request; whether it may."""
        with self.lock:
            if not self.stopping:
                self.resting.add(connection)
            return not self.stopping

    def busy(self, connection):
        with self.lock:
            self.resting.discard(connection)

    def shutdown_request(self, request):
        self.busy(request)
        super().shutdown_request(request)

    def stop(self):
        """Ends the waiting connections; whoever is at work ends by himself."""
        with self.lock:
            self.stopping = True
            for connection in self.resting:
                try:
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # the other side was quicker
        self.server_close()

    def handle_error(self, request, client_address):
        # A sender that was killed in the middle of something.
        print(f"receiver: {client_address[0]}: {sys.exc_info()[1]!r}", file=sys.stderr)


def say(line):
    """One line of JSON for each request."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(json.dumps({"time": now, **line}), flush=True)


def positive(text):
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="WEBHOOK_HMAC_SECRET holds the secret: as it is configured in codeq, or the whsec_… that "
        "`codeq webhook secret` shows. A JSON array holds several, all of them good: while secrets "
        "change, the new one is added here first, then in codeq, then the old one is taken away.",
    )
    arguments.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    arguments.add_argument("--port", type=int, default=9000, help="where to listen; 0: any (9000)")
    arguments.add_argument("--tolerance", type=positive, default=signatures.TOLERANCE_SECONDS,
                           help="seconds a request may be old (300)")
    arguments.add_argument("--remember", type=positive, default=100_000,
                           help="how many webhook-ids are known again (100000)")
    arguments.add_argument("--max-body", type=positive, default=1 << 20,
                           help="bytes of the longest body that is taken (1 MiB)")
    options = arguments.parse_args()
    secret = os.environ.get("WEBHOOK_HMAC_SECRET", "")
    if not secret.strip():
        sys.exit("receiver: WEBHOOK_HMAC_SECRET is not set: give it the secret that codeq signs with")
    try:
        keys = signatures.read_secrets(secret)
    except ValueError as error:
        sys.exit(f"receiver: WEBHOOK_HMAC_SECRET {error}")
    try:
        server = Server((options.host, options.port), keys, options)
    except (OSError, OverflowError) as error:
        sys.exit(f"receiver: cannot listen on {options.host}:{options.port}: {error}")

    def stop(*_):
        # shutdown() waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"receiver: http://{options.host}:{server.server_address[1]}/", file=sys.stderr, flush=True)
    server.serve_forever(poll_interval=0.1)
    server.stop()


if __name__ == "__main__":
    main()
