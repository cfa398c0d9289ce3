"""A stand-in for the hub's file endpoints on this machine: pages, large files behind a redirect, ranges, cuts, lies, a record of it all."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LARGE = {".safetensors", ".bin", ".ckpt", ".msgpack"}


@dataclass
class Hub:
    """Pages by id and revision, how they misbehave, and what was asked."""

    pages: dict[tuple[str, str], Path] = field(default_factory=dict)
    discussions: dict[str, list[dict]] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    """File → bytes after which its next download is cut off."""
    down: set[str] = field(default_factory=set)
    lies: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path, and the Range header."""
    tokens: list[tuple[str, str | None]] = field(default_factory=list)
    """Host, and the Authorization header."""
    endpoint: str = ""

    def add(self, hub_id: str, folder: Path, revision: str = "main") -> None:
        """Publish a folder."""
        self.pages[hub_id, revision] = Path(folder)

    def offer(self, hub_id: str, number: int, *, author: str = "SFconvertbot") -> None:
        """Open a pull request as the converting bot does."""
        title = "Adding `safetensors` variant of this model"
        row = {"num": number, "title": title, "isPullRequest": True, "status": "open", "createdAt": "2024-01-01T00:00:00.000Z"}
        self.discussions.setdefault(hub_id, []).append({**row, "author": {"name": author}, "repo": {"name": hub_id, "type": "model"}})

    def downloads(self) -> list[str]:
        """Names of the files whose contents were sent, in order."""
        found = [re.fullmatch(r"/[^/]+/[^/]+/resolve/[^/]+/(.+)", path) for method, path, _ in self.asked if method == "GET"]
        return [match.group(1) for match in found if match]

    def ids(self) -> list[str]:
        """Ids whose pages were asked for, in order."""
        found = [re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/.*", path) for _, path, _ in self.asked]
        return [match.group(1) for match in found if match]

    def page(self, hub_id: str, revision: str) -> tuple[str, Path] | None:
        """Commit and folder."""
        for (known, name), folder in self.pages.items():
            commit = hashlib.sha1(f"{known}@{name}".encode()).hexdigest()
            if known == hub_id and revision in (name, commit):
                return commit, folder
        return None


def serve(hub: Hub) -> ThreadingHTTPServer:
    """Start it in a thread; ``hub.endpoint`` says where."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": hub}))
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens.append((self.headers["Host"], self.headers.get("Authorization")))
        for pattern, serve_it in (
            (r"/api/models/([^/]+/[^/]+)/revision/(.+)", self._info),
            (r"/api/models/([^/]+/[^/]+)/tree/(.+)", self._tree),
            (r"/api/models/([^/]+/[^/]+)/discussions", self._discussions),
            (r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", self._file),
            (r"/store/([^/]+/[^/]+)/(.+?)/at/(.+)", self._stored),
        ):
            if match := re.fullmatch(pattern, path):
                serve_it(*match.groups())
                return
        self._send(404)

    def _send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _json(self, content):
        self._send(200, json.dumps(content).encode(), Content_Type="application/json")

    def _files(self, folder):
        return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]

    def _found(self, hub_id, revision):
        found = self.hub.page(hub_id, revision)
        if found is None:
            self._send(404, X_Error_Code="RepoNotFound")
        return found

    def _info(self, hub_id, revision):
        if found := self._found(hub_id, revision):
            siblings = []
            for name, data in self._files(found[1]):
                lfs = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130} if _large(name) else None
                siblings.append({"rfilename": name, "size": len(data), "blobId": _oid(data), **({"lfs": lfs} if lfs else {})})
            self._json({"id": hub_id, "sha": found[0], "siblings": siblings})

    def _tree(self, hub_id, revision):
        if found := self._found(hub_id, revision):
            rows = []
            for name, data in self._files(found[1]):
                lfs = {"size": len(data), "oid": hashlib.sha256(data).hexdigest(), "pointerSize": 130} if _large(name) else None
                rows.append({"type": "file", "path": name, "size": len(data), "oid": _oid(data), **({"lfs": lfs} if lfs else {})})
            self._json(rows)

    def _discussions(self, hub_id):
        rows = self.hub.discussions.get(hub_id, [])
        self._json({"discussions": rows, "count": len(rows), "start": 0})

    def _file(self, hub_id, revision, name):
        found = self._found(hub_id, revision)
        if not found:
            return
        commit, folder = found
        if not (folder / name).is_file():
            self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        data = (folder / name).read_bytes()
        if _large(name):  # elsewhere, as on the real hub: another host that must not see the token
            host = self.hub.endpoint.replace("127.0.0.1", "localhost")
            digest = hashlib.sha256(data).hexdigest()
            about = {"X_Repo_Commit": commit, "X_Linked_Etag": f'"{digest}"', "X_Linked_Size": len(data)}
            self._send(302, Location=f"{host}/store/{hub_id}/{commit}/at/{name}", **about)
        else:
            self._send(200, self.hub.lies.get(name, data), ETag=f'"{_oid(data)}"', X_Repo_Commit=commit)

    def _stored(self, hub_id, commit, name):
        if name in self.hub.down:
            self._send(500)
            return
        data = self.hub.lies.get(name, (self.hub.page(hub_id, commit)[1] / name).read_bytes())
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-").group(1))
        part = data[start:]
        after = self.hub.cuts.pop(name, None)
        ranged = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if after is None:
            self._send(206 if start else 200, part, **ranged)
        else:
            self._send(206 if start else 200, part[:after], **ranged | {"Content_Length": len(part)})


def _large(name: str) -> bool:
    return Path(name).suffix in _LARGE


def _oid(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
