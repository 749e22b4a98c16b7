"""Standard Webhooks' own library for Python: cases in, whether each verifies out (README.md)."""

import base64
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def verifies(case):
    try:
        Webhook(case["key"]).verify(base64.b64decode(case["body"]), case["headers"])
        return True
    except WebhookVerificationError:
        return False


print(json.dumps([verifies(case) for case in json.load(sys.stdin)]))
