# SPDX-License-Identifier: Apache-2.0
"""What the measurements of servers share: processes that end with us, and their processor time."""

import contextlib
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import time

START_SECONDS = 30


def processor_ns(pid):
    """Processor time of all threads of a process, as the kernel counts it."""
    total = 0
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text(encoding="ascii").split()[0])
    return total


def resident_bytes(pid):
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def median(values):
    return statistics.median(values) if values else None


def servers_processors():
    """All processors but the last one, which the asking side has; or what there is."""
    count = os.cpu_count()
    return set(range(count - 1)) if count > 1 else {0}


def asking_processors():
    return {os.cpu_count() - 1}


@contextlib.contextmanager
def server(command, log, processors=None, environment=None):
    """Run COMMAND meanwhile.  It is killed if it has not ended a while after SIGTERM."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, processors or servers_processors()))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_listener(family, address, process, log):
    """Until somebody listens at ADDRESS; an error, with the end of the log, if nobody does."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(address)
                return
            except OSError:
                time.sleep(0.02)
    tail = pathlib.Path(log).read_text(encoding="utf-8", errors="replace")[-1000:]
    raise RuntimeError(f"{process.args[0]} does not listen at {address}: {tail}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
