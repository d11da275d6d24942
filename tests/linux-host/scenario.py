#!/usr/bin/env python3
"""The story that a stock Linux host judges: see README.md. Runs inside the namespaces that `run` made.

    scenario.py TRESTLE        exit status 0 only if every step held

Real daemons (two api-servers and two workers over a real etcd, three disk nodes, two controller nodes), each controller node
on an address of its own; a Debian kernel in QEMU with a network card on each of the two networks.
"""
import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRESTLE = sys.argv[1]
VM = HERE / "vm"
FOLDER = Path(tempfile.mkdtemp(prefix="trestle-linux-host-"))
GUEST = FOLDER / "guest"
TOKEN = "linux-host-join-token"
API = ["127.0.0.1:7070", "127.0.0.1:7071"]
ETCD = "http://127.0.0.1:2379"
PORTALS = ["10.77.0.1", "10.77.1.1"]
BEGUN = time.monotonic()


class Failure(Exception):
    pass


def say(text):
    print(f"{time.monotonic() - BEGUN:7.1f} s  {text}", flush=True)


def check(condition, text):
    if not condition:
        raise Failure(text)


def wait_for(what, seconds, ready):
    """Asks until `ready` answers something true; that."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        last = ready()
        if last:
            return last
        time.sleep(0.1)
    raise Failure(f"waited {seconds} s for {what}; last: {last!r}")


class Daemon:
    def __init__(self, name, *argv):
        self.name, self.argv, self.process = name, [str(a) for a in argv], None

    def start(self):
        log = open(FOLDER / f"{self.name}.log", "ab")
        env = dict(os.environ, TRESTLE_JOIN_TOKEN=TOKEN)
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def alive(self):
        return self.process and self.process.poll() is None


def trestle(*argv, fails=None):
    """A client verb; its JSON. With `fails`, the words its refusal must have."""
    command = [TRESTLE, "--api", "http://" + API[0], "--output", "json", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if fails is not None:
        check(done.returncode != 0, f"{argv} should have been refused")
        check(re.search(fails, done.stderr), f"{argv} was refused with other words: {done.stderr}")
        return done.stderr
    check(done.returncode == 0, f"trestle {' '.join(argv)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def guest(script, timeout=120, ok=True):
    """A shell script in the guest; its output."""
    done = subprocess.run([VM, "exec", "-t", str(timeout), "-s", GUEST], input=script, capture_output=True, text=True,
                          timeout=timeout + 60)
    if ok:
        check(done.returncode == 0, f"in the guest:\n{script}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout if ok else done


class InGuest(threading.Thread):
    """A script in the guest, in the background."""

    def __init__(self, script, timeout=180):
        super().__init__(daemon=True)
        self.script, self.timeout, self.done = script, timeout, None
        self.start()

    def run(self):
        self.done = guest(self.script, self.timeout, ok=False)

    def result(self):
        self.join(self.timeout + 60)
        check(self.done is not None, "the guest's script did not end")
        check(self.done.returncode == 0, f"in the guest:\n{self.script}\n{self.done.stdout}{self.done.stderr}")
        return self.done.stdout


def network():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for number, portal in enumerate(PORTALS):
        tap = f"lh{number}"
        subprocess.run(["ip", "tuntap", "add", "dev", tap, "mode", "tap"], check=True)
        subprocess.run(["ip", "addr", "add", f"{portal}/24", "dev", tap], check=True)
        subprocess.run(["ip", "link", "set", tap, "up"], check=True)


def daemons():
    etcd = Daemon("etcd", "/usr/bin/etcd", "--data-dir", FOLDER / "etcd", "--listen-client-urls", ETCD,
                  "--advertise-client-urls", ETCD, "--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error")
    found = {"etcd": etcd}
    for number, listen in enumerate(API, 1):
        found[f"api-server-{number}"] = Daemon(f"api-server-{number}", TRESTLE, "api-server", "--listen", listen, "--etcd", ETCD)
        found[f"worker-{number}"] = Daemon(f"worker-{number}", TRESTLE, "worker", "--etcd", ETCD)
    servers = ",".join("http://" + listen for listen in API)
    for number in (1, 2, 3):
        name, disk = f"disk-node-{number}", FOLDER / f"disk-{number}"
        with open(disk, "wb") as f:
            f.truncate(2 << 30)
        subprocess.run([TRESTLE, "disk", "format", disk, "--extent-size", "16MiB"], check=True, stdout=subprocess.DEVNULL)
        found[name] = Daemon(name, TRESTLE, "disk-node", "--name", name, "--data-dir", FOLDER / name, "--disk", disk,
                             "--fabric-listen", f"127.0.0.1:{4420 + number}", "--agent-listen", f"127.0.0.1:{7100 + number}",
                             "--api-servers", servers)
    for number, portal in enumerate(PORTALS, 1):
        name = f"controller-node-{number}"
        found[name] = Daemon(name, TRESTLE, "controller-node", "--name", name, "--data-dir", FOLDER / name,
                             "--fabric-listen", f"{portal}:4420", "--agent-listen", f"127.0.0.1:{7200 + number}",
                             "--api-servers", servers)
    return found


def paths(nqn):
    """The host's paths to the subsystem: address → (controller state, ANA state of namespace 1)."""
    seen = {}
    text = guest(f"""
        for c in /sys/class/nvme/nvme*; do
            [ "$(cat $c/subsysnqn 2>/dev/null)" = "{nqn}" ] || continue
            ana=none
            for n in $c/nvme*c*n*; do [ -e $n/ana_state ] && ana=$(cat $n/ana_state) && break; done
            echo "$(sed 's/traddr=\\([0-9.]*\\).*/\\1/' $c/address) $(cat $c/state) $ana"
        done""")
    for line in text.splitlines():
        address, state, ana = line.split()
        seen[address] = (state, ana)
    return seen


