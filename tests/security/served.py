"""A stand-in for the Hugging Face hub from which files are downloaded; it notes every request."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the files of a folder as the repository NAME, of models and of data sets."""

    NAME = "some/pipeline"

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked = folder, []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def files(self):
        """The files that were asked for."""
        return sorted({path.partition(f"/resolve/{COMMIT}/")[2] for path in self.asked if "/resolve/" in path} - {""})


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        """The files of a list of paths: `paths-info`."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0].replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        root = self.server.folder
        names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
        if path.startswith((f"/api/models/{Hub.NAME}/tree/", f"/api/models/{Hub.NAME}/paths-info/")):
            tree = [{"type": "file", "path": name, "size": (root / name).stat().st_size, "oid": "0"} for name in names]
            return self.answer(json.dumps(tree).encode())
        if path.startswith(f"/api/models/{Hub.NAME}"):
            siblings = [{"rfilename": name} for name in names]
            return self.answer(json.dumps({"id": Hub.NAME, "sha": COMMIT, "siblings": siblings}).encode())
        start = f"/{Hub.NAME}/resolve/"
        name = path.removeprefix(start).partition("/")[2] if path.startswith(start) else None
        if name not in names:
            return self.answer(b"", 404, "EntryNotFound")
        self.answer((root / name).read_bytes())

    def answer(self, body, status=200, error=None):
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def hub(monkeypatch, cache, folder):
    """The hub of this process: a server for the files of a folder, and an empty cache."""
    server = Hub(folder)
    constants = huggingface_hub.constants
    for name, value in {
        "ENDPOINT": server.address, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
