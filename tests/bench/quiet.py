"""What is not a load: a large fabric with nothing to do, and one target with far too much."""
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from fabric import Fabric, formatted
from measure import GIB, KIB, MIB, Table, thousands
from processes import Failure, answer_of, placed, wait_for

HOST_PREFIX = "nqn.2024-01.io.trestle:bench-host-"


def populate(fabric, volumes, hosts):
    """Volumes of one pool, given to hosts in equal parts; how long that took, in words."""
    begun = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: fabric.rest("POST", "hosts", {"name": f"host-{n}", "nqn": f"{HOST_PREFIX}{n}"}), range(1, hosts + 1)))
        made = list(pool.map(lambda n: fabric.rest("POST", "volumes", {"name": f"volume-{n}", "pool": "many", "size": 64 * MIB}),
                             range(volumes)))
        for accepted in made:
            fabric.done(accepted, 600)
        created = time.monotonic()
        given = list(pool.map(lambda n: fabric.rest("POST", "attachments", {"volume": f"volume-{n}", "host": f"host-{n % hosts + 1}"}),
                              range(volumes)))
        for accepted in given:
            fabric.done(accepted, 600)
    return f"{volumes} volumes in {created - begun:.1f} s, as many attachments in {time.monotonic() - created:.1f} s"


def settle(processes, seconds):
    """Until nobody runs much any more, or that long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = [process.cpu_seconds() for process in processes]
        time.sleep(1)
        if all(process.cpu_seconds() - was <= 0.02 for process, was in zip(processes, before)):
            return


def idle(bench):
    """Many volumes, many connected hosts, keep-alives, no I/O."""
    volumes, hosts = (20, 4) if bench.smoke else (1000, 200)
    table = Table("idle", f"{volumes:,} volumes, {hosts} connected hosts, nothing to do", [
        "daemon", "CPU % of a core", "resident MiB", "bar MiB", "resident MiB before"])
    with bench.stage() as stage:
        disks = [[formatted(bench, stage.folder / f"disk-{number}", 4 * GIB)] for number in (1, 2)]
        fabric = Fabric(bench, stage, disks, controller_nodes=2, cores=bench.all_cores)
        fabric.pool("many", 1 * GIB, 2)
        before = {process.name: process.resident_bytes() for process in stage.processes}
        took = populate(fabric, volumes, hosts)
        nqn = fabric.rest("GET", "pools/many")["subsystem_nqn"]
        argv = [bench.binary, "bench", "hosts", "--nqn", nqn, "--count", hosts, "--host-nqn-prefix", HOST_PREFIX, "--json",
                "--seconds", bench.idle_seconds]
        for address in fabric.addresses("many"):
            argv += ["--address", address]
        for process in stage.processes:
            argv += ["--account", f"{process.pid}:{process.name}"]
        settle(stage.processes, 2 if bench.smoke else 20)
        seen = answer_of(argv, {bench.load_core}, bench.idle_seconds + 120, may_fail=True)
        bar = (64 * MIB + volumes * 128 * KIB) / MIB
        for process in stage.processes:
            table.add(process.name, f"{100 * seen['cpu_share'][process.name]:.2f}", f"{process.resident_bytes() / MIB:.0f}", f"{bar:.0f}",
                      f"{before[process.name] / MIB:.0f}")
    wanted = volumes * 2
    if seen["namespaces"] != wanted:
        raise Failure(f"the hosts were shown {seen['namespaces']} namespaces, not {wanted}")
    table.raw = seen
    table.notes.append(f"{seen['associations']} associations (two a host), {seen['namespaces']} namespaces shown, connected in "
                       f"{seen['connect_seconds']:.1f} s; {seen['lost']} lost in {seen['seconds']:.0f} s; {took}.")
    return [table]


def overload(bench):
    """A hundred times as much in flight as there are buffers."""
    count, depth, length = (8, 32, 64 * KIB) if bench.smoke else (64, 128, 64 * KIB)
    table = Table("overload", f"{count} connections with 100 times as much in flight as the target has buffers", [
        "load", "IOPS", "MiB/s", "p99.9 ms", "max ms", "least : most of a connection", "RSS MiB, first third", "last third", "lost", "errors"])
    memory = max(count * depth * length // 100, 1 * MIB)
    for mix in ("read", "write", "50%"):
        with bench.stage() as stage:
            target = bench.target(stage, f"memory:{64 * MIB}", memory=memory)
            process = target.processes[0]
            target.fill()
            argv = target.command(mix, length, depth, associations=count, seconds=bench.overload_seconds)
            sample, resident = watched(argv, {bench.load_core}, process)
        table.raw[mix] = {"sample": sample, "resident_bytes": resident}
        third = max(len(resident) // 3, 1)
        parts = sample["ios_by_association"]
        table.add(f"{mix}, {length // KIB} KiB, {count} × QD{depth}, {memory / MIB:.1f} MiB of buffers", thousands(sample["iops"]),
                  thousands(sample["mib_per_second"]), f"{sample['latency']['p99_9_us'] / 1000:.0f}",
                  f"{sample['latency']['max_us'] / 1000:.0f}", f"{min(parts) / max(max(parts), 1):.2f}",
                  f"{max(resident[:third]) / MIB:.1f}", f"{max(resident[-third:]) / MIB:.1f}", sample["lost"], sample["errors"])
    return [table]


def watched(argv, cores, process):
    """A load's sample, and the target's resident bytes while it ran."""
    load = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=placed(cores))
    resident = []
    while True:
        try:
            out, said = load.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            resident.append(process.resident_bytes())
    if not out.strip():
        raise Failure(f"overload: {said.strip()[-600:]}")
    return json.loads(out), resident or [process.resident_bytes()]
