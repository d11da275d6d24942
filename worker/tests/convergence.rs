//! Workers against the embedded store and agents over HTTP: what is wished comes true, whoever dies.
//!
//! Mutants these tests must catch (tried by hand): a configuration handed over once and never again; a dead agent waited
//! for by others; operations never ended; `created` never set; the index of volumes not removed; a plan committed though
//! the audit refuses it; no rendezvous (nobody takes over); status written though nothing changed.

mod fabric;

use cluster::layout::{DiskNodeAllocation, PoolLayout};
use cluster::operation::Wish;
use cluster::spec::{NodeSpec, VolumeSpec};
use cluster::status::{DiskNodeStatus, Observed, PoolProgress};
use cluster::{ControllerNodeId, DiskNodeId, LegId, key};
use fabric::{Fabric, options};
use std::collections::BTreeSet;
use std::time::Duration;
use worker::Options;

#[tokio::test(flavor = "multi_thread")]
async fn from_a_wish_to_a_volume_and_back() {
    let fabric = Fabric::new(3, 2).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 2, 2).await;
    fabric.done(made).await;
    let (volume, made) = fabric.create_volume(pool, "v").await;
    let host = fabric.create_host("h").await;
    let attached = fabric.attach(pool, volume, host).await;
    fabric.done(made).await;
    fabric.done(attached).await;
    assert!(
        fabric
            .get::<VolumeSpec>(key::volume(volume))
            .await
            .unwrap()
            .created
    );
    assert_eq!(fabric.layout(pool).await.volumes[0].hosts.len(), 1);

    let wish = |spec: &VolumeSpec| Wish::ExtendVolume {
        volume,
        pool,
        size_bytes: spec.size_bytes,
    };
    fabric
        .done(
            fabric
                .change_volume(volume, |spec| spec.size_bytes = 2 << 30, wish)
                .await,
        )
        .await;
    fabric.done(fabric.detach(pool, volume, host).await).await;
    assert!(fabric.layout(pool).await.volumes[0].hosts.is_empty());
    let requests = key::membership_requests(fabric.membership(pool).await.slice);
    let recorded = store::Transaction::default().put(requests, "{}"); // As an api-server does for an owner.
    fabric.store.commit(recorded).await.unwrap();
    let gone = |_: &VolumeSpec| Wish::DeleteVolume { volume, pool };
    fabric
        .done(
            fabric
                .change_volume(volume, |spec| spec.deleting = true, gone)
                .await,
        )
        .await;
    fabric
        .done(
            fabric
                .change_pool(pool, |spec| spec.deleting = true, Wish::DeletePool { pool })
                .await,
        )
        .await;

    for prefix in [
        key::POOLS,
        key::VOLUMES,
        key::POOL_VOLUMES,
        key::LAYOUTS,
        key::MEMBERSHIPS,
        key::MEMBERSHIP_REQUESTS,
        key::NAMES,
        key::PROGRESS,
    ] {
        assert_eq!(
            fabric.all::<serde_json::Value>(prefix).await,
            Vec::<serde_json::Value>::new(),
            "{prefix}"
        );
    }
    let taken: Vec<DiskNodeAllocation> = fabric.all(key::ALLOCATIONS).await;
    assert!(
        taken.iter().all(|allocation| allocation.disks.is_empty()),
        "{taken:?}"
    );
    let told = fabric.event_texts().await;
    for text in [
        "disk node d0 has joined",
        "controller node c1 has joined",
        "pool p is placed",
        "pool p: epoch 1 is granted to c0",
        "pool p: is served by c0 under epoch 1",
        "volume v is created",
        "volume v is gone",
        "pool p is gone",
    ] {
        assert_eq!(
            told.iter().filter(|told| *told == text).count(),
            1,
            "{text} among {told:#?}"
        );
    }
    worker.end().await;
}

