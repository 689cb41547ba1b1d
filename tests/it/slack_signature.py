"""Slack's own library on the same signature: reads secret, timestamp and body as JSON, prints what it thinks of each."""

import json
import sys

from slack_sdk.signature import Clock, SignatureVerifier


class At(Clock):
    def __init__(self, now):
        self.at = now

    def now(self):
        return self.at


case = json.load(sys.stdin)
verifier = SignatureVerifier(case["secret"], At(case["now"]))
signature = verifier.generate_signature(timestamp=str(case["stamp"]), body=case["body"])
headers = {"X-Slack-Request-Timestamp": str(case["stamp"]), "X-Slack-Signature": case["signature"]}
print(json.dumps({"signature": signature, "valid": verifier.is_valid_request(case["body"], headers)}))
