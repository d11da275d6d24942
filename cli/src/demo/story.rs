//! What the demo does, step by step, each with what it took.

use super::fabric::{DISK_NODES, Fabric, wait_until};
use super::host::DemoHost;
use super::workload::{Tally, Workload};
use crate::arguments::WaitOptions;
use crate::client::api::{Api, CallApi};
use crate::client::wait::wait_if_told;
use anyhow::{Context, bail};
use control::rest::{
    Accepted, Attachment, AttachmentCreate, ControllerNode, DiskNode, Failover, Host, HostCreate, NodeState,
    OperationBody, Pool, PoolCreate, PoolPhase, Protection, SizeInput, Volume, VolumeCreate,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const WAIT: WaitOptions = WaitOptions {
    wait: true,
    wait_seconds: 30,
};
const VOLUME_BYTES: u64 = 256 << 20;
/// The part of the volume that the demo writes: some of its extents stay unmapped.
const WORKING_SET_BLOCKS: u64 = (128 << 20) / 4096;
const PHASE: Duration = Duration::from_secs(2);

/// The demo under way.
pub(crate) struct Story {
    fabric: Fabric,
    runtime: Runtime,
    api: Api,
    begun: Instant,
    host_nqn: String,
}

impl Story {
    /// A demo over a prepared fabric.
    pub(crate) fn new(fabric: Fabric) -> anyhow::Result<Story> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let api = fabric.client();
        let host_nqn = format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid::Uuid::new_v4());
        Ok(Story {
            fabric,
            runtime,
            api,
            begun: Instant::now(),
            host_nqn,
        })
    }

    /// All of it.
    pub(crate) fn tell(&mut self) -> anyhow::Result<()> {
        let told = self.steps();
        match (told, self.fabric.fallen()) {
            (Err(error), Some(fallen)) => Err(error.context(fallen)),
            (told, _) => told,
        }
    }

    fn steps(&mut self) -> anyhow::Result<()> {
        self.start()?;
        let volume = self.create()?;
        let mut workload = self.connect(&volume)?;
        self.steady(&mut workload)?;
        self.switch_owner(&mut workload)?;
        self.lose_disk_node(&mut workload)?;
        self.kill_everything(&mut workload)?;
        self.verify(&mut workload)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let step = Instant::now();
        self.fabric.start_all()?;
        let (api, runtime) = (&self.api, &self.runtime);
        wait_until("all nodes to join", Duration::from_secs(20), || {
            Ok(runtime.block_on(all_up(api))?)
        })?;
        let names = self.fabric.names().join(", ");
        self.say(step, &format!("started {names}; all joined"));
        Ok(())
    }

    fn create(&mut self) -> anyhow::Result<Volume> {
        let step = Instant::now();
        let pool = PoolCreate {
            name: "demo".to_owned(),
            capacity: SizeInput::bytes(512 << 20),
            extent: Some(SizeInput::bytes(16 << 20)),
            protection: Protection::Mirror { legs: 2 },
            controller_count: Some(2),
            owner: None,
        };
        let pool: Pool = self.made("pools", &pool)?;
        let owner = pool.status.owner.as_ref().context("a served pool has an owner")?;
        self.say(
            step,
            &format!(
                "created pool '{}': mirror of 2 legs, owned by {}",
                pool.name, owner.name
            ),
        );
        let step = Instant::now();
        let size = SizeInput::bytes(VOLUME_BYTES);
        let volume = VolumeCreate {
            name: "volume-1".to_owned(),
            pool: pool.name.clone(),
            size,
        };
        let volume: Volume = self.made("volumes", &volume)?;
        let host = HostCreate {
            name: "demo-host".to_owned(),
            nqn: self.host_nqn.clone(),
        };
        let host: Host = self.runtime.block_on(self.api.create("hosts", &host))?;
        let body = AttachmentCreate {
            volume: volume.name.clone(),
            host: host.name,
        };
        let accepted: Accepted<Attachment> = self.runtime.block_on(self.api.create("attachments", &body))?;
        self.wait(accepted.operation)?;
        self.say(
            step,
            &format!(
                "created thin volume '{}' of 256 MiB and attached it to the host",
                volume.name
            ),
        );
        Ok(volume)
    }

    fn connect(&mut self, volume: &Volume) -> anyhow::Result<Workload> {
        let step = Instant::now();
        let mut host = DemoHost::start(&self.host_nqn, &volume.subsystem_nqn, volume.id)?;
        let paths = host.connect(self.fabric.portals.clone(), 1)?;
        self.say(
            step,
            &format!(
                "connected over {} paths: one optimized, the other inaccessible",
                paths.len()
            ),
        );
        Ok(Workload::new(host, WORKING_SET_BLOCKS))
    }

    fn steady(&mut self, workload: &mut Workload) -> anyhow::Result<()> {
        let step = Instant::now();
        let tally = workload.run_until(|_| step.elapsed() > PHASE)?;
        self.say(step, &format!("verified I/O, 32 deep: {}", told(tally)));
        Ok(())
    }

    fn switch_owner(&mut self, workload: &mut Workload) -> anyhow::Result<()> {
        let step = Instant::now();
        let api = self.api.clone();
        let switching = self.runtime.spawn(async move {
            let accepted: Accepted<Pool> = api.create("pools/demo/failover", &Failover { to: None }).await?;
            wait_if_told(&api, accepted.operation, WAIT).await?;
            api.read::<Pool>("pools/demo").await
        });
        let tally = workload.run_until(|_| switching.is_finished() && step.elapsed() > PHASE)?;
        let pool = self
            .runtime
            .block_on(switching)
            .context("the switch was not waited for")??;
        let owner = pool.status.owner.map_or("nobody".to_owned(), |owner| owner.name);
        let volume = workload
            .host()
            .wait_paths(Duration::from_secs(10), |paths, volume| {
                paths.iter().filter(|path| path.serves(volume)).count() == 1
            });
        volume.context("after the switch one path must serve")?;
        self.say(
            step,
            &format!(
                "switched the owner under I/O: {owner}, epoch {}; {}",
                pool.status.epoch,
                told(tally)
            ),
        );
        Ok(())
    }

    fn lose_disk_node(&mut self, workload: &mut Workload) -> anyhow::Result<()> {
        let step = Instant::now();
        let victim = self.disk_node_with_a_leg()?;
        let api = self.api.clone();
        self.fabric.kill(&victim)?;
        let degraded = self
            .runtime
            .spawn(async move { wait_for_phase(&api, PoolPhase::Degraded).await });
        let tally = workload.run_until(|_| degraded.is_finished() && step.elapsed() > PHASE)?;
        self.runtime
            .block_on(degraded)
            .context("the pool was not watched")??;
        self.say(
            step,
            &format!(
                "killed {victim} under I/O: degraded, but serving; {}",
                told(tally)
            ),
        );
        let step = Instant::now();
        self.fabric.start(&victim)?;
        let api = self.api.clone();
        let healed = self
            .runtime
            .spawn(async move { wait_for_phase(&api, PoolPhase::Serving).await });
        let tally = workload.run_until(|_| healed.is_finished())?;
        self.runtime
            .block_on(healed)
            .context("the pool was not watched")??;
        self.say(
            step,
            &format!(
                "started it again: got what it missed, in sync again; {}",
                told(tally)
            ),
        );
        Ok(())
    }

    fn kill_everything(&mut self, workload: &mut Workload) -> anyhow::Result<()> {
        let step = Instant::now();
        let names = self.fabric.names();
        let mut down = false;
        let mut up = false;
        let fabric = &mut self.fabric;
        let tally = workload.run_until(|_| {
            if !down && step.elapsed() > PHASE / 2 {
                down = names.iter().all(|name| fabric.kill(name).is_ok());
                up = fabric.start_all().is_ok();
            }
            down && step.elapsed() > PHASE * 2
        })?;
        if !up {
            bail!("could not start everything again");
        }
        self.say(
            step,
            &format!(
                "kill -9 to all {} processes under I/O, started them again: {}",
                names.len(),
                told(tally)
            ),
        );
        Ok(())
    }

    fn verify(&mut self, workload: &mut Workload) -> anyhow::Result<()> {
        let step = Instant::now();
        let blocks = workload.verify_all()?;
        self.say(
            step,
            &format!("read all {blocks} blocks back: every byte as last acknowledged"),
        );
        println!(
            "\nEvery byte verified, no error seen by the host, in {:.1} s.",
            self.begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// How to reach what was left running.
    pub(crate) fn say_how_to_reach(&self) {
        println!(
            "\nThe fabric goes on. REST: {}/v1 (try: trestle --api {} status)",
            self.fabric.api, self.fabric.api
        );
        println!("Show the volume to a host of yours:");
        println!(
            "  trestle --api {} volume attach volume-1 --host $(cat /etc/nvme/hostnqn) --wait",
            self.fabric.api
        );
        let pool = self.runtime.block_on(self.api.read::<Pool>("pools/demo"));
        let nqn = pool.map_or("NQN".to_owned(), |pool| pool.subsystem_nqn);
        for portal in &self.fabric.portals {
            println!(
                "  nvme connect --transport tcp --traddr {} --trsvcid {} --nqn {nqn}",
                portal.ip(),
                portal.port()
            );
        }
    }

    /// A disk node with an in-sync leg of the pool.
    fn disk_node_with_a_leg(&self) -> anyhow::Result<String> {
        let pool: Pool = self.runtime.block_on(self.api.read("pools/demo"))?;
        let leg = pool
            .status
            .groups
            .iter()
            .flat_map(|group| &group.legs)
            .find(|leg| leg.in_sync);
        let leg = leg.context("a served pool has a leg in sync")?;
        let node: DiskNode = self
            .runtime
            .block_on(self.api.read(&format!("disk-nodes/{}", leg.disk_node)))?;
        Ok(node.name)
    }

    fn made<B: Serialize, T: DeserializeOwned + Named>(&self, path: &str, body: &B) -> anyhow::Result<T> {
        let accepted: Accepted<T> = self.runtime.block_on(self.api.create(path, body))?;
        let place = format!("{path}/{}", accepted.resource.id());
        self.wait(accepted.operation)?;
        Ok(self.runtime.block_on(self.api.read(&place))?)
    }

    fn wait(&self, operation: OperationBody) -> anyhow::Result<()> {
        self.runtime.block_on(wait_if_told(&self.api, operation, WAIT))?;
        Ok(())
    }

    fn say(&self, step: Instant, text: &str) {
        println!(
            "{:>6.1} s  {text}  [{:.2} s]",
            self.begun.elapsed().as_secs_f64(),
            step.elapsed().as_secs_f64()
        );
    }
}

/// Something with an id.
trait Named {
    fn id(&self) -> uuid::Uuid;
}

impl Named for Pool {
    fn id(&self) -> uuid::Uuid {
        self.id
    }
}

impl Named for Volume {
    fn id(&self) -> uuid::Uuid {
        self.id
    }
}

fn told(tally: Tally) -> String {
    let pause = tally.longest_pause.as_millis();
    format!(
        "{} reads and {} writes, longest pause {pause} ms",
        tally.reads, tally.writes
    )
}

async fn all_up(api: &Api) -> Result<bool, CallApi> {
    let disk_nodes: Vec<DiskNode> = api.list("disk-nodes", 100).await?;
    let controller_nodes: Vec<ControllerNode> = api.list("controller-nodes", 100).await?;
    let up = disk_nodes
        .iter()
        .filter(|node| node.state == NodeState::Up && !node.disks.is_empty())
        .count();
    let serving = controller_nodes
        .iter()
        .filter(|node| node.state == NodeState::Up)
        .count();
    Ok(up == DISK_NODES && serving == super::fabric::CONTROLLER_NODES)
}

async fn wait_for_phase(api: &Api, wanted: PoolPhase) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        let pool: Pool = api.read("pools/demo").await?;
        if pool.status.state == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the pool is {:?}, not {wanted:?}; it waits for {:?}",
                pool.status.state,
                pool.status.waits_for
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