def one_serves(nqn):
    seen = paths(nqn)
    states = sorted(seen.values())
    return seen if states == [("live", "inaccessible"), ("live", "optimized")] else None


def volume_state(name):
    return trestle("volume", "show", name)["status"]["state"]


FIO = """fio --name=verify --filename={device} --rw=randrw --rwmixread=40 --bs=4k --iodepth=16 --ioengine=libaio --direct=1 \
 --size={size} --offset={offset} --time_based --runtime={seconds} --verify=crc32c --verify_fatal=1 --verify_backlog=512 \
 --max_latency=60s --randseed=7 --group_reporting --output-format=json --output=/run/fio.json; rc=$?
cat /run/fio.json; exit $rc"""


def fio_summary(text):
    report = json.loads(text[text.index("{"):])["jobs"][0]
    check(report["error"] == 0, f"fio error {report['error']}")
    lat = max(report["read"]["clat_ns"]["max"], report["write"]["clat_ns"]["max"]) / 1e6
    return (f"{report['read']['total_ios']} reads, {report['write']['total_ios']} writes, 0 errors, verified; "
            f"{report['read']['iops'] + report['write']['iops']:.0f} IOPS, worst latency {lat:.0f} ms")


def story(all_daemons):
    network()
    all_daemons["etcd"].start()
    for daemon in all_daemons.values():
        if daemon.name != "etcd":
            daemon.start()
    boot = threading.Thread(target=lambda: subprocess.run(
        [VM, "start", "--nic", "tap,ifname=lh0,ip=10.77.0.2/24", "--nic", "tap,ifname=lh1,ip=10.77.1.2/24",
         "--mem", "640", GUEST], check=True))
    boot.start()

    def joined():
        try:
            disks = trestle("disk-nodes", "list")
            controllers = trestle("controller-nodes", "list")
        except Failure:
            return None
        up = [n for n in disks + controllers if n["state"] == "up"]
        return len(up) == 5 and all(n["disks"] for n in disks)
    wait_for("the nodes to join", 30, joined)
    say("two api-servers, two workers, three disk nodes, two controller nodes over a real etcd; all joined")

    pool = trestle("pool", "create", "tank", "--capacity", "1GiB", "--extent-size", "16MiB", "--wait")
    nqn = pool["subsystem_nqn"]
    trestle("volume", "create", "vol1", "--pool", "tank", "--size", "512MiB", "--wait")
    boot.join()
    say("the guest is up: " + guest("uname -r").strip() + ", " + guest("nvme version").splitlines()[0])
    host_nqn = guest("cat /etc/nvme/hostnqn").strip()

    refused = guest(f"nvme connect -t tcp -a {PORTALS[0]} -s 4420 -n {nqn}", ok=False)
    check(refused.returncode != 0, "a host that has no volume must not connect")
    wrong = guest(f"nvme connect -t tcp -a {PORTALS[0]} -s 4420 -n nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000000", ok=False)
    check(wrong.returncode != 0, "a wrong NQN must not connect")
    say("refused: a host without a volume, and a wrong NQN: " + " / ".join(
        (done.stderr.strip().splitlines() or ["?"])[-1] for done in (refused, wrong)))

    trestle("volume", "attach", "vol1", "--host", host_nqn, "--wait")
    log = json.loads(guest(f"nvme discover -t tcp -a {PORTALS[0]} -s 4420 -o json"))
    seen = sorted(r["traddr"] for r in log["records"] if r["subnqn"] == nqn)
    check(seen == PORTALS, f"discovery must name both portals: {seen}")
    guest("".join(f"nvme connect -t tcp -a {portal} -s 4420 -n {nqn}\n" for portal in PORTALS))
    device = guest(f"nvme-dev {nqn} 1").strip()
    wait_for("one optimized and one inaccessible live path", 10, lambda: one_serves(nqn))
    say("discovered, and connected over both addresses with default options:")
    print(guest(f"nvme list-subsys {device}; nvme list"), flush=True)
    ids = guest(f"""for c in /sys/class/nvme/nvme*; do [ "$(cat $c/subsysnqn)" = "{nqn}" ] || continue
        nvme id-ns /dev/${{c##*/}} -n 1 -o json; done""")
    nguids = re.findall(r'"nguid"\s*:\s*"([0-9a-f]+)"', ids)
    check(len(nguids) == 2 and len(set(nguids)) == 1, f"the same NGUID on both paths: {nguids}")
    check(nguids[0] == trestle("volume", "show", "vol1")["id"].replace("-", ""), "the NGUID is the volume's id")
    say(f"the same NGUID on both: {nguids[0]}")

    guest(f"mkfs.ext4 -q -E nodiscard {device} && mkdir -p /mnt && mount {device} /mnt && "
          f"dd if=/dev/urandom of=/mnt/file bs=1M count=40 conv=fsync 2>/dev/null && sha256sum /mnt/file > /run/sum", 120)
    say("mkfs.ext4, mounted, 40 MiB written and synced")

    # A second volume comes and goes by event, while the first is in use.
    trestle("volume", "create", "vol2", "--pool", "tank", "--size", "256MiB", "--wait")
    trestle("volume", "attach", "vol2", "--host", host_nqn, "--wait")
    second = guest(f"nvme-dev {nqn} 2").strip()
    guest("nvme list")
    say(f"a second volume appeared by event, without reconnecting: {second}")

    running = InGuest(FIO.format(device=second, size="128m", offset="0", seconds=12))
    time.sleep(3)
    for _ in range(2):
        before = trestle("pool", "show", "tank")["status"]
        begun = time.monotonic()
        after = trestle("pool", "failover", "tank", "--wait")["status"]
        check(after["epoch"] > before["epoch"] and after["owner"] != before["owner"], f"{before} → {after}")
        wait_for("one optimized path again", 10, lambda: one_serves(nqn))
        say(f"switched the owner under fio: {before['owner']['name']} → {after['owner']['name']}, epoch {after['epoch']},"
            f" {time.monotonic() - begun:.2f} s until the host has seen it")
        time.sleep(2)
    say("fio with verify through two planned switches: " + fio_summary(running.result()))
    guest("cd /mnt && sha256sum -c -s /run/sum")

    # blkdiscard gives space back and reads zeroes.
    mapped = trestle("volume", "show", "vol2")["status"]["mapped_bytes"]
    guest(f"blkdiscard {second} && dd if={second} bs=1M count=48 iflag=direct 2>/dev/null | tr -d '\\0' | head -c 1 | "
          f"(! read -r -n 1 c)", 120)
    freed = wait_for("space to come back", 20, lambda: (
        trestle("volume", "show", "vol2")["status"]["mapped_bytes"] < mapped) or None)
    check(freed, "discarded space is given back")
    say(f"blkdiscard: zeroes read back; mapped {mapped >> 20} MiB before, "
        f"{trestle('volume', 'show', 'vol2')['status']['mapped_bytes'] >> 20} MiB after")

    # Growing in use.
    trestle("volume", "extend", "vol2", "--size", "320MiB", "--wait")
    wait_for("the host to see the new size", 10, lambda: guest(f"blockdev --getsize64 {second}").strip() == str(320 << 20))
    say("extended the second volume: the host saw it by event")

    # Detach cuts off.
    trestle("volume", "detach", "vol2", "--host", host_nqn, "--wait")
    gone = wait_for("the second volume to go", 10, lambda: guest(f"[ ! -b {second} ] && echo gone || true").strip())
    trestle("volume", "delete", "vol2", "--wait")
    say(f"detached: the device is {gone}, without reconnecting; then deleted")

    # A disk node dies under I/O.
    guest("umount /mnt && fsck.ext4 -fn " + device + " >/dev/null")
    running = InGuest(FIO.format(device=device, size="128m", offset="256m", seconds=12))
    time.sleep(2)
    legs = trestle("pool", "show", "tank")["status"]["groups"][0]["legs"]
    victim = trestle("disk-nodes", "show", legs[0]["disk_node"])["name"]
    all_daemons[victim].kill()
    wait_for("the pool to be degraded", 20, lambda: trestle("pool", "show", "tank")["status"]["state"] == "degraded")
    say(f"killed {victim} under fio: degraded, and serving")
    time.sleep(2)
    all_daemons[victim].start()
    wait_for("the pool to be whole again", 30, lambda: trestle("pool", "show", "tank")["status"]["state"] == "serving")
    say("started it again: in sync again. fio: " + fio_summary(running.result()))

    # kill -9 everything in the middle of writes.
    running = InGuest(FIO.format(device=device, size="128m", offset="384m", seconds=15), 240)
    time.sleep(4)
    for daemon in all_daemons.values():
        daemon.kill()
    time.sleep(1)
    for daemon in all_daemons.values():
        daemon.start()
    begun = time.monotonic()
    wait_for("the hosts to reconnect by themselves", 60, lambda: one_serves(nqn))
    say(f"kill -9 to all {len(all_daemons)} processes (etcd too) under fio, started again: both paths back after "
        f"{time.monotonic() - begun:.1f} s")
    say("fio went on and verified: " + fio_summary(running.result()))
    guest(f"mount {device} /mnt && cd /mnt && sha256sum -c -s /run/sum && cd / && umount /mnt")
    say("the file written before is whole")
    errors = guest("dmesg | grep -iE 'i/o error|critical|corrupt' || true").strip()
    check(not errors, f"the kernel complains: {errors}")

    trestle("pool", "delete", "tank", fails="vol1")
    trestle("volume", "delete", "vol1", fails="host")
    trestle("volume", "detach", "vol1", "--host", host_nqn, "--wait")
    wait_for("the host to be cut off", 15, lambda: guest(f"[ ! -b {device} ] && echo gone || true").strip())
    again = guest(f"nvme disconnect -n {nqn} >/dev/null 2>&1; nvme connect -t tcp -a {PORTALS[0]} -s 4420 -n {nqn}", ok=False)
    check(again.returncode != 0, "a host that was cut off must not connect again")
    trestle("volume", "delete", "vol1", "--wait")
    trestle("pool", "delete", "tank", "--wait")
    free = wait_for("the space to come back", 20, lambda: all(
        node["free_bytes"] == node["capacity_bytes"] for node in trestle("disk-nodes", "list")))
    check(free, "no extent is leaked")
    say("detached (device gone, connect refused), deleted volume and pool: all space is free again")


def main():
    all_daemons = daemons()

    def end():
        subprocess.run([VM, "stop", GUEST], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for daemon in all_daemons.values():
            if daemon.alive():
                daemon.kill()
    atexit.register(end)
    try:
        story(all_daemons)
        fallen = [d.name for d in all_daemons.values() if not d.alive()]
        check(not fallen, f"ended by themselves: {fallen}")
    except (Failure, subprocess.SubprocessError) as failure:
        print(f"FAILED: {failure}", flush=True)
        for log in sorted(FOLDER.glob("*.log")):
            print(f"--- {log.name}\n" + "".join(log.read_text(errors="replace").splitlines(True)[-15:]))
        console = GUEST / "console.log"
        if console.exists():
            print("--- guest console\n" + "".join(console.read_text(errors="replace").splitlines(True)[-30:]))
        print(f"everything is kept in {FOLDER}")
        return 1
    end()
    shutil.rmtree(FOLDER, ignore_errors=True)
    print(f"Linux host: every step held, in {time.monotonic() - BEGUN:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
