"""One server process: started in a session of its own, waited for, killed, paused, and surely ended with its owner."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from services.ports import free_port

_STOP_WITHIN_SECONDS = 20.0
_POLL_INTERVAL_SECONDS = 0.01
_LOG_TAIL_LINES = 25
_PORT_TRIES_MAX = 5

# PR_SET_PDEATHSIG fires when the *thread* that forked ends. This one lives as long as the process, whoever starts.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-spawner")


class MissingServer(Exception):
    """The server's program is not on this machine; the message ends in the line that installs it."""


class ServerFailed(Exception):
    """The server did not start, answer or end in time; the message ends in the tail of its log."""


class _PortTaken(ServerFailed):
    pass


class ServerProcess:
    """What RedisServer and KafkaServer share; they add the command and the question "are you ready?"."""

    name: ClassVar[str]
    ready_within_seconds: ClassVar[float]

    def __init__(self, *, data_dir: Path | None = None, outlives_owner: bool = False) -> None:
        """A `data_dir` of the caller's is kept, ours is temporary. `outlives_owner`: for servers that people start."""
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-")) if data_dir is None else data_dir.resolve()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.data_dir / "server.log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self._outlives_owner = outlives_owner
        if not outlives_owner:
            atexit.register(self.close)

    # What a server says of itself.

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """Talks to the server once. OSError means: not yet."""
        raise NotImplementedError

    # Life.

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _launch(self, port: int | None) -> None:
        """Starts on `port`, or on a free one; the choice is made again when somebody else was quicker."""
        assert not self.running, f"{self.name} is running already"
        for tries_left in reversed(range(_PORT_TRIES_MAX)):
            self.port = port or free_port()
            try:
                return self._spawn_and_wait()
            except _PortTaken:
                if port is not None or not tries_left:
                    raise
        return None

    def _spawn_and_wait(self) -> None:
        command = self._command()
        if not self._outlives_owner and (setpriv := shutil.which("setpriv")):
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]  # no preexec_fn: it warns in threaded programs
        with self.log_path.open("ab") as log:
            log_begin = log.tell()
            self._process = _spawner.submit(
                subprocess.Popen,
                command,
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C and time-out wrappers hit the owner's group, not the server
            ).result()
        deadline = time.monotonic() + self.ready_within_seconds
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                said = self.log_path.read_bytes()[log_begin:]
                error = _PortTaken if b"ddress already in use" in said else ServerFailed
                raise error(f"{self.name} ended with {code} while starting on port {self.port}\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                if self._answers() and self.running:  # it could have been a stranger on this port
                    return
            time.sleep(_POLL_INTERVAL_SECONDS)
        self.kill()
        raise ServerFailed(
            f"{self.name} did not answer on port {self.port} within {self.ready_within_seconds:g}s\n{self.log_tail()}"
        )

    def kill(self) -> None:
        """SIGKILL to the server and its children: a crash. Returns when it is gone; the data stay."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: an orderly end. Returns when it is gone; the data stay."""
        self.resume()  # a stopped process would never see the signal
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Stops it if it runs, and starts it on the same port, data and options; returns when it answers."""
        self.stop()
        self._launch(self.port)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(_STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait(_STOP_WITHIN_SECONDS)
            raise ServerFailed(f"{self.name} ignored {number.name}\n{self.log_tail()}") from None

    def close(self) -> None:
        """Ends it without ceremony and removes a temporary data directory. May be called twice."""
        if os.getpid() != self._owner_pid:  # a forked child runs the parent's atexit list
            return
        atexit.unregister(self.close)
        self.kill()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def log_tail(self, lines: int = _LOG_TAIL_LINES) -> str:
        if not self.log_path.exists():
            return f"({self.log_path} does not exist)"
        text = self.log_path.read_text(errors="replace")
        return f"--- the end of {self.log_path}:\n" + "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
