"""Tables of loads: one bare target, and whole chains."""
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import hops
from fabric import Fabric, formatted
from measure import GIB, KIB, MIB, Series, Table, best_floor, median, shape, spread, thousands
from processes import Failure, placed

SMALL, LARGE = 4 * KIB, 128 * KIB


def size_of(bench, full):
    """Of a namespace: smaller where only the rows are of interest."""
    return 64 * MIB if bench.smoke else full


def io_cells(middle, samples):
    latency = middle["latency"]
    return [thousands(middle["iops"]), thousands(middle["mib_per_second"]), f"{latency['mean_us']:.1f}", f"{latency['p99_us']:.1f}",
            spread(samples)]


def ram(bench):
    """A RAM-backed namespace on one core, beside the floor over as much memory."""
    table = Table("ram", "RAM-backed namespace, one core", [
        "load", "IOPS", "MiB/s", "mean µs", "p99 µs", "spread", "target CPU µs", "floor IOPS", "of floor", "floor mean µs", "over floor µs",
        "floor CPU µs", "CPU of floor's", "floor waits by"])
    size = size_of(bench, 512 * MIB)
    shapes = [(mix, SMALL, depth) for depth in (1, 32, 128) for mix in ("read", "write")]
    shapes += [(mix, LARGE, 32) for mix in ("read", "write")]
    with bench.stage() as stage:
        target = bench.target(stage, f"memory:{size}")
        target.fill()
        series = Series(bench, stage)
        for mix, length, depth in shapes:
            label = shape(mix, length, depth)
            series.add(label, lambda mix=mix, length=length, depth=depth: target.load(mix, length, depth))
            series.add(f"floor {label}", lambda mix=mix, length=length, depth=depth: bench.floor(mix, length, depth, size))
        taken = table.raw = series.run()
    for mix, length, depth in shapes:
        label = shape(mix, length, depth)
        ours = median(taken[label])
        way, floor = best_floor(taken[f"floor {label}"])
        floor_cpu = floor["cpu_us_per_io"]["server"]
        table.add(label, *io_cells(ours, taken[label]), f"{ours['total_cpu_us']:.2f}", thousands(floor["iops"]),
                  f"{ours['iops'] / floor['iops']:.2f}", f"{floor['latency']['mean_us']:.1f}",
                  f"{ours['latency']['mean_us'] - floor['latency']['mean_us']:+.1f}", f"{floor_cpu:.2f}",
                  f"{ours['total_cpu_us'] / floor_cpu:.2f}", way)
    table.notes.append(series.note())
    return [table]


