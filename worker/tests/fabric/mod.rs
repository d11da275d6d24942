//! A fabric for workers: the embedded store, an api-server's writes, and agents over HTTP in front of model nodes. A
//! node can be made deaf (it takes connections and never answers), and started again.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

mod agents;

pub use agents::FakeAgent;

use agents::Ground;
use cluster::key::NameKind;
use cluster::layout::{Membership, PoolLayout};
use cluster::operation::{Operation, OperationState, Wish};
use cluster::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec, Protection, VolumeSpec};
use cluster::{
    ControllerNodeId, DiskNodeId, HostId, Incarnation, Nqn, OperationId, PoolId, SliceId, VolumeId, key,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use store::{Embedded, KeyRange, Store, Transaction};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;
use worker::Options;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Fabric {
    pub store: Arc<dyn Store>,
    pub disk_nodes: BTreeMap<DiskNodeId, FakeAgent>,
    pub controller_nodes: BTreeMap<ControllerNodeId, FakeAgent>,
    ground: Arc<Ground>,
    _folder: tempfile::TempDir,
}

pub struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Sign off and end.
    pub async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
    /// Die on the spot.
    pub async fn kill(self) {
        self.task.abort();
        _ = self.task.await;
    }
}

pub fn options() -> Options {
    Options {
        lease_ttl: Duration::from_secs(1),
        round_every: Duration::from_secs(2),
        agent_wait: Duration::from_secs(2),
        agent_timeout: Duration::from_millis(700),
        agent_pause: Duration::from_millis(5),
        failure_pause: Duration::from_millis(50),
        ..Options::default()
    }
}

impl Fabric {
    pub async fn new(disk_nodes: usize, controller_nodes: usize) -> Fabric {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).unwrap());
        let ground = Ground::new(store.clone());
        let (disks, controllers) = (BTreeMap::new(), BTreeMap::new());
        let mut fabric = Fabric {
            store,
            disk_nodes: disks,
            controller_nodes: controllers,
            ground,
            _folder: folder,
        };
        for n in 0..disk_nodes {
            let id = DiskNodeId(Uuid::from_u128(0xd0 + n as u128));
            let agent = FakeAgent::disk_node(id, fabric.ground.clone()).await;
            fabric
                .put(key::disk_node(id), &spec(id, &format!("d{n}"), &agent))
                .await;
            fabric.disk_nodes.insert(id, agent);
        }
        for n in 0..controller_nodes {
            let id = ControllerNodeId(Uuid::from_u128(0xc0 + n as u128));
            let agent = FakeAgent::controller_node(id, fabric.ground.clone()).await;
            fabric
                .put(key::controller_node(id), &spec(id, &format!("c{n}"), &agent))
                .await;
            fabric.controller_nodes.insert(id, agent);
        }
        fabric
    }

    pub fn disk_node(&self, n: u128) -> (DiskNodeId, &FakeAgent) {
        let id = DiskNodeId(Uuid::from_u128(0xd0 + n));
        (id, &self.disk_nodes[&id])
    }

    pub fn controller_node(&self, n: u128) -> (ControllerNodeId, &FakeAgent) {
        let id = ControllerNodeId(Uuid::from_u128(0xc0 + n));
        (id, &self.controller_nodes[&id])
    }

    pub fn start_worker(&self) -> Worker {
        self.start_worker_with(options())
    }

    pub fn start_worker_with(&self, options: Options) -> Worker {
        let (stop, stopped) = watch::channel(false);
        let store = self.store.clone();
        let task = tokio::spawn(async move { worker::run(store, options, stopped).await.unwrap() });
        Worker { stop, task }
    }

    /// The node's process is another one, and says hello.
    pub async fn restart_controller_node(&self, n: u128) {
        let (id, agent) = self.controller_node(n);
        agent.restart();
        let mut spec: NodeSpec<ControllerNodeId> = self.get(key::controller_node(id)).await.unwrap();
        spec.incarnation = agent.incarnation();
        self.put(key::controller_node(id), &spec).await;
    }

    pub async fn put<T: Serialize>(&self, key: String, record: &T) {
        let put = Transaction::default().put(key, serde_json::to_vec(record).unwrap());
        self.store.commit(put).await.unwrap();
    }

    pub async fn get<T: DeserializeOwned>(&self, key: String) -> Option<T> {
        store::read_record(&self.store, key)
            .await
            .unwrap()
            .map(|versioned| versioned.record)
    }

    pub async fn all<T: DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        let (_, records) = store::read_range(&self.store, KeyRange::prefix(prefix))
            .await
            .unwrap();
        records.into_iter().map(|versioned| versioned.record).collect()
    }

    /// Wait, woken by the store's changes, until something is so.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, mut is_so: impl FnMut() -> F) {
        let everything = KeyRange::prefix("");
        let now = self
            .store
            .read(store::Read::of(KeyRange::key("cluster")))
            .await
            .unwrap()
            .revision;
        let mut watch = self.store.watch(everything, now.next()).await.unwrap();
        let wait = async {
            while !is_so().await {
                watch.next().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("never came: {what}\n{}", self.dump().await);
        }
    }

    async fn dump(&self) -> String {
        let all = self
            .store
            .read(store::Read::of(KeyRange::prefix("")))
            .await
            .unwrap();
        let events = all
            .entries
            .iter()
            .filter(|entry| !entry.key.starts_with(b"names/"));
        let line = |entry: &store::KeyValue| {
            format!(
                "{} = {}",
                String::from_utf8_lossy(&entry.key),
                String::from_utf8_lossy(&entry.value)
            )
        };
        events.map(line).collect::<Vec<_>>().join("\n")
    }
}

