"""W3C trace context: what comes with a webhook goes on with whatever its work calls."""

import collections
import re
import secrets

FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

Span = collections.namedtuple("Span", ["trace_id", "span_id", "parent_id", "flags", "state"])


def child_of(traceparent, tracestate=None):
    """A span of our own below the caller's; the first of a new trace when the caller has none, or
    one that cannot be read."""
    found = FORM.fullmatch(traceparent or "")
    ours = secrets.token_hex(8)
    if found:
        version, trace_id, parent_id, flags, rest = found.groups()
        # Version 00 ends after the flags; later ones may go on, ff is none.
        known = version != "ff" and (version != "00" or rest is None)
        if known and set(trace_id) != {"0"} and set(parent_id) != {"0"}:
            # Of the flags only "sampled" and "random" are known, and those alone are passed on.
            return Span(trace_id, ours, parent_id, f"{int(flags, 16) & 3:02x}", tracestate)
    return Span(secrets.token_hex(16), ours, None, "00", None)


def headers_of(span):
    """What to send with a call that is made in this span."""
    headers = {"traceparent": f"00-{span.trace_id}-{span.span_id}-{span.flags}"}
    if span.state:
        headers["tracestate"] = span.state
    return headers
