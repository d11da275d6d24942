"""A whole fabric on this machine, as people would start it, and its REST API."""
import json
import subprocess
import time
import urllib.error
import urllib.request

from measure import Namespace
from processes import Failure, Ports, wait_for

HOST_NQN = "nqn.2024-01.io.trestle:bench"
TOKEN = "bench-join-token"


class Fabric:
    """A control plane over its embedded store, disk nodes, controller nodes: a process each."""

    def __init__(self, bench, stage, disks, controller_nodes=1, cores=None, memory="64MiB"):
        """`disks`: of each disk node, the disks."""
        self.asked_again = 0
        self.bench, self.stage, self.cores = bench, stage, cores or {bench.target_core}
        ports = Ports()
        self.api = f"127.0.0.1:{ports.take()}"
        # The control plane has no part in I/O: it runs where it disturbs least.
        self.control_plane = stage.start("control-plane", [bench.binary, "control-plane", "--listen", self.api, "--data-dir",
                                                           stage.folder / "store"], bench.all_cores, {"TRESTLE_JOIN_TOKEN": TOKEN})
        self.disk_nodes, self.controller_nodes = [], []
        for number, own in enumerate(disks, 1):
            more = [word for disk in own for word in ("--disk", disk)]
            self.disk_nodes.append(self.node("disk-node", number, ports, memory, more))
        for number in range(1, controller_nodes + 1):
            self.controller_nodes.append(self.node("controller-node", number, ports, memory, []))
        wait_for("the nodes to join", 30, self.joined)

    def node(self, kind, number, ports, memory, more):
        name = f"{kind}-{number}"
        argv = [self.bench.binary, kind, "--name", name, "--data-dir", self.stage.folder / name, "--fabric-listen",
                f"127.0.0.1:{ports.take()}", "--agent-listen", f"127.0.0.1:{ports.take()}", "--api-servers", f"http://{self.api}",
                "--memory", memory, *more]
        return self.stage.start(name, argv, self.cores, {"TRESTLE_JOIN_TOKEN": TOKEN})

    def daemons(self):
        """Those that I/O goes through."""
        return [*self.controller_nodes, *self.disk_nodes]

    def rest(self, method, path, body=None):
        """An answer; none if there is no api-server yet. "Ask again in a moment" is done so."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.asked(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code == 503 and time.monotonic() < deadline:
                    self.asked_again += 1
                    time.sleep(0.02)
                    continue
                raise Failure(f"{method} {path}: {error.read().decode(errors='replace')[:600]}") from error
            except OSError:
                return None

    def asked(self, method, path, body):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.api}/v1/{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def joined(self):
        for process in self.stage.processes:
            if not process.alive():
                raise Failure(f"{process.name} ended: {process.said().strip()[-600:]}")
        nodes = [self.rest("GET", kind) for kind in ("disk-nodes", "controller-nodes")]
        if None in nodes:
            return False
        disks, controllers = (answer["items"] for answer in nodes)
        up = [node for node in disks + controllers if node["state"] == "up"]
        return len(up) == len(self.daemons()) and all(node["disks"] for node in disks)

    def done(self, accepted, seconds=60):
        """Waits for the end of what was asked for; the thing."""
        operation = accepted["operation"]["id"]

        def ended():
            seen = self.rest("GET", f"operations/{operation}")
            if seen and seen["state"] == "failed":
                raise Failure(f"an operation failed: {seen}")
            return seen and seen["state"] == "done"
        wait_for(f"{accepted['operation']['kind']}", seconds, ended)
        return accepted["resource"]

    def pool(self, name, capacity, legs, extent="16MiB"):
        protection = {"kind": "none"} if legs == 1 else {"kind": "mirror", "legs": legs}
        wish = {"name": name, "capacity": capacity, "extent": extent, "protection": protection,
                "controller_count": len(self.controller_nodes)}
        return self.done(self.rest("POST", "pools", wish))

    def volume(self, name, pool, size):
        """A volume of the bench's own host, ready for load."""
        self.done(self.rest("POST", "volumes", {"name": name, "pool": pool, "size": size}))
        if not any(host["nqn"] == HOST_NQN for host in self.rest("GET", "hosts")["items"]):
            self.rest("POST", "hosts", {"name": "bench", "nqn": HOST_NQN})
        given = self.done(self.rest("POST", "attachments", {"volume": name, "host": "bench"}))
        address = self.addresses(pool)[0]
        return Namespace(self.bench, address, given["subsystem_nqn"], given["nsid"], size, self.daemons(), HOST_NQN)

    def addresses(self, pool):
        """Of its controller nodes, the owner's first."""
        status = self.rest("GET", f"pools/{pool}")["status"]
        owner = status["owner"]["id"]
        paths = sorted(status["paths"], key=lambda path: path["controller_node"]["id"] != owner)
        return [path["address"] for path in paths]


def formatted(bench, path, size, extent="16MiB"):
    """A sparse file that is a disk."""
    with open(path, "wb") as f:
        f.truncate(size)
    subprocess.run([bench.binary, "disk", "format", path, "--extent-size", extent], check=True, stdout=subprocess.DEVNULL)
    return path
