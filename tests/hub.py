"""A stand-in for the hub's API on this machine: repositories, large files and commits, as its client speaks to it.

with Hub() as hub:                                  # hub.endpoint for HF_ENDPOINT
    ...
    hub.files["me/style"]["README.md"]
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Hub:
    """Remembers what was uploaded, and with which token."""

    def __init__(self, *, token: str = "hf_right") -> None:  # noqa: S107  (made up)
        self.token = token
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.commits: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                hub.large[hashlib.sha256(data).hexdigest()] = data
                hub.reply(self, {})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reply(self, request: Any, answer: Any, code: int = 200) -> None:
        body = json.dumps(answer).encode()
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def answer(self, request: Any, body: bytes) -> None:
        path = request.path.partition("?")[0]
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            self.reply(request, {"error": "Invalid user token."}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            self.created.append(asked)
            name = f"{asked['organization']}/{asked['name']}"
            self.files.setdefault(name, {})
            self.reply(request, {"url": f"{self.endpoint}/{name}"})
        elif path == "/api/validate-yaml":
            self.reply(request, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(("s", "g")) else "regular"}
                for each in json.loads(body)["files"]
            ]
            self.reply(request, {"files": [{**each, "shouldIgnore": False, "oid": None} for each in files]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            action = {"upload": {"href": f"{self.endpoint}/storage", "header": {}}}
            self.reply(request, {"transfer": "basic", "objects": [{**each, "actions": action} for each in objects]})
        elif "/commit/" in path:
            repo = path.split("/api/models/")[1].partition("/commit/")[0]
            self._commit(repo, body)
            url = f"{self.endpoint}/{repo}/commit/{'1' * 40}"
            self.reply(request, {"success": True, "commitUrl": url, "commitOid": "1" * 40, "hookOutput": ""})
        else:
            self.reply(request, {"error": f"nothing at {path}"}, 404)

    def _commit(self, repo: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[repo][value["path"]] = self.large[value["oid"]]
