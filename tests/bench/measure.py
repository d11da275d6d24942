"""Loads, samples in turn, medians, tables."""
import os
import re
import statistics
import time

from processes import Failure, Stage, answer_of, machine_busy_seconds, wait_for

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Bench:
    """How it is measured: told once."""

    def __init__(self, options):
        self.binary, self.smoke, self.quick = options.binary, options.smoke, options.quick
        self.repeats, self.seconds = options.repeats, options.seconds
        self.idle_seconds, self.overload_seconds = options.idle_seconds, options.overload_seconds
        self.warm_up = 0.05 if self.smoke else 0.5
        allowed = sorted(os.sched_getaffinity(0))
        self.target_core, self.load_core = allowed[0], allowed[min(1, len(allowed) - 1)]
        self.all_cores = set(allowed[:2])

    def stage(self):
        return Stage(self)

    def target(self, stage, disk, **more):
        """The bare target over this disk."""
        return self.targets(stage, [disk], **more)[0]

    def targets(self, stage, disks, *, name="target", memory="256MiB", cores=None, more=()):
        """One process over all these disks."""
        argv = [self.binary, "bench", "serve", "--listen", "127.0.0.1:0", "--memory", memory, *more]
        for disk in disks:
            argv += ["--disk", disk]
        process = stage.start(name, argv, cores or {self.target_core})

        def listens():
            if not process.alive():
                raise Failure(f"the target ended: {process.said().strip()[-600:]}")
            lines = re.findall(r"listening on (\S+) nqn (\S+) nsid (\d+) bytes (\d+)", process.said())
            return lines if len(lines) == len(disks) else None
        lines = wait_for("the target", 120, listens)
        return [Namespace(self, address, nqn, int(nsid), int(size), [process]) for address, nqn, nsid, size in lines]

    def floor(self, mix, size, depth, span):
        """The same bytes over a bare socket, for each way of waiting."""
        argv = [self.binary, "bench", "floor", "--mix", mix, "-b", size, "-q", depth, "--span", span, "--seconds", self.seconds,
                "--warm-up", self.warm_up, "--json"]
        if self.target_core != self.load_core:
            argv += ["--pin", f"{self.target_core},{self.load_core}"]
        rows = answer_of(argv, None, 60 + 4 * self.seconds)
        return {re.match(r"floor (\w+)", row["label"]).group(1): row for row in rows}


class Namespace:
    """Something to put load on, and the processes that serve it."""

    def __init__(self, bench, address, nqn, nsid, size, processes, host_nqn=None):
        self.bench, self.address, self.nqn, self.nsid, self.size = bench, address, nqn, nsid, size
        self.processes, self.host_nqn = processes, host_nqn

    def command(self, mix, size, depth, *, seconds=None, pattern="random", connections=1, associations=1, range_bytes=None,
                warm_up=None):
        argv = [self.bench.binary, "bench", "run", "--address", self.address, "--nqn", self.nqn, "--nsid", self.nsid, "--mix", mix,
                "-b", size, "-q", depth, "--pattern", pattern, "--connections", connections, "--associations", associations,
                "--seconds", seconds or self.bench.seconds, "--warm-up", self.bench.warm_up if warm_up is None else warm_up, "--json"]
        if self.host_nqn:
            argv += ["--host-nqn", self.host_nqn]
        if range_bytes:
            argv += ["--range", range_bytes]
        for process in self.processes:
            argv += ["--account", f"{process.pid}:{process.name}"]
        return argv

    def load(self, mix, size, depth, *, cores=None, **more):
        """A measured load, from a core of its own."""
        cores = cores or {self.bench.load_core}
        seconds = more.pop("seconds", None) or self.bench.seconds
        for _ in range(3):
            sample = answer_of(self.command(mix, size, depth, seconds=seconds, **more), cores, 60 + 3 * seconds, may_fail=True)
            faults = sample["errors"] + sample["mismatches"] + sample["lost"]
            if faults:
                raise Failure(f"{mix} {size} qd{depth}: {sample['ios']} I/Os, {faults} faults")
            if sample["ios"]:
                break
            # Too short a moment on a busy machine.
            seconds *= 5
        else:
            raise Failure(f"{mix} {size} qd{depth}: no I/O")
        sample["total_cpu_us"] = sum(sample["cpu_us_per_io"][process.name] for process in self.processes)
        return sample

    def fill(self, range_bytes=None):
        """Writes all of it once, so that no measured block is one that was never written."""
        wanted, seconds = range_bytes or self.size, 0.2
        while True:
            done = self.load("write", 128 * KIB, 16, pattern="sequential", seconds=seconds, warm_up=0, range_bytes=range_bytes)
            if done["mib_per_second"] * MIB * done["seconds"] >= wanted:
                return
            if seconds > 120:
                raise Failure("the namespace cannot be filled in two minutes")
            seconds = max(2 * seconds, 1.3 * wanted / (done["mib_per_second"] * MIB))


