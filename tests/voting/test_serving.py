"""The served page stores every answer at once, gives nothing away, and answers this machine only."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ballots import make_ballot, serving

from brushwork.errors import UserError
from brushwork.voting import answers
from brushwork.voting.serving import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(make_ballot(tmp_path)) as server:
        yield server


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    port = int(server.server_address[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} if data is not None else {}
    connection.request(
        method, path, data, {**given, **{key.replace("_", "-"): value for key, value in headers.items()}}
    )
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    told = json.loads(content) if reply.headers.get_content_type() == "application/json" else content
    return reply.status, told, dict(reply.headers)


def row(
    server: Server, place: int = 0, choice: str = "left", sheet: int = 0, question: str = "prompt"
) -> dict[str, Any]:
    pair, left, repeat = server.folder.ballot.sheets[sheet][place]
    told = {"place": place, "pair": pair, "left": left, "repeat": repeat}
    return {**told, "question": question, "choice": choice, "ms": 900}


def test_the_page_and_its_pictures_tell_nothing_of_the_models(server: Server) -> None:
    status, page, headers = ask(server, "GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"tuned" not in page
    assert b'data-mode="server"' in page
    name = server.folder.ballot.pairs[0].pictures[0]
    status, picture, headers = ask(server, "GET", f"/pictures/{name}.png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert picture == (server.folder.pictures / f"{name}.png").read_bytes()
    assert "Last-Modified" not in headers


@pytest.mark.parametrize(
    "path", ["/key.json", "/ballot.json", "/pictures/../key.json", "/pictures/..%2fkey.json.png", "/pictures/", "/x"]
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    assert ask(server, "GET", path)[0] == 404


def test_answers_are_stored_at_once_and_an_earlier_one_is_replaced(server: Server) -> None:
    assert ask(server, "GET", "/answers?rater=Ann%20%20B")[1] == {"sheet": 0, "answers": []}
    assert ask(server, "POST", "/answers", {"rater": "Ann B", "answer": row(server)})[1] == {"stored": 1}
    assert ask(server, "POST", "/answers", {"rater": "Ann B", "answer": row(server, choice="tie")})[1] == {"stored": 1}
    assert ask(server, "POST", "/answers", {"rater": "Ann B", "answer": row(server, 1)})[1] == {"stored": 2}
    found = answers.load(server.folder)
    assert [(each.rater, each.place, each.choice) for each in found] == [("Ann B", 0, "tie"), ("Ann B", 1, "left")]
    assert ask(server, "GET", "/answers?rater=Ann%20B")[1]["answers"] == [row(server, choice="tie"), row(server, 1)]


def test_raters_get_sheets_in_turn_and_names_that_look_alike_stay_apart(server: Server) -> None:
    assert [ask(server, "GET", f"/answers?rater={name}")[1]["sheet"] for name in ("a", "A", "%C3%A4", "a")] == [
        0,
        1,
        2,
        0,
    ]
    assert len(list(server.folder.answers.glob("*.json"))) == 3


def test_many_raters_at_once_lose_nothing(server: Server) -> None:
    def vote(name: str) -> None:
        sheet = ask(server, "GET", f"/answers?rater={name}")[1]["sheet"]
        for place in range(4):
            ask(server, "POST", "/answers", {"rater": name, "answer": row(server, place, sheet=sheet)})

    threads = [threading.Thread(target=vote, args=(f"r{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers.load(server.folder)) == 20


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 60_000, {}, 400),
        ({"rater": "ann", "answer": {**dict.fromkeys(("left", "pair"), 0), "place": 0, "question": []}}, {}, 400),
        ({"rater": "", "answer": {}}, {}, 400),
        ({"rater": "ann", "answer": {"place": 0}}, {}, 400),
        ({"rater": "a\nb\x00", "answer": {}}, {}, 400),
        (b"rater=ann", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        (b"x" * 70_000, {}, 413),
        ({"rater": "ann"}, {"Host": "evil.example"}, 403),
    ],
)
def test_what_is_no_answer_is_refused_and_leaves_nothing_broken(
    server: Server, body: Any, headers: dict[str, str], status: int
) -> None:
    code, told, _ = ask(server, "POST", "/answers", body, **headers)
    assert code == status
    assert told["error"]
    assert ask(server, "POST", "/answers", {"rater": "ok", "answer": row(server, sheet=0)})[0] in (200, 400)
    assert ask(server, "GET", "/")[0] == 200


def test_an_answer_to_another_sheet_is_refused(server: Server) -> None:
    ask(server, "GET", "/answers?rater=first")
    ask(server, "GET", "/answers?rater=second")
    wrong = row(server, 0, sheet=0)
    status, told, _ = ask(server, "POST", "/answers", {"rater": "second", "answer": wrong})
    assert (status, "shows pair" in told["error"]) == (400, True)


def test_beyond_this_machine_the_address_holds_a_secret(tmp_path: Path) -> None:
    with serving(make_ballot(tmp_path), "0.0.0.0") as server:  # noqa: S104  (that is what is tested)
        assert len(server.prefix) > 10
        assert server.url.endswith(server.prefix)
        host = {"Host": "somewhere.local"}
        assert ask(server, "GET", "/", **host)[0] == 404
        assert ask(server, "GET", "/answers?rater=a", **host)[0] == 404
        assert ask(server, "GET", server.prefix, **host)[0] == 200
        assert ask(server, "GET", f"{server.prefix}answers?rater=a", **host)[1] == {"sheet": 0, "answers": []}


def test_a_port_that_is_taken_is_said(server: Server) -> None:
    with pytest.raises(UserError, match=r"--port \d+: .*Leave --port out"):
        Server(server.folder, port=int(server.server_address[1]))
