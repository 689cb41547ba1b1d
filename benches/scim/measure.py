"""Measures Tidegate's SCIM service provider beside two others, in one run, with one client.

    cargo build --release
    python3 -m venv target/tools/bench && target/tools/bench/bin/pip install scim2-server
    npm install --prefix target/tools/npm scimmy scimmy-routers express
    python3 benches/scim/measure.py target/release/tidegate

Prints: 2,000 users created at concurrency 16 by each; the latency of a look-up by userName with 1,000 and with 100,000 users;
the latency of one PATCH that adds a member to a group of 5 and to one of 50,000. Standard library only.
"""

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


async def bulk(server, operations):
    connection = Connection(*server)
    ids = []
    for at in range(0, len(operations), 1000):
        status, text = await connection.call("POST", "/Bulk", {"Operations": operations[at : at + 1000]})
        assert status == 200, (status, text[:200])
        ids += [o["location"].rsplit("/", 1)[1] for o in json.loads(text)["Operations"]]
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


async def add_members(server, group, ids):
    connection = Connection(*server)

    def one(member):
        body = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": [{"value": member}]}]}
        return lambda: connection.call("PATCH", f"/Groups/{group}?excludedAttributes=members", body)

    return await latency([one(member) for member in ids])


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


async def main(binary, people=100_000, members=50_000):
    started = []
    home = tempfile.mkdtemp(prefix="scim-bench-", dir=os.environ.get("TMPDIR"))

    def start(*command, **more):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **more)
        started.append(process)
        return process

    try:
        others = {}
        tool = os.path.join(ROOT, "target/tools/bench/bin/scim2-server")
        if os.path.exists(tool):
            port = free_port()
            start(tool, "--port", str(port), "--bearer-token", "bench", stdout=subprocess.DEVNULL)
            others["scim2-server"] = (port, "/v2", "bench")
        modules = os.path.join(ROOT, "target/tools/npm")
        if os.path.exists(os.path.join(modules, "node_modules/scimmy-routers")):
            port = free_port()
            script = os.path.join(modules, "scimmy_server.mjs")
            shutil.copy(os.path.join(ROOT, "benches/scim/scimmy_server.mjs"), script)
            start("node", script, str(port), stdout=subprocess.DEVNULL)
            others["scimmy-routers"] = (port, "/scim/v2", "bench")
        rates = {}
        for name, server in others.items():
            await wait_for(server)
            rates[name] = await create(server, 0, 2000)
            print(f"create 2,000 users, 16 at once   {name:15} {rates[name]:9.0f} /s", flush=True)
        dev = start(binary, "dev", "--json", "--port", "0", "--data", home, stdout=subprocess.PIPE)
        access = json.loads(dev.stdout.readline())
        server = (urllib.parse.urlsplit(access["url"]).port, "/scim/v2", access["scim"]["token"])
        rate = await create(server, 0, 2000)
        ratio = f"{rate / max(rates.values()):.1f} times the faster" if rates else "nothing to compare with"
        print(f"create 2,000 users, 16 at once   {'tidegate':15} {rate:9.0f} /s   {ratio}", flush=True)
        few = await look_up(server, 1000)
        operations = [
            {"method": "POST", "path": "/Users", "bulkId": str(n), "data": user(n)} for n in range(2000, people)
        ]
        ids = await bulk(server, operations)
        many = await look_up(server, people)
        print(f"look-up by userName    with 2,000: {few:.2f} ms   with {people:,}: {many:.2f} ms   ratio {many / few:.2f}")
        small = await group_of(server, "small", ids[:5])
        large = await group_of(server, "large", ids[:members])
        five = await add_members(server, small, ids[members + 5 : members + 205])
        fifty = await add_members(server, large, ids[members + 5 : members + 205])
        print(f"one more member   in a group of 5: {five:.2f} ms   of {members:,}: {fifty:.2f} ms   ratio {fifty / five:.2f}")
    finally:
        for process in started:
            process.terminate()
        shutil.rmtree(home, ignore_errors=True)


asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
