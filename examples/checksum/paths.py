"""A file's path as JSON. A file name is bytes and need not be UTF-8; JSON text must be.

    {"path": "/usr/share/x"}        when the name is UTF-8 (a newline is "\\n", as JSON has it)
    {"pathBase64": "L3RtcC//"}      when it is not
"""

import base64


def to_payload(path):
    """bytes → dict"""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"pathBase64": base64.b64encode(path).decode("ascii")}


def from_payload(payload):
    """dict → bytes; ValueError when it is no payload of ours"""
    if not isinstance(payload, dict):
        raise ValueError("the payload is no JSON object")
    text, packed = payload.get("path"), payload.get("pathBase64")
    if isinstance(text, str):
        path = text.encode("utf-8")
    elif isinstance(packed, str):
        path = base64.b64decode(packed, validate=True)
    else:
        raise ValueError("the payload has neither path nor pathBase64")
    if not path or b"\0" in path:
        raise ValueError("no file can have that name")
    return path
