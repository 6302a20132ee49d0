"""What the server does besides pages: cookies, pass phrases, roles, short links."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.cookies import SimpleCookie

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from etp.ui import jobs, server, visitors
from tests.make import run_of


class Answer:
    def __init__(self, messages: list[Message]) -> None:
        start = messages[0]
        self.status: int = start["status"]
        self.headers = [(k.decode(), v.decode()) for k, v in start["headers"]]
        self.text = b"".join(m.get("body", b"") for m in messages[1:])

    def cookies(self) -> dict[str, str]:
        jar: SimpleCookie = SimpleCookie()
        for name, value in self.headers:
            if name == "set-cookie":
                jar.load(value)
        return {name: morsel.value for name, morsel in jar.items()}


def ask(path: str, body: bytes = b"", client: str = "127.0.0.1", **headers: str) -> Answer:
    parts = server.parts()
    given = {"host": "127.0.0.1", "accept": "text/html", **headers}
    app = Starlette(routes=parts["routes"], middleware=parts["middleware"])
    scope = {
        "type": "http", "method": "POST" if body else "GET", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
        "server": ("127.0.0.1", 80),
        "http_version": "1.1", "client": (client, 1),
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }  # fmt: skip
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return Answer(sent)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch) -> Iterator[None]:
    jobs.store.cache_clear()
    monkeypatch.setattr(server, "_last_wrong", -100.0)
    yield
    jobs.store.cache_clear()


def test_a_browser_gets_a_visitor_once_and_a_forged_one_is_replaced():
    cookie = ask("/enter").cookies()[visitors.VISITOR]
    who = visitors.unsigned(cookie)
    assert who is not None
    assert ask("/enter", cookie=f"{visitors.VISITOR}={cookie}").cookies() == {}
    forged = ask("/enter", cookie=f"{visitors.VISITOR}={who}.{'0' * 32}").cookies()
    assert visitors.unsigned(forged[visitors.VISITOR]) not in (None, who)
    assert len(visitors.label(who).split()) == 2


def test_a_file_brings_no_visitor():
    assert ask("/r/none/picture.png", accept="image/png").cookies() == {}


def test_the_phrase_opens_a_role_and_wrong_ones_wait(monkeypatch):
    monkeypatch.setenv("ETP_PHRASE", "open sesame")
    monkeypatch.setenv("ETP_ADMIN_PHRASE", "open everything")
    wrong = ask("/enter", b"phrase=open")
    assert (wrong.status, wrong.cookies().get(visitors.ROLE)) == (403, None)
    assert ask("/enter", b"phrase=open+sesame").status == 429
    for phrase, role in (("open+sesame", "runner"), ("open+everything", "administrator")):
        monkeypatch.setattr(server, "_last_wrong", -100.0)
        right = ask("/enter", f"phrase={phrase}".encode())
        assert right.status == 303
        assert visitors.unsigned(right.cookies()[visitors.ROLE]) == role


def test_a_form_of_another_site_is_refused(monkeypatch):
    monkeypatch.setenv("ETP_PHRASE", "p")
    assert ask("/enter", b"phrase=p", origin="https://evil.example").status == 403
    assert ask("/enter", b"phrase=p", origin="http://127.0.0.1").status == 303


@pytest.mark.parametrize(
    ("mode", "loopback", "cookie", "email", "role"),
    [
        (None, True, None, None, "administrator"),
        (None, False, None, None, "reader"),
        ("open", False, None, None, "runner"),
        ("phrase", False, None, None, "reader"),
        ("phrase", False, "administrator", None, "reader"),
        ("oidc", False, None, None, "reader"),
        ("oidc", False, None, "a@x", "administrator"),
        ("oidc", False, None, "b@x", "runner"),
        ("oidc", False, None, "c@x", "reader"),
    ],
)
def test_roles(mode, loopback, cookie, email, role):
    access = visitors.Access(mode, administrators=("a@x",), runners=("b@x",))
    assert visitors.role_of(access, loopback=loopback, cookie=cookie, email=email) == role
    if mode == "phrase":
        signed = visitors.signed("administrator")
        assert visitors.role_of(access, loopback=loopback, cookie=signed, email=None) == (
            "administrator"
        )


def test_only_owners_and_administrators_change_a_run():
    ann, bob = visitors.Visitor("ann", "", "runner"), visitors.Visitor("bob", "", "reader")
    assert ann.may_change("ann")
    assert not ann.may_change("bob")
    assert not bob.may_change("bob")
    assert visitors.Visitor("x", "", "administrator").may_change("ann")


def test_a_wrong_configuration_is_named(tmp_path, monkeypatch):
    path = tmp_path / "etp.toml"
    path.write_text('[access]\nmode = "opn"\n')
    with pytest.raises(ValueError, match="opn"):
        visitors.access({"ETP_CONFIG": str(path)})
    with pytest.raises(ValueError, match="ETP_PHRASE"):
        visitors.access({"ETP_ACCESS": "phrase"})
    path.write_text('[access]\nadministrators = "ann@example.org"\n')
    with pytest.raises(ValueError, match="administrators must be a list of addresses"):
        visitors.access({"ETP_CONFIG": str(path)})


@pytest.mark.parametrize("text", [None, "[limit]\njobs = 1", "[limits]\nlmax = 'high'", "[["])
def test_a_server_with_a_wrong_configuration_ends_with_one_line(text, tmp_path, monkeypatch):
    path = tmp_path / "etp.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("ETP_CONFIG", str(path))
    with pytest.raises(SystemExit, match=f"^etp: [^\n]*{path}[^\n]*$"):
        server.parts()


def test_a_published_run_has_a_short_link_with_a_picture_and_others_have_none():
    store = jobs.store()
    store.add_job("abc123abc123", "Compare", [{"problem": {}}], owner="ann")
    rows = [r.with_(job="abc123abc123") for r in run_of({"a": 1e-3})]
    store.add_rows(rows)
    store.update_job("abc123abc123", state="done")
    assert ask("/r/abc123abc123").status == 404
    store.update_job("abc123abc123", published=1.0)
    page = ask("/r/abc123abc123")
    assert page.status == 200
    for part in (b'property="og:image"', b"picture.png", b"?job=abc123abc123", b"Compare: MIMO"):
        assert part in page.text
    assert ask("/r/none").status == 404


def test_health_and_metrics_are_for_the_machine_itself(monkeypatch):
    told = ask("/metrics")
    assert told.status == 200
    lines = dict(line.rsplit(" ", 1) for line in told.text.decode().splitlines())
    assert lines['etp_jobs{state="running"}'] == "0"
    assert float(lines["process_resident_memory_bytes"]) > 1e6
    # No pages are served in this test, and it says so.
    assert (ask("/health").status, b"no sessions" in ask("/health").text) == (503, True)
    for path in ("/health", "/metrics", "/_stcore/metrics", "/metrics/"):
        assert ask(path, forwarded="for=127.0.0.1").status == 404
        assert ask(path, client="192.0.2.7").status == 404


def test_a_base_path_goes_before_every_address(monkeypatch):
    monkeypatch.setattr(visitors, "base_path", lambda: "/tools/etp")
    assert ask("/enter").status == 404
    assert ask("/tools/etp/enter").status == 200
    left = ask("/tools/etp/leave")
    assert dict(left.headers)["location"] == "http://127.0.0.1/tools/etp/"
