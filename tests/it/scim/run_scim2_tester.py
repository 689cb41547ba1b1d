"""Runs scim2-tester against a server: URL and token are in the environment; prints one line for each check that is not a
success, and at the end a JSON line with the counts."""

import collections
import json
import os
import sys

import httpx2
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

client = SyncSCIMClient(
    httpx2.Client(
        base_url=os.environ["SCIM_URL"],
        headers={"Authorization": "Bearer " + os.environ["SCIM_TOKEN"]},
        timeout=60,
    )
)
counts = collections.Counter()
for result in check_server(client):
    counts[result.status.name] += 1
    if result.status != Status.SUCCESS:
        print(result.status.name, result.title, result.resource_type, result.reason, file=sys.stderr)
print(json.dumps(counts))
