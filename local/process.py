"""Processes that outlive the command which started them, and commands that report their real cause when they fail."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL_DIRECTORY = ROOT / ".local"

STOP_SECONDS = 60.0
TAIL_LINES = 25


class LocalError(Exception):
    """What went wrong, in words for a person: it is shown as it stands, without a traceback."""


def program(environment: str, name: str) -> Path:
    """A program of one of the virtual environments that `make` sets up."""
    path = ROOT / ".venvs" / environment / "bin" / name
    if not path.exists():
        raise LocalError(f"{path.relative_to(ROOT)} is not there. `make setup` installs it.")
    return path


def clean_environment() -> dict[str, str]:
    """The variables that a program needs to run at all.

    Nothing else is handed on: the emulator's workers inherit its whole environment, which on AWS nobody would, and
    neither a developer's AWS profile nor a proxy may lead a local call somewhere else.
    """
    names = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TERM", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ} | {"PYTHONUNBUFFERED": "1"}


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The end of an output, where the cause stands."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def run(what: str, command: Sequence[object], environment: Mapping[str, str]) -> str:
    """Runs a command in the project's folder and returns its standard output. A failure shows what it said last."""
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        said = tail(finished.stdout + finished.stderr)
        raise LocalError(f"{what} failed (exit status {finished.returncode}):\n\n{said}")
    return finished.stdout


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there.

    Both questions are asked, because each misses something: macOS lets one bind an address under somebody's wildcard,
    and a listener with a full queue accepts no connection.
    """
    with socket.socket() as caller:
        caller.settimeout(1)
        if caller.connect_ex((host, port)) == 0:
            return False
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def free_port_after(port: int, host: str = "127.0.0.1", attempts: int = 100) -> int:
    """The next port that is free: a suggestion for whoever finds theirs taken."""
    candidates = range(port + 1, min(port + 1 + attempts, 65_536))
    return next((candidate for candidate in candidates if port_is_free(candidate, host)), 0) or free_port(host)


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, seconds: float = STOP_SECONDS) -> None:
    """Ends a child: asks it with a signal, waits, and kills it if it does not heed."""
    process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Background:
    """One background process with its folder: a lock, a record, a log and a temporary folder of its own.

    The process inherits the lock's open file and so holds the lock exactly as long as it lives. While the lock is held
    the recorded process id is therefore ours; once it is free the record says nothing, and no signal is ever sent to a
    stranger who was given the same id later.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log.txt"
        self.temporary = directory / "tmp"
        self._lock = directory / "lock"
        self._record = directory / "process.json"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        lock = self._take_lock()
        if lock is None:
            return True
        os.close(lock)
        return False

    def record(self) -> dict[str, int]:
        """What `spawn` wrote down; empty if nothing runs."""
        if not self.is_running:
            return {}
        # A process that is just being started holds the lock a moment before its record is there.
        with contextlib.suppress(FileNotFoundError, ValueError):
            record: dict[str, int] = json.loads(self._record.read_text())
            return record
        return {}

    def spawn(self, command: Sequence[object], environment: Mapping[str, str], **facts: int) -> None:
        """Starts the process in a session of its own, so that Ctrl-C in this terminal does not reach it."""
        lock = self._take_lock()
        if lock is None:
            raise LocalError(f"Another process is at work in {self.directory}.")
        try:
            self._record.unlink(missing_ok=True)
            shutil.rmtree(self.temporary, ignore_errors=True)
            self.temporary.mkdir(parents=True)
            with self.log.open("wb") as log:
                self._child = subprocess.Popen(
                    [str(part) for part in command],
                    cwd=self.directory,
                    env={**environment, "TMPDIR": str(self.temporary)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            self._record.write_text(json.dumps({"pid": self._child.pid, **facts}))
        finally:
            os.close(lock)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Ends the process with SIGTERM and waits for what it does on its way out. False if none was running.

        It is never killed harder: the emulator writes its state when it ends, and killing it would lose that.
        """
        process_id = self.record().get("pid")
        if process_id is not None:
            # It may end by itself between the look and the signal.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGTERM)
            self._wait_for_end(process_id, seconds)
        if self._child is not None:
            self._child.wait()
            self._child = None
        shutil.rmtree(self.temporary, ignore_errors=True)
        self._record.unlink(missing_ok=True)
        return process_id is not None

    def log_tail(self) -> str:
        return tail(self.log.read_text(errors="replace")) if self.log.exists() else ""

    def _wait_for_end(self, process_id: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.is_running:
            if time.monotonic() > deadline:
                raise LocalError(f"Process {process_id} does not end. Its log: {self.log}")
            time.sleep(0.05)

    def _take_lock(self) -> int | None:
        """The lock's file descriptor, or None if somebody else holds the lock."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
