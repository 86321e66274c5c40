"""Test server for the client of Weights & Biases."""

import base64
import contextlib
import functools
import gzip
import http.server
import json
import threading
import typing as tp
from dataclasses import dataclass, field

HISTORY = "wandb-history.jsonl"


@dataclass
class Received:
    """Data sent by clients: one run, its curves by line, its files by name."""

    address: str = ""
    run: dict[str, tp.Any] = field(default_factory=dict)  # as created by the client
    curves: list[dict[str, tp.Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200  # of every response,
    status_later: int = 200  # after the run was created

    def answer(self, query: str, variables: dict[str, tp.Any]) -> dict[str, tp.Any]:
        """Response to a request of the GraphQL interface."""
        if "upsertBucket" in query:
            self.run |= {key: value for key, value in variables.items() if value is not None}
            self.status = self.status_later
            return {"upsertBucket": {"bucket": self.bucket(), "inserted": not self.curves}}
        if "RunResumeStatus" in query:
            bucket = self.bucket() if self.curves else None
            return {"model": {"id": "p", "name": "p", "entity": ENTITY, "bucket": bucket}}
        if "createRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.address}/upload/{name}"}
                for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {}

    def bucket(self) -> dict[str, tp.Any]:
        """The stored run."""
        last = self.curves[-1:]
        return {
            "id": base64.b64encode(b"Run:1").decode(),
            "name": self.run["name"],
            "displayName": self.run.get("displayName"),
            "config": self.run.get("config", "{}"),
            "project": {"id": "p", "name": self.run["project"], "entity": ENTITY},
            "historyLineCount": len(self.curves),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in last]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(last[0] if last else {}),
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }


ENTITY = {"id": "e", "name": "someone"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args, received: Received):
        self.received = received
        super().__init__(*args)

    def content(self) -> bytes:
        """The body of a request, decoded."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_compressed = self.headers.get("Content-Encoding") == "gzip"
        return gzip.decompress(content) if is_compressed else content

    def do_POST(self) -> None:
        content, status = self.content(), self.received.status
        answer: dict[str, tp.Any] = {}
        if status == 200 and self.path == "/graphql":
            request = json.loads(content)
            answer = {
                "data": self.received.answer(request["query"], request.get("variables") or {})
            }
        elif status == 200 and self.path.endswith("/file_stream"):
            lines = json.loads(content).get("files", {}).get(HISTORY)
            if lines:
                self.received.curves[lines["offset"] :] = map(json.loads, lines["content"])
        self.reply(status, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        self.received.files[self.path.removeprefix("/upload/")] = self.content()
        self.reply(self.received.status, b"")

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args) -> None:
        """Disables request logs."""


@contextlib.contextmanager
def wandb_server() -> tp.Iterator[Received]:
    """Run the server on this machine; yields what it receives."""
    received = Received()
    handler = functools.partial(Handler, received=received)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        received.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()
