"""The page on this machine: it serves a ballot and stores every answer at once.

    with Server(folder) as server:            # loopback, any free port
        print(server.url); server.serve_forever()

    GET  /                      the page
    GET  /pictures/<name>.png   a picture of the ballot
    GET  /answers?rater=ann     what this rater answered already, and on which sheet
    POST /answers               {"rater": "ann", "answer": {...}}

Raters have names or codes, no accounts: who gives the same name goes on where that one stopped. Beyond the loopback
interface everything lies under a random path, which is part of the address that raters are given.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from brushwork import __version__, progress
from brushwork.errors import UserError
from brushwork.voting import answers, page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brushwork.voting.ballot import BallotFolder

LOOPBACK = "127.0.0.1"
LARGEST = 1 << 16
"""Bytes of a request's body; an answer has a few hundred."""
MOST_RATERS = 500
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Booth:
    """Takes the answers to one ballot, one at a time."""

    def __init__(self, folder: BallotFolder) -> None:
        self.folder, self.lock = folder, threading.Lock()

    def sheet_of(self, rater: str) -> dict[str, Any]:
        """Return a rater's sheet and answers; one who is new gets the next sheet in turn.

        Raises:
            UserError: There are too many raters.
        """
        path = answers.file_of(self.folder.answers, rater)
        known = answers.stored(path)
        if known is not None:
            return {"sheet": known["sheet"], "answers": known["answers"]}
        count = len(list(self.folder.answers.glob("*.json")))
        if count >= MOST_RATERS:
            message = f"There are {count} raters already, which is the most."
            raise UserError(message)
        sheet = count % len(self.folder.ballot.sheets)
        answers.store(path, self.folder.ballot, rater, sheet, [])
        progress.note(f"{rater} begins (sheet {sheet})")
        return {"sheet": sheet, "answers": []}

    def take(self, rater: str, row: Mapping[str, Any]) -> int:
        """Store an answer, in the place of an earlier one to the same question, and return how many there are.

        Raises:
            UserError: It does not agree with the ballot.
        """
        told = self.sheet_of(rater)
        answers.check(row, self.folder.ballot, told["sheet"], rater)
        kept = {(each["place"], each["question"]): each for each in told["answers"]}
        kept[row["place"], row["question"]] = dict(row)
        rows = [kept[key] for key in sorted(kept)]
        answers.store(answers.file_of(self.folder.answers, rater), self.folder.ballot, rater, told["sheet"], rows)
        if len(rows) == len(self.folder.ballot.sheets[told["sheet"]]) * len(self.folder.ballot.questions):
            progress.note(f"{rater} is done")
        return len(rows)


class Server(ThreadingHTTPServer):
    """Serves one ballot."""

    daemon_threads = True

    def __init__(self, folder: BallotFolder, host: str = LOOPBACK, port: int = 0) -> None:
        """Bind an address; port 0 takes any that is free.

        Raises:
            UserError: The address or the port cannot be taken.
        """
        self.folder, self.booth = folder, Booth(folder)
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            message = f"--host {host} --port {port}: {error}. Leave --port out to take any that is free."
            raise UserError(message) from error
        self.local = is_loopback(str(self.server_address[0]))
        self.prefix = "/" if self.local else f"/{secrets.token_urlsafe(9)}/"
        self.html = page.render(folder.ballot, "server").encode()

    @property
    def url(self) -> str:
        """What raters open."""
        host, port = str(self.server_address[0]), self.server_address[1]
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104  (compared, not bound)
        return f"http://{shown}:{port}{self.prefix}"


class Handler(BaseHTTPRequestHandler):
    """Answers the four kinds of requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = f"brushwork/{__version__}"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """Send the page, a picture, or what a rater answered."""
        place = self._place()
        if place is None:
            return
        asked = urlsplit(place)
        name = asked.path.removeprefix("pictures/").removesuffix(".png")
        if asked.path == "":
            self._send(200, self.server.html, "text/html; charset=utf-8")
        elif asked.path == f"pictures/{name}.png" and name in self.server.folder.ballot.pictures:
            data = (self.server.folder.pictures / f"{name}.png").read_bytes()
            self._send(200, data, "image/png", cache="private, max-age=86400, immutable")
        elif asked.path == "answers":
            rater = parse_qs(asked.query).get("rater", [""])[0]
            self._reply(lambda: self.server.booth.sheet_of(answers.name_of(rater)))
        else:
            self._refuse(404, "There is no such page.")

    def do_POST(self) -> None:
        """Store an answer."""
        place = self._place()
        if place is None:
            return
        length = self.headers.get("Content-Length", "")
        if place != "answers":
            self._refuse(404, "There is no such page.")
        elif self.headers.get_content_type() != "application/json":
            # A foreign page can post forms here without asking the browser, but not JSON.
            self._refuse(415, "Answers are sent as application/json.")
        elif not (length.isascii() and length.isdigit()) or int(length) > LARGEST:
            self._refuse(413, f"An answer has a length, of at most {LARGEST} bytes.")
        else:
            body = self.rfile.read(int(length))
            self._reply(lambda: self._taken(body))

    def _taken(self, body: bytes) -> dict[str, Any]:
        try:
            told = json.loads(body)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"That is no JSON: {error}"
            raise UserError(message) from error
        if not isinstance(told, dict):
            message = "An answer is an object with rater and answer."
            raise UserError(message)
        return {"stored": self.server.booth.take(answers.name_of(told.get("rater")), told.get("answer") or {})}

    def _reply(self, work: Any) -> None:
        """Send what some work on the answers returns, or why it was refused; one at a time."""
        try:
            with self.server.booth.lock:
                value = work()
        except UserError as error:
            self._refuse(400, str(error))
        else:
            self._send(200, json.dumps(value).encode(), "application/json")

    def _place(self) -> str | None:
        """Return what is asked for, without the prefix; refuse names that a foreign site could have made ours."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if self.server.local and not is_loopback(host):
            self._refuse(403, "This page is for this machine only.")
        elif not self.path.startswith(self.server.prefix):
            self._refuse(404, "There is no such page.")
        else:
            return self.path.removeprefix(self.server.prefix)
        return None

    def _refuse(self, code: int, message: str) -> None:
        self.close_connection = True  # what is left of the body is not read
        self._send(code, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, code: int, data: bytes, kind: str, cache: str = "no-store") -> None:
        self.send_response(code)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": cache,
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
        """Stay silent: who votes when is nobody's business."""


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(server: Server) -> None:
    """Serve until Ctrl-C."""
    with server:
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            progress.note("no longer served; every answer is stored")