fn spec<Id>(id: Id, name: &str, agent: &FakeAgent) -> NodeSpec<Id> {
    NodeSpec {
        id,
        name: name.into(),
        agent_address: agent.address,
        fabric_address: "127.0.0.1:4420".parse().unwrap(),
        agent_token: agents::TOKEN.into(),
        incarnation: agent.incarnation(),
        location: String::new(),
        cordoned: false,
    }
}

/// What an api-server writes.
impl Fabric {
    async fn begin(&self, wish: Wish, mut writes: Transaction) -> OperationId {
        let id = OperationId(Uuid::new_v4());
        let operation = Operation {
            id,
            wish,
            begun_ms: 0,
            state: OperationState::begun(),
        };
        writes = writes.put(key::operation(id), serde_json::to_vec(&operation).unwrap());
        self.store.commit(writes).await.unwrap();
        id
    }

    pub async fn create_pool(&self, name: &str, legs: u8, controller_count: u8) -> (PoolId, OperationId) {
        let id = PoolId(Uuid::new_v4());
        let spec = PoolSpec {
            id,
            name: name.into(),
            capacity_bytes: 4 << 30,
            extent_bytes: 1 << 30,
            protection: if legs == 1 {
                Protection::None
            } else {
                Protection::Mirror { legs }
            },
            controller_count,
            owner: None,
            deleting: false,
            next_nsid: 1,
        };
        let writes = Transaction::default()
            .put(key::pool(id), serde_json::to_vec(&spec).unwrap())
            .put(key::name(NameKind::Pool, name), serde_json::to_vec(&id).unwrap());
        (id, self.begin(Wish::CreatePool { pool: id }, writes).await)
    }

    pub async fn create_volume(&self, pool: PoolId, name: &str) -> (VolumeId, OperationId) {
        let id = VolumeId(Uuid::new_v4());
        let mut of: PoolSpec = self.get(key::pool(pool)).await.unwrap();
        let nsid = of.next_nsid;
        of.next_nsid += 1;
        let spec = VolumeSpec {
            id,
            name: name.into(),
            pool,
            nsid,
            size_bytes: 1 << 30,
            deleting: false,
            created: false,
        };
        let writes = Transaction::default()
            .put(key::pool(pool), serde_json::to_vec(&of).unwrap())
            .put(key::volume(id), serde_json::to_vec(&spec).unwrap())
            .put(key::pool_volume(pool, id), "null")
            .put(
                key::name(NameKind::Volume, name),
                serde_json::to_vec(&id).unwrap(),
            );
        (
            id,
            self.begin(Wish::CreateVolume { volume: id, pool }, writes).await,
        )
    }

