"""A real HTTP server on loopback that speaks the chat-completions protocol, well or badly, as it is told.

Each request is answered by the next behaviour of the script, and by `usual` when there is none left.
"""

import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request and what is done with it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def do_POST(self) -> None:
        content = self.rfile.read(length := int(self.headers["Content-Length"]))
        if len(content) < length:  # the client has given up
            self.close_connection = True
            return
        self.body = json.loads(content)
        headers = {name.lower(): value for name, value in self.headers.items()}
        behaviour = self.server.begin(self.path, headers, self.body)
        try:
            behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has given up
        finally:
            self.server.end()

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.start(status, len(body), headers)
        self.wfile.write(body)

    def start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: tests look at `requests`."""


class Server(ThreadingHTTPServer):
    """Listens while it is used as a context manager; `requests` are the bodies that came, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.script: deque[Behaviour] = deque()
        self.usual: Behaviour = says("x = 1")
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.released = threading.Event()  # lets go what hangs or is held
        self.came = threading.Condition()
        self.under_way = 0
        self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def prompt(self, number: int) -> str:
        """The last message of a request."""
        return str(self.requests[number]["messages"][-1]["content"])

    def begin(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Behaviour:
        with self.came:
            self.paths.append(path)
            self.headers.append(headers)
            self.requests.append(body)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.came.notify_all()
            return self.script.popleft() if self.script else self.usual

    def end(self) -> None:
        with self.came:
            self.under_way -= 1

    def wait_for(self, requests: int) -> None:
        """Returns when so many requests have come; fails after a minute."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.requests) >= requests, timeout=60)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client has given up
            super().handle_error(request, client_address)

    def __enter__(self) -> "Server":
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


def completion(text: Any, **given: Any) -> bytes:
    """The body of a reply. `usage` and `finish_reason` may be given; all else goes into the message."""
    usage = given.pop("usage", {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120})
    choice = {"index": 0, "finish_reason": given.pop("finish_reason", "stop")}
    choice["message"] = {"role": "assistant", "content": text} | given
    body = {"id": "1", "object": "chat.completion", "model": "stub-1", "choices": [choice]}
    return json.dumps(body if usage is None else body | {"usage": usage}).encode()


def says(text: Any, **given: Any) -> Behaviour:
    """Answers as it should; see `completion`."""
    return lambda exchange: exchange.send(200, completion(text, **given))


def sends(body: bytes, status: int = 200, **headers: str) -> Behaviour:
    """Answers with any body."""
    return lambda exchange: exchange.send(status, body, headers)


def refuses(status: int, message: str = "no", code: str | None = None, **headers: str) -> Behaviour:
    """Answers with an error in the form that OpenAI gives it; underscores in `headers` become hyphens."""
    body = json.dumps({"error": {"message": message, "code": code, "type": "some_error"}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.send(status, body, named)


def hangs(exchange: Exchange) -> None:
    """Never answers."""
    exchange.server.released.wait(60)
    exchange.close_connection = True


def breaks_off(exchange: Exchange) -> None:
    """Closes the connection in the middle of a reply."""
    body = completion("x = 1" * 1000)
    exchange.start(200, len(body))
    exchange.wfile.write(body[: len(body) // 2])
    exchange.close_connection = True


def hangs_up(exchange: Exchange) -> None:
    """Closes the connection without a word."""
    exchange.close_connection = True


def drips(exchange: Exchange) -> None:
    """Sends a blank from time to time, as relays do to keep a connection, and never comes to an end."""
    exchange.start(200, 1_000_000)
    while not exchange.server.released.wait(0.02):
        exchange.wfile.write(b" ")
        exchange.wfile.flush()


def slowly_says(text: str, pieces: int = 20) -> Behaviour:
    """Answers in small pieces, blanks first."""

    def behaviour(exchange: Exchange) -> None:
        body = b"\n   \n" + completion(text)
        exchange.start(200, len(body))
        size = len(body) // pieces + 1
        for start in range(0, len(body), size):
            exchange.wfile.write(body[start : start + size])
            exchange.wfile.flush()
            exchange.server.released.wait(0.002)

    return behaviour


def holds(exchange: Exchange) -> None:
    """Answers once the test releases it."""
    assert exchange.server.released.wait(60)
    exchange.send(200, completion("x = 1"))
