"""Measures Tidegate's SCIM service provider beside two others, in one run, with one client.

    cargo build --release && .ci/deps
    python3 benches/scim/measure.py target/release/tidegate

Prints: users created at concurrency 16 by each (2,000, --create); the latency of a look-up by userName with 1,000 and with
100,000 users (--people); the latency of one PATCH that adds a member to a group of 5 and to one of 50,000 (--members); each
with its ratio. The other servers are scim2-server (PyPI, pinned in .ci/requirements.txt) and scimmy-routers (npm, pinned in
benches/scim/package-lock.json, installed here if it is missing). Standard library only.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Connection:
    """One connection, kept open where the server does."""

    def __init__(self, port, base, token):
        self.port, self.base, self.token = port, base, token
        self.reader = self.writer = None

    async def call(self, method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {self.base}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/scim+json\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode()
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(head + data)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        if "content-length" in headers:
            text = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            text = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                text += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
        elif status in (204, 304):
            text = b""
        else:
            text = await self.reader.read()
        if headers.get("connection", "").lower() == "close" or lines[0].startswith("HTTP/1.0"):
            self.writer.close()
            self.writer = None
        return status, text


def user(n):
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": f"user{n}@example.com",
        "name": {"givenName": "User", "familyName": str(n)},
        "emails": [{"value": f"user{n}@example.com", "type": "work", "primary": True}],
        "active": True,
    }


async def create(server, first, count, concurrency=16):
    numbers = iter(range(first, first + count))

    async def worker():
        connection = Connection(*server)
        for n in numbers:
            status, text = await connection.call("POST", "/Users", user(n))
            assert status == 201, (status, text[:200])

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return count / (time.perf_counter() - start)


async def fill(server, first, last):
    """Users `first` to `last`, by bulk calls side by side; their ids."""
    parts = iter(range(first, last, 250))
    ids = []

    async def worker():
        connection = Connection(*server)
        for at in parts:
            numbers = range(at, min(at + 250, last))
            operations = [{"method": "POST", "path": "/Users", "bulkId": str(n), "data": user(n)} for n in numbers]
            status, text = await connection.call("POST", "/Bulk", {"Operations": operations})
            assert status == 200, (status, text[:200])
            ids.extend(o["location"].rsplit("/", 1)[1] for o in json.loads(text)["Operations"])

    await asyncio.gather(*(worker() for _ in range(8)))
    return ids


async def latency(calls):
    took = []
    for call in calls:
        start = time.perf_counter()
        status, text = await call()
        took.append((time.perf_counter() - start) * 1000)
        assert status in (200, 204), (status, text[:200])
    return statistics.median(took)


async def look_up(server, people, times=300):
    connection = Connection(*server)

    def one(n):
        name = urllib.parse.quote(f'userName eq "USER{n * 7919 % people}@example.com"')
        return lambda: connection.call("GET", f"/Users?filter={name}")

    await latency([one(n) for n in range(30)])
    return await latency([one(n) for n in range(times)])


async def add_members(server, groups, ids):
    """Each of `ids` into each of the groups, in turn; the median for each group."""
    connection = Connection(*server)

    took = {group: [] for group in groups}
    for member in ids:
        for group in groups:
            body = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": [{"value": member}]}]}
            start = time.perf_counter()
            status, text = await connection.call("PATCH", f"/Groups/{group}?excludedAttributes=members", body)
            took[group].append((time.perf_counter() - start) * 1000)
            assert status == 200, (status, text[:200])
    return [statistics.median(took[group]) for group in groups]


async def group_of(server, name, ids):
    connection = Connection(*server)
    status, text = await connection.call("POST", "/Groups", {"displayName": name})
    assert status == 201, text
    group = json.loads(text)["id"]
    for at in range(0, len(ids), 5000):
        members = [{"value": i} for i in ids[at : at + 5000]]
        body = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": members}]}
        status, text = await connection.call("PATCH", f"/Groups/{group}?excludedAttributes=members", body)
        assert status == 200, text
    return group


async def wait_for(server):
    for _ in range(200):
        try:
            if (await Connection(*server).call("GET", "/Users?count=1"))[0] == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("a server does not come up")


def scimmy():
    """The directory with scimmy-routers, installed if it is not there."""
    here = os.path.join(ROOT, "benches/scim")
    there = os.path.join(ROOT, "target/tools/scim")
    os.makedirs(there, exist_ok=True)
    for name in ("package.json", "package-lock.json", "scimmy_server.mjs"):
        shutil.copy(os.path.join(here, name), there)
    if not os.path.exists(os.path.join(there, "node_modules/scimmy-routers")):
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run(command, cwd=there, check=True)
    return there


async def main(given):
    started, homes = [], []

    def start(*command, **more):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **more)
        started.append(process)
        return process

    def tidegate():
        home = tempfile.mkdtemp(prefix="scim-bench-", dir=os.environ.get("TMPDIR"))
        homes.append(home)
        dev = start(given.binary, "dev", "--json", "--port", "0", "--data", home, stdout=subprocess.PIPE)
        access = json.loads(dev.stdout.readline())
        return dev, (urllib.parse.urlsplit(access["url"]).port, "/scim/v2", access["scim"]["token"])

    def stop(process):
        process.terminate()
        process.wait()

    try:
        tool = os.path.join(ROOT, "target/tools/venv/bin/scim2-server")
        there = scimmy()
        rates = {}
        for name, base in (("scim2-server", "/v2"), ("scimmy-routers", "/scim/v2")):
            port = free_port()
            if name == "scim2-server":
                command = [tool, "--port", str(port), "--bearer-token", "bench"]
            else:
                command = ["node", os.path.join(there, "scimmy_server.mjs"), str(port)]
            process = start(*command, stdout=subprocess.DEVNULL)
            server = (port, base, "bench")
            await wait_for(server)
            rates[name] = await create(server, 0, given.create)
            stop(process)
            print(f"create {given.create:,} users, 16 at once   {name:15} {rates[name]:9.0f} /s", flush=True)
        process, server = tidegate()
        rate = await create(server, 0, given.create)
        stop(process)
        ratio = rate / max(rates.values())
        print(f"create {given.create:,} users, 16 at once   {'tidegate':15} {rate:9.0f} /s   {ratio:.1f} x the faster", flush=True)

        process, server = tidegate()
        first = min(1000, given.people)
        ids = await fill(server, 0, first)
        few = await look_up(server, first)
        ids += await fill(server, first, given.people)
        many = await look_up(server, given.people)
        print(
            f"look-up by userName   with {first:,}: {few:.2f} ms   with {given.people:,}: {many:.2f} ms"
            f"   {many / few:.2f} x", flush=True
        )
        groups = [await group_of(server, "small", ids[:5]), await group_of(server, "large", ids[: given.members])]
        five, fifty = await add_members(server, groups, ids[given.members : given.members + 200])
        print(
            f"one more member   in a group of 5: {five:.2f} ms   of {given.members:,}: {fifty:.2f} ms"
            f"   {fifty / five:.2f} x"
        )
    finally:
        for process in started:
            process.terminate()
        for home in homes:
            shutil.rmtree(home, ignore_errors=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("binary", help="the tidegate program")
parser.add_argument("--create", type=int, default=2000, metavar="N", help="users that each server makes")
parser.add_argument("--people", type=int, default=100_000, metavar="N", help="users for the look-ups")
parser.add_argument("--members", type=int, default=50_000, metavar="N", help="members of the large group")
given = parser.parse_args()
if given.members + 200 > given.people:
    parser.error("--people is to be at least --members and 200 more")
asyncio.run(main(given))
