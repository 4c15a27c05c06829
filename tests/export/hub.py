"""A stand-in for the Hugging Face hub: the few addresses that an upload asks, on this machine."""

import json
import threading
from base64 import b64decode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRITER, READER = "hf_writer", "hf_reader"


class Hub(ThreadingHTTPServer):
    """Keeps repositories as {name: {path: content}}; WRITER may write to everything below `me`, READER only read."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.private, self.uploads, self.asked = {}, {}, {}, []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_PUT(self):
        content = self.body()
        assert sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.server.uploads[self.path.rpartition("/")[2]] = content
        self.answer(200)

    def do_POST(self):
        self.server.asked.append(self.path)
        parts, body = self.path.strip("/").split("/"), self.body()
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in (WRITER, READER):
            return self.answer(401, error="Invalid username or password.")
        if self.path == "/api/repos/create":
            return self.create(token, **json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.answer(200, errors=[], warnings=[])
        if parts[-1] == "batch":
            objects = [self.upload(**each) for each in json.loads(body)["objects"]]
            return self.answer(200, transfer="basic", objects=objects)
        name, action = "/".join(parts[2:4]), parts[4]
        if action == "preupload":
            large = lambda path: path.endswith((".safetensors", ".onnx", ".pt2"))  # noqa: E731
            files = [
                {"path": file["path"], "uploadMode": "lfs" if large(file["path"]) else "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, files=files)
        self.commit(name, [json.loads(line) for line in body.splitlines()])

    def create(self, token, name, organization=None, visibility=None, private=None, **_):
        full = f"{organization or 'me'}/{name}"
        if token == READER or organization not in (None, "me"):
            return self.answer(403, error="You don't have the rights to create a model under this namespace")
        if full in self.server.repositories:
            return self.answer(409, error="You already created this model repo", url=f"{self.server.address}/{full}")
        self.server.repositories[full], self.server.private[full] = {}, private or visibility == "private"
        self.answer(200, url=f"{self.server.address}/{full}")

    def upload(self, oid, size):
        return {"oid": oid, "size": size, "actions": {"upload": {"href": f"{self.server.address}/lfs/{oid}"}}}

    def commit(self, name, lines):
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.repositories[name][value["path"]] = b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.repositories[name][value["path"]] = self.server.uploads[value["oid"]]
        oid = "0" * 40
        self.answer(200, success=True, commitOid=oid, commitUrl=f"{self.server.address}/{name}/commit/{oid}")

    def body(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, **content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if "error" in content:
            self.send_header("x-error-message", content["error"])
        self.end_headers()
        self.wfile.write(body)
