"""Processes of ours, kept on their cores and ended by us, and what the kernel says of them.

Nothing outlives a stage: its processes are killed by number, its folder is removed; should this process die first, the kernel
kills them.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Something did not work; in words."""


def wait_for(what, seconds, ready, pause=0.05):
    """Asks until `ready` answers something true; that."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ready()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds} s for {what}")
        time.sleep(pause)


def placed(cores):
    """What a child does first: goes to its cores, and is to end with us."""
    def first():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cores is not None:
            os.sched_setaffinity(0, cores)
    return first


def cpu_seconds(pid):
    """What a process has run so far, its ended threads included."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split(" ")
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * PAGE


def machine_busy_seconds():
    """What all cores have run so far, whoever for; time that a hypervisor took included."""
    with open("/proc/stat") as f:
        fields = [int(field) for field in f.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS


class Process:
    def __init__(self, name, argv, cores, log, env=None):
        self.name, self.log = name, Path(log)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          preexec_fn=placed(cores), env=dict(os.environ, **(env or {})))
        self.pid = self.child.pid

    def alive(self):
        return self.child.poll() is None

    def said(self):
        return self.log.read_text(errors="replace")

    def end(self):
        if self.alive():
            self.child.kill()
        self.child.wait()

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def resident_bytes(self):
        return resident_bytes(self.pid)


class Ports:
    """Free ports, below those that the system gives to outgoing connections."""
    FIRST, LAST = 20_000, 31_000

    def __init__(self):
        self.next = self.FIRST + os.getpid() * 37 % (self.LAST - self.FIRST)

    def take(self):
        for _ in range(self.FIRST, self.LAST):
            self.next = self.next + 1 if self.next + 1 < self.LAST else self.FIRST
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", self.next))
                    return self.next
                except OSError:
                    continue
        raise Failure("no port is free")


class Stage:
    """What a table is measured on: processes and a folder that end with it."""

    def __init__(self, bench):
        self.bench, self.processes = bench, []
        self.folder = Path(tempfile.mkdtemp(prefix="trestle-bench-"))

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        fallen = [process for process in self.processes if not process.alive()]
        last = {process.name: process.said().splitlines()[-5:] for process in fallen}
        for process in self.processes:
            process.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        if fallen and kind is None:
            raise Failure(f"ended by themselves: {last}")

    def start(self, name, argv, cores, env=None):
        process = Process(name, argv, cores, self.folder / f"{name}.log", env)
        self.processes.append(process)
        return process

    def end(self, process):
        self.processes.remove(process)
        process.end()

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self.processes)


def answer_of(argv, cores, timeout, may_fail=False):
    """A command's JSON."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=timeout, preexec_fn=placed(cores))
    if done.returncode != 0 and not (may_fail and done.stdout.strip()):
        raise Failure(f"{' '.join(str(word) for word in argv)}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)
