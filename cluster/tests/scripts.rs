//! Golden transcripts of the planner: in `tests/scripts/*.txt`, lines that begin with `> ` are commands, all others what
//! comes out. `UPDATE_GOLDEN=1` writes them anew; read the difference before you commit it.

mod world;

use cluster::plan::Plan;
use cluster::{ControllerNodeId, DiskNodeId, HostId, PoolId, VolumeId};
use std::collections::BTreeMap;
use std::path::Path;
use world::World;

#[test]
fn transcripts_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "there are scripts");
    let mut differing = Vec::new();
    for path in scripts {
        let text = std::fs::read_to_string(&path).unwrap();
        let transcript = run(&text);
        if transcript == text {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &transcript).unwrap();
        }
        differing.push(format!("{}:\n{transcript}", path.file_name().unwrap().display()));
    }
    assert!(
        differing.is_empty(),
        "transcripts differ:\n{}",
        differing.join("\n")
    );
}

/// Comments and commands stay; what comes out is written anew behind each command.
fn run(script: &str) -> String {
    let mut player = Player::default();
    let mut transcript = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            transcript += &format!("> {command}\n");
            for out in player.play(command) {
                transcript += &format!("{out}\n");
            }
        } else if line.starts_with('#') || line.is_empty() {
            transcript += &format!("{line}\n");
        }
    }
    transcript
}

#[derive(Default)]
struct Player {
    world: World,
    disk_nodes: BTreeMap<String, DiskNodeId>,
    controller_nodes: BTreeMap<String, ControllerNodeId>,
    pools: BTreeMap<String, PoolId>,
    volumes: BTreeMap<String, VolumeId>,
    hosts: BTreeMap<String, HostId>,
}

impl Player {
    fn play(&mut self, command: &str) -> Vec<String> {
        let mut words = command.split_whitespace();
        let verb = words.next().expect("a command has a verb");
        let rest: Vec<&str> = words.collect();
        match verb {
            "disk-node" | "controller-node" | "pool" | "volume" | "host" => self.create(verb, &rest),
            "plan" => return self.plan(rest[0]),
            "turn" => self.world.turn_nodes(),
            "settle" => self.world.settle(),
            "show" => return self.show(rest[0]),
            _ => self.change(verb, &rest),
        }
        Vec::new()
    }

    fn create(&mut self, kind: &str, rest: &[&str]) {
        let name = rest[0].to_string();
        let option = |key: &str| {
            rest[1..]
                .iter()
                .find_map(|word| word.strip_prefix(&format!("{key}=")))
        };
        let location = option("location").unwrap_or("");
        let number = |key: &str| option(key).map_or(1, |text| text.parse().unwrap());
        match kind {
            "disk-node" => {
                let disks: Vec<_> = option("disks")
                    .unwrap_or("")
                    .split(',')
                    .filter(|text| !text.is_empty())
                    .collect();
                let disks: Vec<_> = disks.iter().map(|disk| disk.split_once('x').unwrap()).collect();
                let disks: Vec<_> = disks
                    .iter()
                    .map(|(n, extent)| (n.parse().unwrap(), size(extent)))
                    .collect();
                self.disk_nodes
                    .insert(name.clone(), self.world.join_disk_node(&name, location, &disks));
            }
            "controller-node" => {
                self.controller_nodes
                    .insert(name.clone(), self.world.join_controller_node(&name, location));
            }
            "pool" => {
                let (capacity, extent) = (
                    size(option("capacity").unwrap()),
                    size(option("extent").unwrap_or("1GiB")),
                );
                let pool =
                    self.world
                        .create_pool(&name, capacity, extent, number("legs"), number("controllers"));
                self.world.pools.get_mut(&pool).unwrap().owner =
                    option("owner").map(|name| self.controller_nodes[name]);
                self.pools.insert(name, pool);
            }
            "volume" => {
                let pool = self.pools[option("pool").unwrap()];
                self.volumes.insert(
                    name.clone(),
                    self.world
                        .create_volume(pool, &name, size(option("size").unwrap())),
                );
            }
            _ => _ = self.hosts.insert(name.clone(), self.world.create_host(&name)),
        }
    }

