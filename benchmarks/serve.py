"""Load on the service: requests from many clients at once, each answer checked against the same call made alone; then SIGTERM under load.

    python benchmarks/serve.py --requests 200 --clients 16 --batch 1 --queue 8
    python benchmarks/serve.py --hostile --requests 200 --clients 16 --queue 32

With --hostile the requests are made twice: alone, and beside four clients who send files that claim far more than they are, or never read
their answers. It exits 1, too, where the 95 % of seconds is then more than three times that without them, where all processes together
take 2 GiB, or where SIGTERM does not end the service within drain_seconds.

The embedded pair, on loopback. Prints a Markdown table; exits 1 where an answer is wrong, an error is not 429, an accepted request is lost,
or the process does not end with 0.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

_ATTACKERS, _UNREAD, _DRAIN = 4, 25, 60.0  # clients; sockets that each of them keeps and never reads; seconds
_LISTENING = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    pixels: int = 0
    differing: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Count an answer."""
        with self.lock:
            self.statuses[what] += 1


@dataclass(frozen=True)
class Question:
    """One request, and its answer made alone."""

    data: bytes
    labels: str
    background: str
    ids: np.ndarray


def questions(count: int) -> list[Question]:
    """Scenes of two sizes with words of their own, answered in this process, one by one."""
    from nerveseg.segmenter import Segmenter
    from nerveseg.synthetic import scenes

    warnings.simplefilter("ignore")
    segmenter = Segmenter.from_pretrained("mini")
    found = []
    for index in range(count):
        size = ((96, 128), (128, 96))[index % 2]
        scene = scenes.render("test", index, size)
        out = BytesIO()
        Image.fromarray(scene.image).save(out, format="PNG")
        labels = [*scene.names, *(word for word in ("cat", "grass", "sky") if word not in scene.names)]
        auto = index % 3 == 0
        result = segmenter(out.getvalue(), labels, background="auto" if auto else None)
        found.append(Question(out.getvalue(), ", ".join(labels), "auto" if auto else "none", result.segmentation.numpy()))
    return found


