"""A real S3 server for benchmarks: SeaweedFS."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen


@contextmanager
def server(folder: Path) -> Generator[None]:
    """Run SeaweedFS with two buckets; `AWS_…` of this process and its children names it."""
    ports = {name: _port() for name in ("master", "volume", "filer", "s3")}
    key, secret = "bench", secrets.token_hex(16)
    who = {"name": "bench", "credentials": [{"accessKey": key, "secretKey": secret}]}
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps({"identities": [{**who, "actions": ["Admin"]}]}))
    command = [str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder / 'data'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=200"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    os.environ |= {  # noqa: TID251  # children of three makers read it
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ENDPOINT_URL": endpoint,  # how s5cmd has it
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not _answers(endpoint):
            time.sleep(0.2)
        time.sleep(5)  # its volumes come up after its gateway
        yield
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()  # noqa: S310
    except HTTPError:
        return True
    except URLError:
        return False
    return True


def _port() -> int:
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        try:
            for each in (port, port + 10_000):  # SeaweedFS has its gRPC 10,000 above
                socket.create_server(("127.0.0.1", each)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no free port was found on loopback")