    fn change(&mut self, verb: &str, rest: &[&str]) {
        match verb {
            "attach" => {
                _ = self
                    .world
                    .attachments
                    .insert((self.volumes[rest[0]], self.hosts[rest[1]]))
            }
            "detach" => {
                _ = self
                    .world
                    .attachments
                    .remove(&(self.volumes[rest[0]], self.hosts[rest[1]]))
            }
            "switch" => {
                let owner = Some(self.controller_nodes[rest[1]]);
                self.world.pools.get_mut(&self.pools[rest[0]]).unwrap().owner = owner;
            }
            "resize" => {
                self.world
                    .volumes
                    .get_mut(&self.volumes[rest[0]])
                    .unwrap()
                    .size_bytes = size(rest[1]);
            }
            "widen" => {
                let count = rest[1].parse().unwrap();
                self.world
                    .pools
                    .get_mut(&self.pools[rest[0]])
                    .unwrap()
                    .controller_count = count;
            }
            "delete-volume" => {
                self.world
                    .volumes
                    .get_mut(&self.volumes[rest[0]])
                    .unwrap()
                    .deleting = true
            }
            "delete-pool" => self.world.pools.get_mut(&self.pools[rest[0]]).unwrap().deleting = true,
            "cordon" | "stop" | "start" | "forget" | "deliver" | "work" | "report" => {
                self.change_node(verb, rest[0])
            }
            _ => panic!("no such command: {verb}"),
        }
    }

    fn change_node(&mut self, verb: &str, name: &str) {
        let incarnation = self.world.new_incarnation();
        if let Some(id) = self.disk_nodes.get(name) {
            let node = self.world.disk_nodes.get_mut(id).unwrap();
            match verb {
                "cordon" => node.spec.cordoned = true,
                "stop" => node.up = false,
                "forget" => _ = self.world.disk_nodes.remove(id),
                "deliver" => node.deliver(),
                "work" => node.work(),
                "report" => node.report(),
                _ => node.start(incarnation),
            }
        } else {
            let id = self.controller_nodes[name];
            match verb {
                "deliver" => return self.world.deliver_to_controller(id),
                "work" => return self.world.work_of_controller(id),
                "report" => return self.world.report_of_controller(id),
                _ => {}
            }
            let node = self.world.controller_nodes.get_mut(&id).unwrap();
            match verb {
                "cordon" => node.spec.cordoned = true,
                "stop" => node.up = false,
                "forget" => _ = self.world.controller_nodes.remove(&id),
                _ => node.start(incarnation),
            }
        }
    }

    fn plan(&mut self, pool: &str) -> Vec<String> {
        let Plan { steps, waits, .. } = self.world.plan(self.pools[pool]);
        let waits = waits.into_iter().map(|wait| format!("  waits: {wait}"));
        let lines: Vec<_> = steps
            .into_iter()
            .map(|step| format!("  {step}"))
            .chain(waits)
            .collect();
        if lines.is_empty() {
            vec!["  all is as wished".into()]
        } else {
            lines
        }
    }

    fn show(&self, node: &str) -> Vec<String> {
        if let Some(id) = self.disk_nodes.get(node) {
            let allocation = &self.world.disk_nodes[id].allocation;
            let taken = allocation
                .disks
                .values()
                .map(|legs| legs.values().sum::<u64>().to_string());
            let taken = taken.collect::<Vec<_>>().join(", ");
            return vec![format!(
                "  taken by disk: [{taken}]; next namespace {}",
                allocation.next_nsid
            )];
        }
        let node = &self.world.controller_nodes[&self.controller_nodes[node]];
        let slices = node
            .observed
            .iter()
            .flat_map(|seen| &seen.status)
            .flat_map(|status| &status.slices);
        slices
            .map(|slice| format!("  {:?} under epoch {}", slice.state, slice.epoch.0))
            .collect()
    }
}

fn size(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        unit => panic!("no such unit: {unit}"),
    };
    digits.parse::<u64>().unwrap() << shift
}