class Series:
    """Samples taken in turn, A B C A B C …, so that what drifts drifts for all."""

    def __init__(self, bench, stage):
        self.bench, self.stage, self.measures, self.foreign = bench, stage, [], []

    def add(self, label, measure):
        self.measures.append((label, measure))

    def run(self):
        """label → its samples."""
        taken = {label: [] for label, _ in self.measures}
        for _ in range(self.bench.repeats):
            for label, measure in self.measures:
                taken[label].append(self.watched(measure))
        return taken

    def watched(self, measure):
        """A sample, and what ran meanwhile that is none of ours."""
        def ours():
            own = os.times()
            return self.stage.cpu_seconds() + own.user + own.system + own.children_user + own.children_system
        begun, busy, mine = time.monotonic(), machine_busy_seconds(), ours()
        sample = measure()
        foreign = machine_busy_seconds() - busy - (ours() - mine)
        self.foreign.append(max(0.0, foreign / (time.monotonic() - begun)))
        return sample

    def note(self):
        return (f"Other processes took {100 * statistics.median(self.foreign):.0f} % of a core in the median sample, "
                f"{100 * max(self.foreign):.0f} % in the worst.")


def median(samples):
    """Of every number in samples that look alike."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: median([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        return statistics.median(samples)
    return first


def spread(samples, field="iops"):
    """From the least to the most, as a part of the median."""
    values = [sample[field] for sample in samples]
    return f"{100 * (max(values) - min(values)) / statistics.median(values):.0f} %"


def best_floor(samples):
    """The way of waiting with the most I/Os: its name and its medians."""
    middle = median(samples)
    way = max(middle, key=lambda name: middle[name]["iops"])
    return way, middle[way]


def shape(mix, size, depth):
    length = f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"
    return f"{length} {mix}, QD{depth}"


def thousands(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


class Table:
    """Rows with a heading, printed as Markdown: the same on a terminal and in docs/performance.md."""

    def __init__(self, name, title, headings):
        self.name, self.title, self.headings = name, title, headings
        self.rows, self.notes, self.raw = [], [], {}

    def add(self, *cells):
        cells = [str(cell) for cell in cells]
        if len(cells) != len(self.headings):
            raise Failure(f"{self.name}: {len(cells)} cells for {len(self.headings)} headings")
        self.rows.append(cells)

    def text(self):
        widths = [max(len(row[i]) for row in [self.headings, *self.rows]) for i in range(len(self.headings))]

        words = [i == 0 or all(re.match(r"[A-Za-z]", row[i]) for row in self.rows) for i in range(len(self.headings))]

        def line(cells):
            aligned = [cell.ljust(width) if word else cell.rjust(width) for cell, width, word in zip(cells, widths, words)]
            return "| " + " | ".join(aligned) + " |"
        rule = "|" + "|".join("-" * (width + 2) if word else "-" * (width + 1) + ":" for width, word in zip(widths, words)) + "|"
        return "\n".join([line(self.headings), rule, *map(line, self.rows), *(f"\n{note}" for note in self.notes)])