/// More operations than one transaction holds.
#[tokio::test(flavor = "multi_thread")]
async fn many_wishes_at_a_time_all_come_true() {
    let fabric = Fabric::new(2, 1).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 2, 1).await;
    fabric.done(made).await;
    let mut wishes = Vec::new();
    for number in 0..130 {
        wishes.push(fabric.create_volume(pool, &format!("v{number}")).await.1);
    }
    for wish in wishes {
        fabric.done(wish).await;
    }
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_and_one_takes_over() {
    let fabric = Fabric::new(3, 3).await;
    let (one, two) = (fabric.start_worker(), fabric.start_worker());
    let mut operations = Vec::new();
    for n in 0..6 {
        operations.push(fabric.create_pool(&format!("p{n}"), 2, 2).await.1);
    }
    for operation in operations {
        fabric.done(operation).await;
    }
    let layouts: Vec<PoolLayout> = fabric.all(key::LAYOUTS).await;
    let legs: Vec<_> = layouts.iter().flat_map(PoolLayout::legs).collect();
    let places: BTreeSet<_> = legs.iter().map(|leg| (leg.disk_node, leg.nsid)).collect();
    assert_eq!(
        (legs.len(), places.len()),
        (12, 12),
        "every leg has a namespace of its own"
    );
    let taken: Vec<DiskNodeAllocation> = fabric.all(key::ALLOCATIONS).await;
    let taken: usize = taken
        .iter()
        .flat_map(|allocation| allocation.disks.values())
        .map(|legs| legs.len())
        .sum();
    assert_eq!(taken, 12, "nothing is taken twice");
    let joined = fabric
        .event_texts()
        .await
        .into_iter()
        .filter(|text| text.ends_with("has joined"))
        .count();
    assert_eq!(joined, 6, "told once, whoever saw it");

    // Some go while others come: space is given back and taken in the same records.
    let mut operations = Vec::new();
    for (n, layout) in layouts.iter().take(3).enumerate() {
        let pool = layout.pool;
        let wish = Wish::DeletePool { pool };
        operations.push(fabric.change_pool(pool, |spec| spec.deleting = true, wish).await);
        operations.push(fabric.create_pool(&format!("q{n}"), 2, 2).await.1);
    }
    for operation in operations {
        fabric.done(operation).await;
    }
    assert_eq!(
        taken_legs(&fabric).await,
        laid_out_legs(&fabric).await,
        "nothing lost, nothing kept"
    );

    one.kill().await;
    for n in 6..10 {
        let (_, made) = fabric.create_pool(&format!("p{n}"), 1, 1).await;
        fabric.done(made).await;
    }
    two.end().await;
    assert!(
        fabric.all::<serde_json::Value>(key::WORKERS).await.len() < 2,
        "who ends signs off"
    );
}

async fn taken_legs(fabric: &Fabric) -> BTreeSet<LegId> {
    let taken: Vec<DiskNodeAllocation> = fabric.all(key::ALLOCATIONS).await;
    let legs = taken.iter().flat_map(|allocation| allocation.disks.values());
    legs.flat_map(|legs| legs.keys()).copied().collect()
}

