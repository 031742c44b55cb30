"""Background processes that outlive their command, and commands that report why they failed."""

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
    """What went wrong. The text is printed as it is, without a traceback."""


def program(environment: str, name: str) -> Path:
    """Return the path of a program in one of the virtual environments."""
    path = ROOT / ".venvs" / environment / "bin" / name
    if not path.exists():
        raise LocalError(f"{path.relative_to(ROOT)} is not there. `make setup` installs it.")
    return path


def clean_environment() -> dict[str, str]:
    """Return the environment variables that every program needs, and no others.

    The emulator's functions inherit its environment, which they would not on AWS. And neither an
    AWS profile nor a proxy of the developer may redirect a local call.
    """
    names = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TERM", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ} | {
        "PYTHONUNBUFFERED": "1"
    }


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """Return the last lines of an output, which name the cause."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def run(what: str, command: Sequence[object], environment: Mapping[str, str]) -> str:
    """Run a command in the project's folder and return its standard output.

    Raises LocalError with the last lines of its output.
    """
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
    """Return a port that no program listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on this port.

    It tries to bind and to connect, because each alone overlooks a case: macOS allows to bind an
    address under another program's wildcard, and a listener with a full queue accepts no
    connection.
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
    """Return the next free port, as a suggestion."""
    candidates = range(port + 1, min(port + 1 + attempts, 65_536))
    return next(
        (candidate for candidate in candidates if port_is_free(candidate, host)), 0
    ) or free_port(host)


def end(
    process: subprocess.Popen[bytes],
    how: signal.Signals = signal.SIGTERM,
    seconds: float = STOP_SECONDS,
) -> None:
    """End a child process: send SIGTERM, wait, then kill it if it is still running."""
    process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Background:
    """One background process and its folder: a lock, a record, a log and a temporary folder.

    The process inherits the lock's open file, so it holds the lock exactly as long as it lives.
    While the lock is held, the recorded process id is ours. Once the lock is free, the record means
    nothing, and no signal is sent to an unrelated process with the same id.
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
        """Return what `spawn` recorded; empty if nothing runs."""
        if not self.is_running:
            return {}
        # A starting process holds the lock a moment before it has a record.
        with contextlib.suppress(FileNotFoundError, ValueError):
            record: dict[str, int] = json.loads(self._record.read_text())
            return record
        return {}

    def spawn(
        self, command: Sequence[object], environment: Mapping[str, str], **facts: int
    ) -> None:
        """Start the process in a session of its own: this terminal's Ctrl-C does not reach it."""
        lock = self._take_lock()
        if lock is None:
            raise LocalError(f"Another command is working in {self.directory}.")
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
        """End the process with SIGTERM and wait for its clean-up. Return False if none was running.

        It is never killed: the emulator writes its state when it ends.
        """
        process_id = self.record().get("pid")
        if process_id is not None:
            # It may end by itself between the check and the signal.
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
        """Return the lock's file descriptor; None if another process holds the lock."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