    pub async fn change_volume(
        &self,
        volume: VolumeId,
        change: impl Fn(&mut VolumeSpec),
        wish: impl Fn(&VolumeSpec) -> Wish,
    ) -> OperationId {
        // Workers write the same record (its `created`), so this is a transaction.
        let change = &change;
        let changed: Result<VolumeSpec, store::TransactionError> =
            store::transaction(&self.store, |txn| async move {
                let mut spec: VolumeSpec = txn.get(key::volume(volume)).await?.unwrap();
                change(&mut spec);
                txn.put(key::volume(volume), &spec)?;
                Ok(spec)
            })
            .await;
        self.begin(wish(&changed.unwrap()), Transaction::default()).await
    }

    pub async fn change_pool(&self, pool: PoolId, change: impl Fn(&mut PoolSpec), wish: Wish) -> OperationId {
        let mut spec: PoolSpec = self.get(key::pool(pool)).await.unwrap();
        change(&mut spec);
        self.begin(
            wish,
            Transaction::default().put(key::pool(pool), serde_json::to_vec(&spec).unwrap()),
        )
        .await
    }

    pub async fn create_host(&self, name: &str) -> HostId {
        let id = HostId(Uuid::new_v4());
        self.put(
            key::host(id),
            &HostSpec {
                id,
                name: name.into(),
                nqn: Nqn(format!("nqn.{name}")),
            },
        )
        .await;
        id
    }

    pub async fn attach(&self, pool: PoolId, volume: VolumeId, host: HostId) -> OperationId {
        let spec = AttachmentSpec { volume, host };
        let writes = Transaction::default()
            .put(key::attachment(volume, host), serde_json::to_vec(&spec).unwrap())
            .put(key::host_attachment(host, volume), "null");
        self.begin(Wish::Attach { volume, pool, host }, writes).await
    }

    pub async fn detach(&self, pool: PoolId, volume: VolumeId, host: HostId) -> OperationId {
        let writes = Transaction::default()
            .delete(key::attachment(volume, host))
            .delete(key::host_attachment(host, volume));
        self.begin(Wish::Detach { volume, pool, host }, writes).await
    }

    /// Wait until the operation has ended; how.
    pub async fn ended(&self, id: OperationId) -> OperationState {
        let state = async || self.get::<Operation>(key::operation(id)).await.unwrap().state;
        self.until(&format!("the end of {id}"), async || !state().await.is_running())
            .await;
        state().await
    }

    pub async fn done(&self, id: OperationId) {
        let state = self.ended(id).await;
        assert!(matches!(state, OperationState::Done { .. }), "{state:?}");
    }

    pub async fn failed(&self, id: OperationId) -> String {
        match self.ended(id).await {
            OperationState::Failed { reason, .. } => reason,
            state => panic!("{state:?}"),
        }
    }

    pub async fn layout(&self, pool: PoolId) -> PoolLayout {
        self.get(key::layout(pool)).await.expect("the pool is placed")
    }

    pub async fn membership(&self, pool: PoolId) -> Membership {
        let slice: SliceId = self.layout(pool).await.slices[0].slice;
        self.get(key::membership(slice))
            .await
            .expect("a placed pool has its memberships")
    }

    pub async fn event_texts(&self) -> Vec<String> {
        let events: Vec<cluster::event::Event> = self.all(key::EVENTS).await;
        events.into_iter().map(|event| event.text).collect()
    }

    pub async fn until_event(&self, text: &str) {
        self.until(text, async || {
            self.event_texts().await.iter().any(|found| found.contains(text))
        })
        .await;
    }
}

pub fn fresh_incarnation() -> Incarnation {
    Incarnation(Uuid::new_v4())
}