def connections(bench):
    """As much in flight over more and more connections, and as much on each of many; then more reactors than cores."""
    table = Table("connections", "Many connections, many reactors (4 KiB)", [
        "load", "IOPS", "MiB/s", "mean µs", "p99 µs", "spread", "target CPU µs", "of one connection"])
    shapes, mixes = [(1, 128), (4, 32), (16, 8), (64, 2), (64, 32)], ("read", "write")
    size = size_of(bench, 256 * MIB)
    with bench.stage() as stage:
        one = bench.target(stage, f"memory:{size}")
        one.fill()
        four = reactors(bench, stage, 4, size // 4)
        series = Series(bench, stage)
        for mix in mixes:
            for count, depth in shapes:
                series.add((mix, count, depth), lambda m=mix, c=count, d=depth: one.load(m, SMALL, d, connections=c))
            series.add((mix, 4, "reactors"), lambda mix=mix: at_once(bench, four, mix, 32))
        taken = series.run()
    table.raw = {f"{mix} {count} {depth}": samples for (mix, count, depth), samples in taken.items()}
    for mix in mixes:
        base = median(taken[mix, 1, 128])["iops"]
        for count, depth in [*shapes, (4, "reactors")]:
            samples = taken[mix, count, depth]
            middle = median(samples)
            many = f"{mix}, 4 reactors and 4 loads, unpinned on 2 cores"
            label = many if depth == "reactors" else f"{mix}, {count} × QD{depth}, 1 core"
            table.add(label, *io_cells(middle, samples), f"{middle['total_cpu_us']:.2f}", f"{middle['iops'] / base:.2f}")
    table.notes.append(series.note())
    return [table]


def reactors(bench, stage, count, size):
    """A node with as many disks, each on a reactor of its own: their namespaces."""
    return bench.targets(stage, [f"memory:{size}"] * count, name="reactors", cores=bench.all_cores, more=["--cores", count])


def at_once(bench, namespaces, mix, depth):
    """One load on each, at the same time, on the same cores; their sum. CPU time is the shared process's, so it is not summed."""
    with ThreadPoolExecutor(len(namespaces)) as pool:
        loads = [pool.submit(one.load, mix, SMALL, depth, cores=bench.all_cores) for one in namespaces]
        samples = [load.result() for load in loads]
    total = median(samples)
    process = namespaces[0].processes[0].name
    share = total["cpu_share"][process]
    for field in ("iops", "mib_per_second", "ios"):
        total[field] = sum(sample[field] for sample in samples)
    total["total_cpu_us"] = share * 1e6 / total["iops"]
    return total


def of_all(middle, names):
    return " + ".join(f"{middle['cpu_us_per_io'][name]:.2f}" for name in names)


class Chain:
    """A pool whose groups are mirrors, one whose groups are single legs, and the same leg without anything above it."""

    def __init__(self, bench, stage):
        self.size = size_of(bench, 512 * MIB)
        self.fabric = Fabric(bench, stage, [["memory:8GiB"], ["memory:8GiB"]])
        self.fabric.pool("mirrored", 1 * GIB, 2)
        self.fabric.pool("plain", 1 * GIB, 1)
        self.mirror = self.fabric.volume("mirrored-1", "mirrored", self.size)
        self.plain = self.fabric.volume("plain-1", "plain", self.size)
        self.leg = bench.target(stage, f"memory:{self.size}", name="leg")
        for namespace in (self.mirror, self.plain, self.leg):
            namespace.fill()


def chain(bench):
    """A thin volume on a mirror of two legs, every daemon of it on one core."""
    table = Table("chain", "Mirrored thin volume: a controller node and two disk nodes, all on one core (4 KiB)", [
        "load", "IOPS", "MiB/s", "mean µs", "p99 µs", "spread", "all daemons' CPU µs", "controller + disk nodes"])
    with bench.stage() as stage:
        chain = Chain(bench, stage)
        series = Series(bench, stage)
        things = [("mirror of two", chain.mirror), ("one leg", chain.plain), ("the leg itself, no pool", chain.leg)]
        for depth in (1, 32):
            for mix in ("read", "write"):
                for name, namespace in things:
                    series.add(f"{name}: {mix}, QD{depth}", lambda n=namespace, mix=mix, depth=depth: n.load(mix, SMALL, depth))
        taken = table.raw = series.run()
        for label, samples in taken.items():
            middle = median(samples)
            names = [process.name for process in (chain.leg if "itself" in label else chain.mirror).processes]
            table.add(label, *io_cells(middle, samples), f"{middle['total_cpu_us']:.2f}", of_all(middle, names))
    over = {mix: median(taken[f"mirror of two: {mix}, QD1"])["latency"]["mean_us"]
            - median(taken[f"one leg: {mix}, QD1"])["latency"]["mean_us"] for mix in ("read", "write")}
    table.notes += [f"QD1 over a volume on one leg: read {over['read']:+.1f} µs, write {over['write']:+.1f} µs.", series.note()]
    return [table]


def fio(bench, path, mix, length, depth, pattern):
    rw = {"random": "rand", "sequential": ""}[pattern] + mix
    argv = ["fio", "--name=f", f"--filename={path}", f"--offset={8 * MIB}", f"--rw={rw}", f"--bs={length}", f"--iodepth={depth}",
            "--ioengine=io_uring", "--direct=1", "--time_based", f"--runtime={bench.seconds * 1000:.0f}ms",
            f"--ramp_time={bench.warm_up * 1000:.0f}ms", "--output-format=json", "--thread=0", "--allow_file_create=0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, preexec_fn=placed({bench.target_core}))
    if done.returncode != 0:
        raise Failure(f"fio: {done.stderr.strip()[-400:]}")
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    part = job[mix]
    cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100
    return {"iops": part["iops"], "mib_per_second": part["bw_bytes"] / MIB, "total_cpu_us": cpu * 1e6 / max(part["iops"], 1),
            "latency": {"mean_us": part["clat_ns"]["mean"] / 1000, "p99_us": part["clat_ns"]["percentile"]["99.000000"] / 1000}}


def file(bench):
    """A file as a disk, past the page cache, beside fio on the same file."""
    table = Table("file", "File-backed namespace (O_DIRECT), beside fio's io_uring on the same file", [
        "load", "IOPS", "MiB/s", "mean µs", "p99 µs", "spread", "target CPU µs", "fio IOPS", "fio spread", "fio CPU µs", "of fio"])
    shapes = [(mix, SMALL, 32, "random") for mix in ("read", "write")] + [(mix, LARGE, 32, "sequential") for mix in ("read", "write")]
    has_fio = shutil.which("fio") is not None
    with bench.stage() as stage:
        disk = formatted(bench, stage.folder / "disk", size_of(bench, 2 * GIB))
        target = bench.target(stage, disk)
        target.fill()
        series = Series(bench, stage)
        for number, (mix, length, depth, pattern) in enumerate(shapes):
            series.add(number, lambda m=mix, n=length, d=depth, p=pattern: target.load(m, n, d, pattern=p))
            if has_fio:
                series.add(("fio", number), lambda m=mix, n=length, d=depth, p=pattern: fio(bench, disk, m, n, d, p))
        taken = series.run()
    for number, (mix, length, depth, pattern) in enumerate(shapes):
        samples = taken[number]
        middle, theirs = median(samples), ["–"] * 4
        table.raw[f"{pattern} {mix}"] = {"ours": samples, "fio": taken.get(("fio", number))}
        if has_fio:
            other = median(taken["fio", number])
            theirs = [thousands(other["iops"]), spread(taken["fio", number]), f"{other['total_cpu_us']:.1f}",
                      f"{middle['iops'] / other['iops']:.2f}"]
        table.add(f"{shape(mix, length, depth)}, {pattern}", *io_cells(middle, samples), f"{middle['total_cpu_us']:.1f}", *theirs)
    if not has_fio:
        table.notes.append("There is no fio here (Debian: fio), so nothing beside.")
    table.notes.append(series.note())
    return [table]


def profiled(bench, stage, namespace, process, mix, depth):
    """The stacks of one of its processes under that load, and the load's sample."""
    data = stage.folder / f"{process.name}-{mix}-{depth}.perf"
    seconds = max(bench.seconds, 0.3)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(namespace.load, mix, SMALL, depth, seconds=seconds + 1, warm_up=0.3)
        recording = hops.record(process.pid, seconds, data)
        _, said = recording.communicate(timeout=60)
        sample = load.result()
    if recording.returncode != 0:
        raise Failure(f"perf: {said.strip()[-400:]}")
    stacks = hops.samples(data)
    data.unlink()
    return stacks, sample


def profile(bench):
    """Where the target spends its time at depth."""
    table = Table("profile", "Where a RAM-backed target's CPU time goes (4 KiB, QD32)", ["hop", "read %", "read µs", "write %", "write µs"])
    lacking = hops.works()
    if lacking:
        table.notes.append(f"Left out: {lacking}.")
        return [table]
    seen, cost = {}, {}
    with bench.stage() as stage:
        target = bench.target(stage, f"memory:{size_of(bench, 512 * MIB)}")
        target.fill()
        for mix in ("read", "write"):
            stacks, sample = profiled(bench, stage, target, target.processes[0], mix, 32)
            seen[mix], cost[mix] = hops.shares(stacks), sample["total_cpu_us"]
            named = ", ".join(f"{name} {100 * part:.1f} %" for name, part in hops.leaves(stacks).items())
            table.notes.append(f"Innermost functions, {mix}: {named}.")
    for name in sorted({*seen["read"], *seen["write"]}, key=lambda name: -seen["read"].get(name, 0) - seen["write"].get(name, 0)):
        cells = [(100 * seen[mix].get(name, 0), seen[mix].get(name, 0) * cost[mix]) for mix in ("read", "write")]
        table.add(name, *(f"{cell[0]:.1f}" if i == 0 else f"{cell[1]:.3f}" for cell in cells for i in (0, 1)))
    table.raw = {"shares": seen, "cpu_us": cost}
    return [table]


def budget(bench):
    """One write through a mirrored volume, hop by hop: by subtraction at QD1, by profile at QD32."""
    table = Table("budget", "One 4 KiB write at QD1: what each hop adds", [
        "up to here", "mean µs", "p99 µs", "adds µs", "CPU µs of all", "spread", "what was added"])
    with bench.stage() as stage:
        chain = Chain(bench, stage)
        null = bench.target(stage, f"null:{chain.size}", name="null")
        steps = [("null-backed target", null, "parse, admission, answer: both ends' sessions"),
                 ("RAM-backed target (a leg)", chain.leg, "the leg's disk: memory"),
                 ("pool of one leg", chain.plain, "the controller node: socket in, parse, admission, layers, leg send; a second network round"),
                 ("mirror of two", chain.mirror, "bitmap, the second leg; both disk nodes on the controller node's core")]
        series = Series(bench, stage)
        series.add("floor", lambda: bench.floor("write", SMALL, 1, chain.size))
        for name, namespace, _ in steps:
            series.add(name, lambda namespace=namespace: namespace.load("write", SMALL, 1))
        taken = table.raw = series.run()
        way, floor = best_floor(taken["floor"])
        last = floor["latency"]["mean_us"]
        table.add(f"bare socket ({way})", f"{last:.1f}", f"{floor['latency']['p99_us']:.1f}", f"{last:.1f}",
                  f"{floor['cpu_us_per_io']['server']:.1f}", spread([sample[way] for sample in taken["floor"]]),
                  "two system calls at each end, and the kernel between them")
        for name, _, added in steps:
            middle = median(taken[name])
            mean = middle["latency"]["mean_us"]
            table.add(name, f"{mean:.1f}", f"{middle['latency']['p99_us']:.1f}", f"{mean - last:+.1f}", f"{middle['total_cpu_us']:.1f}",
                      spread(taken[name]), added)
            last = mean
        table.notes.append(series.note())
        return [table, shares_of_chain(bench, stage, chain)]


def shares_of_chain(bench, stage, chain):
    """The CPU time of a mirrored write at depth, by hop, in each kind of daemon."""
    table = Table("budget-cpu", "CPU time of one 4 KiB write through a mirrored volume (QD32), by hop", [
        "hop", "controller node µs", "a disk node µs", "all three µs"])
    lacking = hops.works()
    if lacking:
        table.notes.append(f"Left out: {lacking}.")
        return table
    fabric, costs = chain.fabric, {}
    daemons = {"controller": fabric.controller_nodes[0], "disk": fabric.disk_nodes[0]}
    for kind, process in daemons.items():
        stacks, sample = profiled(bench, stage, chain.mirror, process, "write", 32)
        cost = sample["cpu_us_per_io"][process.name]
        costs[kind] = {name: part * cost for name, part in hops.shares(stacks).items()}
    names = {*costs["controller"], *costs["disk"]}
    total = {name: costs["controller"].get(name, 0) + 2 * costs["disk"].get(name, 0) for name in names}
    for name in sorted(names, key=lambda name: -total[name]):
        table.add(name, f"{costs['controller'].get(name, 0):.3f}", f"{costs['disk'].get(name, 0):.3f}", f"{total[name]:.3f}")
    sums = [sum(costs[kind].values()) for kind in daemons]
    table.add("all", f"{sums[0]:.3f}", f"{sums[1]:.3f}", f"{sums[0] + 2 * sums[1]:.3f}")
    table.raw = costs
    return table