async fn laid_out_legs(fabric: &Fabric) -> BTreeSet<LegId> {
    let layouts: Vec<PoolLayout> = fabric.all(key::LAYOUTS).await;
    layouts
        .iter()
        .flat_map(PoolLayout::legs)
        .map(|leg| leg.leg)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_forgot_is_told_again() {
    let fabric = Fabric::new(1, 1).await;
    // An agent that loses what it was told, and goes on: told again when it has had no news for a while.
    let worker = fabric.start_worker();
    fabric.disk_node(0).1.lose_next_config();
    fabric.controller_node(0).1.lose_next_config();
    fabric.done(fabric.create_pool("p", 1, 1).await.1).await;
    worker.end().await;
    // A node that was started again with an empty ledger: told at once, however long the wait for news is.
    let long = std::time::Duration::from_secs(600);
    let worker = fabric.start_worker_with(worker::Options {
        agent_wait: long,
        ..options()
    });
    let (id, agent) = fabric.disk_node(0);
    fabric.done(fabric.create_pool("q", 1, 1).await.1).await;
    let wanted = agent.applied();
    agent.restart_without_ledger();
    let told = async || {
        let status: Option<Observed<DiskNodeStatus>> = fabric.get(key::disk_node_status(id)).await;
        let status = status.and_then(|seen| seen.status);
        status.is_some_and(|status| status.incarnation == agent.incarnation() && status.revision == wanted)
    };
    fabric.until("the node to be told again", told).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_agent_delays_nobody_and_catches_up() {
    let fabric = Fabric::new(3, 1).await;
    let worker = fabric.start_worker();
    fabric.done(fabric.create_pool("before", 3, 1).await.1).await;
    let (deaf, agent) = fabric.disk_node(0);
    agent.set_deaf(true);
    fabric.until_event("disk node d0 does not answer").await;
    let status: Observed<DiskNodeStatus> = fabric.get(key::disk_node_status(deaf)).await.unwrap();
    assert!(
        !status.health.reachable && status.status.is_some(),
        "what it said last is kept"
    );
    fabric.done(fabric.create_pool("meanwhile", 2, 1).await.1).await;

    let (third, made) = fabric.create_pool("third", 3, 1).await;
    let waits = async || {
        fabric
            .get::<PoolProgress>(key::progress(third))
            .await
            .is_some_and(|p| !p.waits.is_empty())
    };
    fabric.until("a reason to wait", waits).await;
    let reasons = fabric
        .get::<PoolProgress>(key::progress(third))
        .await
        .unwrap()
        .waits
        .join("; ");
    assert!(reasons.contains("found 2 (not d0: does not answer)"), "{reasons}");
    agent.set_deaf(false);
    fabric.until_event("disk node d0 is back").await;
    fabric.done(made).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_is_told_what_changed() {
    let fabric = Fabric::new(1, 2).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 1, 2).await;
    fabric.done(made).await;
    let (standby, agent) = fabric.controller_node(1);
    assert_ne!(fabric.membership(pool).await.owner, standby);
    agent.set_deaf(true);
    fabric.until_event("controller node c1 does not answer").await;
    let (volume, made) = fabric.create_volume(pool, "v").await;
    let host = fabric.create_host("h").await;
    fabric.done(made).await;
    // The standby is away: who owns is enough.
    fabric.done(fabric.attach(pool, volume, host).await).await;
    let config: cluster::node_config::ControllerNodeConfig =
        fabric.get(key::controller_node_config(standby)).await.unwrap();
    assert!(agent.applied() < config.revision);
    agent.set_deaf(false);
    fabric
        .until("the standby to catch up", async || {
            let status: Option<Observed<cluster::status::ControllerNodeStatus>> =
                fabric.get(key::controller_node_status(standby)).await;
            status
                .and_then(|seen| seen.status)
                .is_some_and(|status| status.revision == config.revision)
        })
        .await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_change_by_wish_and_by_restart() {
    let fabric = Fabric::new(2, 2).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 2, 2).await;
    fabric.done(made).await;
    let (to, _) = fabric.controller_node(1);
    let wish = Wish::SwitchOwner { pool, to };
    fabric
        .done(fabric.change_pool(pool, |spec| spec.owner = Some(to), wish).await)
        .await;
    let membership = fabric.membership(pool).await;
    assert_eq!((membership.owner, membership.epoch.0), (to, 2));

    fabric.restart_controller_node(1).await;
    fabric.until_event("pool p: is served by c1 under epoch 3").await;
    let membership = fabric.membership(pool).await;
    assert_eq!(
        membership.owner_incarnation,
        fabric.controller_node(1).1.incarnation()
    );

    // Superseded before anybody acted on it: the first wish fails, the second is true already.
    fabric.controller_node(0).1.set_deaf(true);
    fabric.until_event("controller node c0 does not answer").await;
    let (away, _) = fabric.controller_node(0);
    let first = fabric
        .change_pool(
            pool,
            |spec| spec.owner = Some(away),
            Wish::SwitchOwner { pool, to: away },
        )
        .await;
    let second = fabric.change_pool(pool, |spec| spec.owner = Some(to), wish).await;
    assert!(fabric.failed(first).await.contains("another owner"));
    fabric.done(second).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legs_that_fall_out_are_told() {
    let fabric = Fabric::new(2, 1).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 2, 1).await;
    fabric.done(made).await;
    let leg = fabric.layout(pool).await.slices[0].groups[0].legs[0].clone();
    let name = fabric
        .get::<NodeSpec<DiskNodeId>>(key::disk_node(leg.disk_node))
        .await
        .unwrap()
        .name;
    let owner = fabric.controller_node(0).1;
    fabric.until_event("is served by c0").await;
    owner.set_in_sync(leg.leg, false);
    fabric
        .until_event(&format!("pool p: the leg on {name} is out; the others serve"))
        .await;
    owner.set_in_sync(leg.leg, true);
    fabric
        .until_event(&format!("pool p: the leg on {name} is in sync again"))
        .await;
    worker.end().await;
}

/// Killed after the first change of the store, the second, and so on: whatever it was in the middle of, the next goes on.
/// Over a store of its own a worker does not wait for the lease of the one that died with the last process.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_alone_takes_over_at_once() {
    let fabric = Fabric::new(2, 2).await;
    let for_ever = Options {
        lease_ttl: Duration::from_secs(600),
        ..options()
    };
    let dead = fabric.start_worker_with(for_ever);
    let (_, made) = fabric.create_pool("before", 2, 2).await;
    fabric.done(made).await;
    dead.kill().await;
    let alone = Options {
        alone: true,
        ..options()
    };
    let worker = fabric.start_worker_with(alone);
    for n in 0..8 {
        let (_, made) = fabric.create_pool(&format!("p{n}"), 1, 1).await;
        fabric.done(made).await;
    }
    assert_eq!(fabric.all::<serde_json::Value>(key::WORKERS).await.len(), 1);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_die_at_any_moment() {
    let fabric = Fabric::new(2, 2).await;
    let (pool, made) = fabric.create_pool("p", 2, 2).await;
    let mut operations = vec![made];
    let mut volumes = Vec::new();
    for life in 1..16 {
        let now = fabric
            .store
            .read(store::Read::of(store::KeyRange::key("cluster")))
            .await
            .unwrap()
            .revision;
        let worker = fabric.start_worker();
        let mut watch = fabric
            .store
            .watch(store::KeyRange::prefix(""), now.next())
            .await
            .unwrap();
        let (volume, made) = fabric.create_volume(pool, &format!("v{life}")).await;
        volumes.push(volume);
        operations.push(made);
        let changes = async {
            for _ in 0..life {
                watch.next().await;
            }
        };
        _ = tokio::time::timeout(options().round_every, changes).await;
        worker.kill().await;
    }
    let worker = fabric.start_worker();
    for operation in operations {
        fabric.done(operation).await;
    }
    assert_eq!(fabric.membership(pool).await.epoch.0, 1, "granted once");
    assert_eq!(fabric.layout(pool).await.volumes.len(), volumes.len());
    for volume in volumes {
        let gone = |_: &VolumeSpec| Wish::DeleteVolume { volume, pool };
        fabric
            .done(
                fabric
                    .change_volume(volume, |spec| spec.deleting = true, gone)
                    .await,
            )
            .await;
    }
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_about_what_is_gone_fail() {
    let fabric = Fabric::new(1, 1).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 2, 1).await; // needs two disk nodes: never placed
    let (volume, volume_made) = fabric.create_volume(pool, "v").await;
    let gone = |_: &VolumeSpec| Wish::DeleteVolume { volume, pool };
    let removed = fabric
        .change_volume(volume, |spec| spec.deleting = true, gone)
        .await;
    assert_eq!(fabric.failed(volume_made).await, "the volume was deleted");
    fabric.done(removed).await;
    let removed = fabric
        .change_pool(pool, |spec| spec.deleting = true, Wish::DeletePool { pool })
        .await;
    assert!(
        ["the pool is being deleted", "the pool was deleted"].contains(&fabric.failed(made).await.as_str())
    );
    fabric.done(removed).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_that_the_audit_refuses() {
    let fabric = Fabric::new(2, 2).await;
    let worker = fabric.start_worker();
    let (pool, made) = fabric.create_pool("p", 2, 2).await;
    fabric.done(made).await;
    worker.end().await;
    let mut layout = fabric.layout(pool).await;
    layout.controllers[1].cntlid_first = 1;
    fabric.put(key::layout(pool), &layout).await;
    let worker = fabric.start_worker();
    let (_, made) = fabric.create_volume(pool, "v").await;
    fabric
        .until("the refusal to be told", async || {
            let progress: Option<PoolProgress> = fabric.get(key::progress(pool)).await;
            progress.is_some_and(|progress| {
                progress
                    .waits
                    .iter()
                    .any(|wait| wait.contains("refused by the audit"))
            })
        })
        .await;
    assert_eq!(fabric.layout(pool).await, layout);
    layout.controllers[1].cntlid_first = 4096;
    fabric.put(key::layout(pool), &layout).await;
    fabric.done(made).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_grows_is_bounded() {
    let fabric = Fabric::new(0, 0).await;
    let mut oldest = None;
    for n in 0..250_u64 {
        let id = cluster::event::EventId::new(n, 0);
        oldest.get_or_insert(id.clone());
        fabric.put(key::event(&id), &n).await;
    }
    let worker = fabric.start_worker_with(worker::Options {
        events_max: 20,
        ..options()
    });
    fabric
        .until("the sweep", async || {
            fabric.all::<u64>(key::EVENTS).await.len() == 20
        })
        .await;
    assert_eq!(
        fabric.all::<u64>(key::EVENTS).await,
        (230..250).collect::<Vec<_>>(),
        "the newest stay"
    );
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_fabric_writes_nothing() {
    let fabric = Fabric::new(2, 2).await;
    let options = worker::Options {
        round_every: std::time::Duration::from_millis(50),
        agent_wait: std::time::Duration::from_millis(50),
        ..options()
    };
    let worker = fabric.start_worker_with(options);
    let (pool, made) = fabric.create_pool("p", 2, 2).await;
    fabric.done(made).await;
    let everybody_is_told = async || {
        let mut told = true;
        for n in 0..2 {
            let (id, _): (ControllerNodeId, _) = fabric.controller_node(n);
            let status: Option<Observed<cluster::status::ControllerNodeStatus>> =
                fabric.get(key::controller_node_status(id)).await;
            let config: Option<cluster::node_config::ControllerNodeConfig> =
                fabric.get(key::controller_node_config(id)).await;
            let applied = status
                .and_then(|status| status.status)
                .map(|status| status.revision);
            told &= applied.is_some() && applied == config.map(|config| config.revision);
        }
        let progress: Option<PoolProgress> = fabric.get(key::progress(pool)).await;
        told && progress.is_some_and(|progress| progress.waits.is_empty())
    };
    fabric.until("quiet", everybody_is_told).await;
    let revision = async || {
        fabric
            .store
            .read(store::Read::of(store::KeyRange::key("cluster")))
            .await
            .unwrap()
            .revision
    };
    let before = revision().await;
    // Twenty rounds of everything.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(revision().await, before);
    for agent in fabric.controller_nodes.values() {
        assert!(
            agent.configs_taken() < 10,
            "configurations are not handed over again and again"
        );
    }
    worker.end().await;
}
