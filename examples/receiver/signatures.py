"""Both signatures of a codeq webhook. Python's standard library only; copy this file.

    keys = read_secrets(os.environ["WEBHOOK_HMAC_SECRET"])
    verify(keys, headers, body)          raises Rejected, with a sentence that says what is wrong
"""

import base64
import binascii
import collections
import hashlib
import hmac
import json
import time

# An older (or later) request is refused: whoever recorded one cannot send it again tomorrow.
TOLERANCE_SECONDS = 300

# What one secret gives. `codeq` holds two keys for a secret that begins with whsec_: the text
# itself, with which codeq signs when an operator configured it, and its bytes, with which it signs
# when the text is what GET /v1/codeq/admin/webhook-secret shows.
Key = collections.namedtuple("Key", ["codeq", "standard"])


class Rejected(Exception):
    """The request was not made by somebody who knows a secret of ours, or not just now."""


def read_secrets(text):
    """The secrets of an environment variable, as codeq itself reads them: one, or a JSON array.
    Every one of them is good. ValueError says what to change."""
    secrets = [text]
    if text.lstrip().startswith("["):
        try:
            secrets = json.loads(text)
        except ValueError:
            raise ValueError('begins with [ but is no JSON array, as ["new","old"]') from None
    if not all(isinstance(secret, str) and secret for secret in secrets) or not secrets:
        raise ValueError("holds an empty secret, or none")
    return [key_of(secret) for secret in secrets]


def key_of(secret):
    as_text = secret.encode("utf-8")
    if not secret.startswith("whsec_"):
        return Key([as_text], as_text)
    try:
        decoded = base64.b64decode(secret[len("whsec_") :], validate=True)
    except binascii.Error:
        raise ValueError("holds a secret that is not base64 after whsec_: copy all of it") from None
    if not decoded:
        raise ValueError("holds a secret with nothing after whsec_")
    return Key([as_text, decoded], decoded)


def verify(keys, headers, body, tolerance=TOLERANCE_SECONDS, now=None):
    """Raises Rejected unless both signatures are right. `body` is bytes, exactly as they came:
    JSON that was parsed and written again is another text, and no signature fits it."""
    now = time.time() if now is None else now
    identity = header(headers, "webhook-id")
    signed_at = header(headers, "webhook-timestamp")
    codeq_at = header(headers, "X-CodeQ-Timestamp")
    for name, text in (("webhook-timestamp", signed_at), ("X-CodeQ-Timestamp", codeq_at)):
        check_time(name, text, tolerance, now)

    # Standard Webhooks: one signature for each of the sender's secrets, so that they can change
    # without a gap. Versions other than v1 are for receivers of another time.
    content = b".".join((identity.encode(), signed_at.encode(), body))
    given = [part[3:] for part in header(headers, "webhook-signature").split(" ") if part[:3] == "v1,"]
    expected = [base64.b64encode(mac(key.standard, content)).decode() for key in keys]
    if not any_equal(given, expected):
        raise Rejected("webhook-signature was made with another secret, or the body was changed")

    # CodeQ's own, made with the sender's first secret.
    content = b".".join((codeq_at.encode(), body))
    expected = [mac(one, content).hex() for key in keys for one in key.codeq]
    if not any_equal([header(headers, "X-CodeQ-Signature")], expected):
        raise Rejected("X-CodeQ-Signature was made with another secret: is the sender's first one here?")


def header(headers, name):
    """The value of a header that must be there once: a second one could be somebody else's."""
    values = headers.get_all(name) or []
    if len(values) != 1 or not values[0].isascii():
        raise Rejected(f"{name} is missing, or not there once: is a proxy in between taking it away?")
    return values[0]


def check_time(name, text, tolerance, now):
    # Not int() alone, which also takes " 1_0 ". A header is ASCII here already.
    if not (text.isdigit() and len(text) < 15):
        raise Rejected(f"{name} is not Unix seconds")
    apart = now - int(text)
    if abs(apart) > tolerance:
        side = "old" if apart > 0 else "early"
        raise Rejected(f"{name} is {abs(apart):.0f} s too {side}: is one of the clocks wrong?")


def mac(key, content):
    return hmac.new(key, content, hashlib.sha256).digest()


def any_equal(given, expected):
    """Compares each with each in constant time: how long it takes tells nothing about the key."""
    found = False
    for one in given:
        for other in expected:
            found |= hmac.compare_digest(one.encode(), other.encode())
    return found
