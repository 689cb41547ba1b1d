"""Measures the portal's pages with a large ledger, beside a bare handler in the same run, and event streams.

    cargo build --release && cargo bench --no-run --bench bare_page
    python3 benches/pages/measure.py target/release/tidegate "$(ls -t target/release/deps/bare_page-* | grep -v '\\.d$' | head -1)"

The ledger (SQLite): 100,000 people, 1,000,000 past requests with their grants, 10,000 live grants, 10,000 pending requests.
Prints for every page its size, p50 and p99, the p99 of a bare axum handler that answers a body of the same size, and the ratio,
which must not be above 20; then what 2,000 event streams of one process cost in memory, and how long a change takes to reach
all of them. Exit status 1 if a bound does not hold. `--small` makes a hundredth of it, to try the script out. Standard library
only.
"""

import asyncio
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse

SMALL = "--small" in sys.argv
ARGS = [a for a in sys.argv[1:] if not a.startswith("--")]
SCALE = 100 if SMALL else 1
PEOPLE, PAST, LIVE, PENDING = 100_000 // SCALE, 1_000_000 // SCALE, 10_000 // SCALE, 10_000 // SCALE
STREAMS = 2_000 // (10 if SMALL else 1)
EACH = 30  # streams of one person
ROUNDS = 300
RATIO = 20.0
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DAY = 86_400_000_000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ulid(micros):
    """As the broker makes them: milliseconds, then chance."""
    value = (micros // 1000 << 80) | random.getrandbits(80)
    return "".join(ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


class Server:
    def __init__(self, program, data):
        self.port = free_port()
        command = [program, "dev", "--json", "--port", str(self.port), "--data", data]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.access = json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


class Client:
    """One connection, kept open."""

    def __init__(self, port, cookie=None):
        self.port, self.cookie, self.reader, self.writer = port, cookie, None, None

    async def call(self, method, path, body=None, token=None, form=False):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = (body or "").encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: text/html\r\nContent-Length: {len(data)}\r\n"
        if self.cookie:
            head += f"Cookie: {self.cookie}\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        if form:
            head += f"Origin: http://127.0.0.1:{self.port}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        self.writer.write(head.encode() + b"\r\n" + data)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        if headers.get("transfer-encoding") == "chunked":
            text = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                text += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
        else:
            text = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, text


async def signed_in(port, who):
    client = Client(port)
    _, headers, _ = await client.call("POST", "/login/dev", urllib.parse.urlencode({"who": who}), form=True)
    client.cookie = headers["set-cookie"].split(";")[0]
    return client


async def templates(server):
    """One of each, made as people make them: what the large ledger is copied from."""
    token = {name: server.access["people"][name]["token"] for name in ("ana", "ben")}
    client = Client(server.port)

    async def ask(entitlement):
        body = json.dumps({"entitlements": [entitlement], "reason": "measuring", "duration": "1h"})
        status, _, text = await client.call("POST", "/v1/requests", body, token["ana"])
        assert status in (200, 201, 202), (status, text)
        return json.loads(text)

    pending = (await ask("tokens:orders-admin"))["id"]
    live = (await ask("tokens:orders-read"))["grants"][0]["id"]
    past = (await ask("tokens:orders-read"))["grants"][0]["id"]
    await client.call("POST", f"/v1/grants/{past}/release", "{}", token["ana"])
    for _ in range(100):
        _, _, text = await client.call("GET", f"/v1/grants/{past}", token=token["ana"])
        if json.loads(text)["state"] == "ended":
            break
        await asyncio.sleep(0.1)
    return pending, live, past


def columns(db, table, where, value):
    db.row_factory = sqlite3.Row
    row = db.execute(f"SELECT * FROM {table} WHERE {where} = ?", (value,)).fetchone()
    db.row_factory = None
    return dict(row)


def insert(db, table, rows):
    rows = iter(rows)
    first = next(rows)
    names = list(first)
    sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    db.execute(sql, [first[n] for n in names])
    db.executemany(sql, ([row[n] for n in names] for row in rows))


def enlarge(path, pending, live, past):
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA foreign_keys = OFF")
    now = time.time_ns() // 1000
    ana = columns(db, "identities", "name_key", "ana")
    people = []

    def person(n):
        new = "idn_" + ulid(now - n)
        people.append(new)
        name = f"person-{n:06}"
        return {**ana, "id": new, "name": name, "name_key": name, "display_name": name, "email": None, "email_key": None,
                "external_id": None, "due_at": None}

    insert(db, "identities", (person(n) for n in range(PEOPLE)))
    waits = columns(db, "requests", "id", pending)
    approvers = [row[0] for row in db.execute("SELECT group_name FROM request_approvers WHERE request_id = ?", (pending,))]
    made = []

    def waiting(n):
        at = now - n * 1_000_000
        made.append(("req_" + ulid(at), now + DAY + n))
        who = random.choice(people)
        return {**waits, "id": made[-1][0], "requester_id": who, "subject_id": who, "created_at": at,
                "lapses_at": now + DAY + n, "due_at": now + DAY + n}

    insert(db, "requests", (waiting(n) for n in range(PENDING)))
    insert(db, "request_approvers", (
        {"group_name": g, "request_id": r, "lapses_at": lapses, "emergency": 0} for r, lapses in made for g in approvers
    ))
    for template, count in ((live, LIVE), (past, PAST)):
        grant = columns(db, "grants", "id", template)
        request = columns(db, "requests", "id", grant["request_id"])
        over = template == past
        batch = 50_000
        for start in range(0, count, batch):
            ids = []

            def asked(n):
                at = now - (start + n) * 30_000_000
                who = ana["id"] if n % 1000 == 0 else random.choice(people)
                ids.append(("req_" + ulid(at), "grt_" + ulid(at), who, at))
                return {**request, "id": ids[-1][0], "requester_id": who, "subject_id": who, "created_at": at, "decided_at": at}

            def granted(row):
                end = row[3] + DAY // 24 if over else now + DAY
                return {**grant, "id": row[1], "request_id": row[0], "holder_id": row[2], "created_at": row[3],
                        "activated_at": row[3], "not_after": end, "due_at": None if over else end}

            insert(db, "requests", (asked(n) for n in range(min(batch, count - start))))
            insert(db, "grants", (granted(row) for row in ids))
    db.execute("ANALYZE")
    db.commit()
    db.close()


async def latencies(client, path):
    for _ in range(10):
        status, _, text = await client.call("GET", path)
        assert status == 200, (path, status, text[:200])
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await client.call("GET", path)
        taken.append(time.perf_counter() - begun)
    taken.sort()
    return len(text), taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000


async def pages(server, bare_port, pending, live):
    failed = False
    clients = {who: await signed_in(server.port, who) for who in ("ana", "ben", "eve")}
    request = f"/requests/{pending}"
    places = [
        ("ana", "/"), ("ana", "/catalog"), ("ana", "/request?e=ssh:deploy"), ("ana", request), ("ana", f"/grants/{live}"),
        ("ana", "/grants"), ("ana", "/people/me"), ("ben", "/approvals"), ("ben", request), ("eve", "/grants"),
        ("eve", "/grants?show=over"), ("eve", "/people"), ("eve", "/people/ana"), ("eve", "/agents"), ("eve", "/audit"),
        ("eve", "/policies"), ("eve", "/approvals"),
    ]
    bare = Client(bare_port)
    print(f"{'page':28} {'bytes':>8} {'p50 ms':>8} {'p99 ms':>8} {'bare p99':>9} {'ratio':>6}")
    for who, path in places:
        size, p50, p99 = await latencies(clients[who], path)
        _, _, bare_p99 = await latencies(bare, f"/{size}")
        ratio = p99 / bare_p99
        failed |= ratio > RATIO
        mark = "" if ratio <= RATIO else "  ABOVE"
        name = f"{who} {path.replace(pending, 'ID').replace(live, 'ID')}"
        print(f"{name:28} {size:8} {p50:8.2f} {p99:8.2f} {bare_p99:9.2f} {ratio:6.1f}{mark}")
    return failed


async def streams(server, ledger):
    # One person may have only a few at once: sessions of many.
    cookies = [(await signed_in(server.port, "eve")).cookie for _ in range(-(-STREAMS // EACH))]
    db = sqlite3.connect(ledger, timeout=30)
    sessions = [row[0] for row in db.execute("SELECT id FROM sessions ORDER BY created_at DESC LIMIT ?", (len(cookies),))]
    people = [row[0] for row in db.execute("SELECT id FROM identities WHERE name LIKE 'person-%' LIMIT ?", (len(cookies),))]
    db.executemany("UPDATE sessions SET identity_id = ? WHERE id = ?", list(zip(people, sessions)))
    eve = columns(db, "identities", "name_key", "eve")["id"]
    sees = db.execute("SELECT group_id FROM memberships WHERE identity_id = ? AND grant_id = ''", (eve,)).fetchall()
    model = columns(db, "memberships", "identity_id", eve)
    insert(db, "memberships", ({**model, "group_id": g, "identity_id": p} for p in people for (g,) in sees))
    db.commit()
    db.close()
    before = server.memory()
    open_streams, refused = [], 0

    async def listen(cookie):
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            refused += 1
            return
        await reader.readuntil(b"\n\n")
        open_streams.append((reader, writer))

    for start in range(0, STREAMS, 100):
        await asyncio.gather(*(listen(cookies[n // EACH]) for n in range(start, min(start + 100, STREAMS))))
    after = server.memory()
    each = (after - before) * 1024 / max(len(open_streams), 1)
    print(f"{len(open_streams)} streams open, {refused} refused; memory {before:.0f} → {after:.0f} MiB, {each:.1f} KiB each")
    heard = [asyncio.create_task(reader.readuntil(b"event: happened")) for reader, _ in open_streams]
    begun = time.perf_counter()
    client = Client(server.port)
    body = json.dumps({"entitlements": ["tokens:orders-read"], "reason": "measuring", "duration": "1h"})
    await client.call("POST", "/v1/requests", body, server.access["people"]["ana"]["token"])
    done, late = await asyncio.wait(heard, timeout=60)
    print(f"a change reached {len(done)} of them after {time.perf_counter() - begun:.2f} s; memory {server.memory():.0f} MiB")
    for task in late:
        task.cancel()
    return bool(refused or late)


async def main():
    program, bare = ARGS
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with tempfile.TemporaryDirectory() as data:
        server = Server(program, data)
        pending, live, past = await templates(server)
        server.stop()
        begun = time.perf_counter()
        ledger = next(os.path.join(root, f) for root, _, files in os.walk(data) for f in files if f.endswith(".db"))
        enlarge(ledger, pending, live, past)
        print(f"ledger of {os.path.getsize(ledger) / 2**20:.0f} MiB made in {time.perf_counter() - begun:.0f} s")
        server = Server(program, data)
        beside = subprocess.Popen([bare, str(free_port())], stdout=subprocess.PIPE, text=True)
        bare_port = int(beside.stdout.readline())
        try:
            failed = await pages(server, bare_port, pending, live)
            failed |= await streams(server, ledger)
        finally:
            beside.terminate()
            server.stop()
    sys.exit(1 if failed else 0)


asyncio.run(main())