def form(parts: dict[str, str], data: bytes) -> tuple[bytes, str]:
    """A form's body and its content type."""
    lines = b"".join(f'--XyZ\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode() for name, text in parts.items())
    head = b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return lines + head + data + b"\r\n--XyZ--\r\n", "multipart/form-data; boundary=XyZ"


class Client:
    """One connection, made again when it is lost."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=300)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Make one request; gives status, body and headers."""
        try:
            self.connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = self.connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def patient(self, seen: Seen, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Ask again after Retry-After while it says 429."""
        while True:
            status, content, found = self.ask(method, path, body, **headers)
            seen.count(str(status))
            if status != 429:
                return status, content
            time.sleep(float(found["retry-after"]) * random.uniform(0.5, 1.0))


def one(client: Client, question: Question, way: int, seen: Seen) -> None:
    """Ask one question in one of three ways, and compare."""
    words = {"labels": question.labels, "background": question.background}
    if way < 2:
        body, kind = form(words, question.data)
        accept = ("image/png", "application/json")[way]
        status, content = client.patient(seen, "POST", "/v1/segment", body, content_type=kind, accept=accept)
    else:
        accept = "application/json"
        body, kind = form({}, question.data)
        status, content = client.patient(seen, "POST", "/v1/encode", body, content_type=kind)
        if status == 201:
            handle = json.loads(content)["handle"]
            asked = json.dumps({"handle": handle, **words}).encode()
            status, content = client.patient(seen, "POST", "/v1/decode", asked, content_type="application/json", accept=accept)
            client.patient(seen, "DELETE", f"/v1/encode/{handle}")
    if status != 200:
        seen.wrong.append(f"{status}: {content[:200]!r}")
        return
    ids = np.asarray(Image.open(BytesIO(content))) if accept == "image/png" else painted(json.loads(content))
    with seen.lock:
        seen.pixels += ids.size
        seen.differing += int((ids != question.ids).sum()) if ids.shape == question.ids.shape else ids.size
    if ids.shape != question.ids.shape or (ids != question.ids).mean() > 1e-3:
        seen.wrong.append("another image's answer")


def painted(content: dict) -> np.ndarray:
    """Ids from run-length coded masks: a decoder of its own, in plain loops."""
    ids = np.full(content["size"], content["ignore"])
    for segment in content["segments"]:
        counts: list[int] = []
        value, shift = 0, 0
        for letter in segment["rle"]["counts"]:
            group = ord(letter) - 48
            value |= (group & 31) << shift
            shift += 5
            if not group & 32:
                value -= (1 << shift) if group & 16 else 0
                counts.append(value + (counts[-2] if len(counts) > 2 else 0))
                value, shift = 0, 0
        flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
        ids.T.reshape(-1)[flat] = segment["id"]
        ids[flat.reshape(ids.shape[::-1]).T] = segment["id"]
    return ids


def start(queue_size: int, batch: int, *more: str) -> tuple[subprocess.Popen[str], str]:
    """Start ``nerveseg serve`` on a free port; gives the process and its address."""
    command = [sys.executable, "-m", "nerveseg", "serve", "--recipe", "mini", "--port", "0", "--offline", "--quiet"]
    command += ["--limit", f"queue={queue_size}", "--limit", f"batch={batch}", "--limit", "seconds=300"]
    command += [part for one in more for part in ("--limit", one)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    for line in process.stderr or ():
        said.append(line)
        if found := _LISTENING.search(line):
            threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
            return process, found.group()
    raise SystemExit(f"the service did not start:\n{''.join(said)}")


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024  # type: ignore[union-attr]


def load(address: str, pid: int, asked: list[Question], requests: int, clients: int) -> tuple[Seen, list[float], float]:
    """All requests, by all clients; gives what they saw, the memory after each tenth, and seconds."""
    seen, todo, memory = Seen(), queue.Queue[int](), list[float]()
    for index in range(requests):
        todo.put(index)

    def work() -> None:
        client = Client(address)
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            started = time.perf_counter()
            try:
                one(client, asked[index % len(asked)], index % 3, seen)
            except (OSError, http.client.HTTPException) as error:
                seen.wrong.append(f"{type(error).__name__}: {error}")
            with seen.lock:
                seen.seconds.append(time.perf_counter() - started)
                if len(seen.seconds) % max(1, requests // 10) == 0:
                    memory.append(resident(pid))

    started = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen, memory, time.perf_counter() - started


def end_under_load(process: subprocess.Popen[str], address: str, asked: list[Question], clients: int) -> tuple[Counter[str], int, float]:
    """SIGTERM while clients ask; gives outcomes by when the request was begun, the exit code, and seconds to the end."""
    outcomes: Counter[str] = Counter()
    told, lock = threading.Event(), threading.Lock()

    def work(index: int) -> None:
        while True:
            client = Client(address)
            body, kind = form({"labels": asked[index % len(asked)].labels}, asked[index % len(asked)].data)
            before = not told.is_set()
            try:
                status, content, _ = client.ask("POST", "/v1/segment", body, content_type=kind, accept="image/png")
                right = status != 200 or len(content) > 0
                outcome = str(status) if right else "empty"
            except ConnectionRefusedError:
                outcome = "refused"
            except (OSError, http.client.HTTPException) as error:
                outcome = f"lost ({type(error).__name__})"
            with lock:
                outcomes[f"{'before' if before else 'after'}: {outcome}"] += 1
            if outcome == "refused" or outcome.startswith("lost"):
                return
            if status != 200:
                time.sleep(0.2)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(3.0)
    told.set()
    time.sleep(0.05)  # those that were begun before have reached the service
    started = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=200)
    seconds = time.perf_counter() - started
    for thread in threads:
        thread.join()
    return outcomes, code, seconds


@dataclass
class Attack:
    """Four clients with hostile files, until they are told to stop, and what all processes of the service take meanwhile."""

    address: str
    pid: int
    over: threading.Event = field(default_factory=threading.Event)
    statuses: Counter[str] = field(default_factory=Counter)
    health: Counter[str] = field(default_factory=Counter)
    most: float = 0.0

    def __enter__(self) -> Attack:
        from hostile_files import FILES

        forms = [(name, form({"labels": "cat, dog"}, make())[0]) for name, make in FILES.items()]
        work = [(self._send, (index, forms)) for index in range(_ATTACKERS)]
        self.threads = [threading.Thread(target=call, args=given) for call, given in [*work, (self._watch, ())]]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _send(self, first: int, forms: list[tuple[str, bytes]]) -> None:
        unread: list[socket.socket] = []
        parts = urlsplit(self.address)
        for index in range(first * 3, 1 << 30):
            if self.over.is_set():
                break
            name, body = forms[index % len(forms)]
            try:
                client = Client(self.address)
                status = str(client.ask("POST", "/v1/segment", body, content_type="multipart/form-data; boundary=XyZ")[0])
                client.connection.close()
                unread.append(socket.create_connection((parts.hostname, parts.port), timeout=10))
                unread[-1].sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                time.sleep(0.05)
            self.statuses[f"{name}: {status}"] += 1
            while len(unread) > _UNREAD:
                unread.pop(0).close()
        for door in unread:
            door.close()

    def _watch(self) -> None:
        while not self.over.wait(0.3):
            self.most = max(self.most, tree(self.pid))
            try:
                status, content, _ = Client(self.address).ask("GET", "/v1/health")
                self.health[json.loads(content).get("status") if status == 200 else str(status)] += 1
            except (OSError, http.client.HTTPException, ValueError):
                self.health["no answer"] += 1


def tree(pid: int) -> float:
    """MiB of memory of a process and its children."""
    total = 0.0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(place.read_text("utf-8").rpartition(")")[2].split()[1])
            total += resident(int(place.parent.name)) if pid in (parent, int(place.parent.name)) else 0.0
        except (OSError, AttributeError):  # gone meanwhile
            continue
    return total


def hostile(given: argparse.Namespace) -> None:
    """Good requests alone, and beside attackers; prints a table and exits."""
    asked = questions(given.scenes)
    process, address = start(given.queue, given.batch, f"drain_seconds={_DRAIN}")
    try:
        load(address, process.pid, asked, given.clients, given.clients)
        alone, _, _ = load(address, process.pid, asked, given.requests, given.clients)
        with Attack(address, process.pid) as attack:
            time.sleep(2.0)
            beside, _, _ = load(address, process.pid, asked, given.requests, given.clients)
            before = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=3 * _DRAIN)
            ended = time.perf_counter() - before
    finally:
        process.kill()
    times = [sorted(seen.seconds) for seen in (alone, beside)]
    ends = [one[int(len(one) * 0.95)] for one in times]
    rows = {
        "seconds of good requests, median and 95 %, alone": f"{times[0][len(times[0]) // 2]:.2f}, {ends[0]:.2f}",
        "the same beside 4 attackers": f"{times[1][len(times[1]) // 2]:.2f}, {ends[1]:.2f}",
        "ratio of the 95 %": f"{ends[1] / ends[0]:.2f}",
        "wrong answers": str(len(alone.wrong) + len(beside.wrong)),
        "what the attackers got": ", ".join(f"{name}: {count}" for name, count in sorted(attack.statuses.items())),
        "health meanwhile": ", ".join(f"{name}: {count}" for name, count in sorted(attack.health.items())),
        "most memory of all processes, MiB": f"{attack.most:.0f}",
        "SIGTERM under attack: exit code, seconds": f"{code}, {ended:.1f} (drain_seconds {_DRAIN:g})",
    }
    print(f"`python benchmarks/serve.py {' '.join(sys.argv[1:])}`, {os.cpu_count()} cores\n\n| what | found |\n|---|---|")
    for name, text in rows.items():
        print(f"| {name} | {text} |")
    for text in [*alone.wrong, *beside.wrong][:10]:
        print("wrong:", text)
    sys.exit(bool(alone.wrong or beside.wrong or ends[1] > 3 * ends[0] or attack.most > 2048 or ended > _DRAIN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--hostile", action="store_true")
    given = parser.parse_args()
    if given.hostile:
        hostile(given)
    asked = questions(given.scenes)
    process, address = start(given.queue, given.batch)
    try:
        seen, memory, taken = load(address, process.pid, asked, given.requests, given.clients)
        rounds = {line.split()[0]: float(line.split()[1]) for line in Client(address).ask("GET", "/metrics")[1].decode().splitlines()
                  if line.startswith("nerveseg_batch_pictures_") and "bucket" not in line}  # fmt: skip
        outcomes, code, ended = end_under_load(process, address, asked, given.clients)
    finally:
        process.kill()
    seconds = sorted(seen.seconds)
    rows = {
        "requests, clients, queue, batch": f"{given.requests}, {given.clients}, {given.queue}, {given.batch}",
        "answers by status": ", ".join(f"{status}: {count}" for status, count in sorted(seen.statuses.items())),
        "wrong answers": str(len(seen.wrong)),
        "pixels that differ from the call alone": f"{seen.differing} of {seen.pixels:,}",
        "requests a second": f"{given.requests / taken:.2f}",
        "seconds, median and 95 %": f"{seconds[len(seconds) // 2]:.2f}, {seconds[int(len(seconds) * 0.95)]:.2f}",
        "images a batch": f"{rounds['nerveseg_batch_pictures_sum'] / max(1, rounds['nerveseg_batch_pictures_count']):.2f}",
        "MiB after each tenth": ", ".join(f"{value:.0f}" for value in memory),
        "SIGTERM under load": ", ".join(f"{name}: {count}" for name, count in sorted(outcomes.items())),
        "exit code, seconds to the end": f"{code}, {ended:.1f}",
    }
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    print(f"`python benchmarks/serve.py {' '.join(sys.argv[1:])}`, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}\n")
    print("| what | found |\n|---|---|")
    for name, text in rows.items():
        print(f"| {name} | {text} |")
    for text in seen.wrong[:10]:
        print("wrong:", text)
    errors = [status for status in seen.statuses if status not in ("200", "201", "204", "429")]
    lost = [name for name in outcomes if name.startswith("before") and name.rsplit(" ", 1)[-1] not in ("200", "429")]
    sys.exit(bool(seen.wrong or errors or lost or code))


if __name__ == "__main__":
    main()
