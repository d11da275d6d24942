//! Which calls a verb is made of.

use super::api::{Api, CallApi, segment};
use super::table::{Row, print_json, print_row, print_rows, table};
use super::wait::{wait_for, wait_if_told};
use crate::arguments::{
    ClientVerb, Format, HostVerb, NodeVerb, OperationVerb, PoolVerb, VolumeVerb, WaitOptions,
};
use control::rest::{
    Accepted, Attachment, AttachmentCreate, ControllerNode, DiskNode, EventBody, Failover, Host, HostCreate,
    NodePatch, OperationBody, Pool, PoolCreate, Protection, SizeInput, Volume, VolumeCreate, VolumePatch,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// More than any cluster has.
const ALL: usize = 1_000_000;

/// Carries a verb out.
pub(crate) async fn carry_out(api: &Api, format: Format, verb: ClientVerb) -> Result<(), CallApi> {
    match verb {
        ClientVerb::Status => status(api, format).await,
        ClientVerb::Pool(verb) => pool(api, format, verb).await,
        ClientVerb::Volume(verb) => volume(api, format, verb).await,
        ClientVerb::Host(verb) => host(api, format, verb).await,
        ClientVerb::DiskNodes(verb) => node::<DiskNode>(api, format, "disk-nodes", verb).await,
        ClientVerb::ControllerNodes(verb) => {
            node::<ControllerNode>(api, format, "controller-nodes", verb).await
        }
        ClientVerb::Operation(verb) => operation(api, format, verb).await,
        ClientVerb::Events { limit } => {
            let events: Vec<EventBody> = api.list("events", limit as usize).await?;
            print_rows(format, &events);
            Ok(())
        }
    }
}

/// Everything at one look.
#[derive(Serialize)]
struct Status {
    disk_nodes: Vec<DiskNode>,
    controller_nodes: Vec<ControllerNode>,
    pools: Vec<Pool>,
    volumes: Vec<Volume>,
}

async fn status(api: &Api, format: Format) -> Result<(), CallApi> {
    let status = Status {
        disk_nodes: api.list("disk-nodes", ALL).await?,
        controller_nodes: api.list("controller-nodes", ALL).await?,
        pools: api.list("pools", ALL).await?,
        volumes: api.list("volumes", ALL).await?,
    };
    if format == Format::Json {
        print_json(&status);
        return Ok(());
    }
    println!("Disk nodes\n{}\n", table(&status.disk_nodes));
    println!("Controller nodes\n{}\n", table(&status.controller_nodes));
    println!("Pools\n{}\n", table(&status.pools));
    println!("Volumes\n{}", table(&status.volumes));
    for pool in &status.pools {
        let troubles = pool.status.waits_for.iter().chain(&pool.status.warnings);
        troubles.for_each(|trouble| println!("\n! pool {}: {trouble}", pool.name));
    }
    Ok(())
}

async fn pool(api: &Api, format: Format, verb: PoolVerb) -> Result<(), CallApi> {
    match verb {
        PoolVerb::Create {
            name,
            capacity,
            extent_size,
            mirror,
            controllers,
            wait,
        } => {
            let body = PoolCreate {
                name,
                capacity: SizeInput::bytes(capacity),
                extent: Some(SizeInput::bytes(extent_size)),
                protection: if mirror <= 1 {
                    Protection::None {}
                } else {
                    Protection::Mirror { legs: mirror.into() }
                },
                controller_count: Some(controllers.into()),
                owner: None,
            };
            let accepted: Accepted<Pool> = api.create("pools", &body).await?;
            let path = format!("pools/{}", accepted.resource.id);
            finish(api, format, accepted, wait, &path).await
        }
        PoolVerb::List => list::<Pool>(api, format, "pools").await,
        PoolVerb::Show { pool } => show::<Pool>(api, format, &format!("pools/{}", segment(&pool))).await,
        PoolVerb::Delete { pool, wait } => {
            delete(api, format, &format!("pools/{}", segment(&pool)), wait).await
        }
        PoolVerb::Failover { pool, to, wait } => {
            let path = format!("pools/{}", segment(&pool));
            let accepted: Accepted<Pool> = api.create(&format!("{path}/failover"), &Failover { to }).await?;
            finish(api, format, accepted, wait, &path).await
        }
    }
}

async fn volume(api: &Api, format: Format, verb: VolumeVerb) -> Result<(), CallApi> {
    match verb {
        VolumeVerb::Create {
            name,
            pool,
            size,
            wait,
        } => {
            let body = VolumeCreate {
                name,
                pool,
                size: SizeInput::bytes(size),
            };
            let accepted: Accepted<Volume> = api.create("volumes", &body).await?;
            let path = format!("volumes/{}", accepted.resource.id);
            finish(api, format, accepted, wait, &path).await
        }
        VolumeVerb::List { pool } => {
            let filter = pool.map_or(String::new(), |pool| format!("?pool={}", segment(&pool)));
            list::<Volume>(api, format, &format!("volumes{filter}")).await
        }
        VolumeVerb::Show { volume } => {
            show::<Volume>(api, format, &format!("volumes/{}", segment(&volume))).await
        }
        VolumeVerb::Extend { volume, size, wait } => {
            let path = format!("volumes/{}", segment(&volume));
            let accepted: Accepted<Volume> = api
                .change(
                    &path,
                    &VolumePatch {
                        size: SizeInput::bytes(size),
                    },
                )
                .await?;
            finish(api, format, accepted, wait, &path).await
        }
        VolumeVerb::Attach { volume, host, wait } => attach(api, format, volume, host, wait).await,
        VolumeVerb::Detach { volume, host, wait } => {
            let path = format!("attachments/{}.{}", segment(&volume), segment(&host));
            delete(api, format, &path, wait).await
        }
        VolumeVerb::Delete { volume, wait } => {
            delete(api, format, &format!("volumes/{}", segment(&volume)), wait).await
        }
    }
}

/// An NQN that nobody registered yet is registered, under a name made from its end.
async fn attach(
    api: &Api,
    format: Format,
    volume: String,
    host: String,
    wait: WaitOptions,
) -> Result<(), CallApi> {
    if host.starts_with("nqn.") {
        let known: Vec<Host> = api.list("hosts", ALL).await?;
        if !known.iter().any(|known| known.nqn == host) {
            let create = HostCreate {
                name: name_of(&host),
                nqn: host.clone(),
            };
            let _: Host = api.create("hosts", &create).await?;
        }
    }
    let body = AttachmentCreate { volume, host };
    let accepted: Accepted<Attachment> = api.create("attachments", &body).await?;
    let path = format!("attachments/{}", accepted.resource.id);
    finish(api, format, accepted, wait, &path).await
}

/// `host-` and what of the NQN's end a name may hold.
fn name_of(nqn: &str) -> String {
    let tail = nqn.rsplit(':').next().unwrap_or(nqn).to_lowercase();
    let kept: String = tail
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(50)
        .collect();
    format!("host-{}", kept.trim_matches('-'))
        .trim_end_matches('-')
        .to_owned()
}

async fn host(api: &Api, format: Format, verb: HostVerb) -> Result<(), CallApi> {
    match verb {
        HostVerb::Create { name, nqn } => {
            let host: Host = api.create("hosts", &HostCreate { name, nqn }).await?;
            print_row(format, &host);
            Ok(())
        }
        HostVerb::List => list::<Host>(api, format, "hosts").await,
        HostVerb::Delete { host } => {
            api.delete::<serde_json::Value>(&format!("hosts/{}", segment(&host)))
                .await?;
            Ok(())
        }
    }
}

async fn node<T: Row + DeserializeOwned>(
    api: &Api,
    format: Format,
    kind: &str,
    verb: NodeVerb,
) -> Result<(), CallApi> {
    let (node, cordoned) = match verb {
        NodeVerb::List => return list::<T>(api, format, kind).await,
        NodeVerb::Show { node } => {
            return show::<T>(api, format, &format!("{kind}/{}", segment(&node))).await;
        }
        NodeVerb::Cordon { node } => (node, true),
        NodeVerb::Uncordon { node } => (node, false),
    };
    let patch = NodePatch {
        cordoned: Some(cordoned),
        location: None,
    };
    let node: T = api.change(&format!("{kind}/{}", segment(&node)), &patch).await?;
    print_row(format, &node);
    Ok(())
}

async fn operation(api: &Api, format: Format, verb: OperationVerb) -> Result<(), CallApi> {
    match verb {
        OperationVerb::List => list::<OperationBody>(api, format, "operations").await,
        OperationVerb::Show { operation } => {
            show::<OperationBody>(api, format, &format!("operations/{}", segment(&operation))).await
        }
        OperationVerb::Wait {
            operation,
            wait_seconds,
        } => {
            let operation: OperationBody = api.read(&format!("operations/{}", segment(&operation))).await?;
            let ended = wait_for(api, operation, wait_seconds).await?;
            print_row(format, &ended);
            Ok(())
        }
    }
}

async fn list<T: Row + DeserializeOwned>(api: &Api, format: Format, path: &str) -> Result<(), CallApi> {
    let rows: Vec<T> = api.list(path, ALL).await?;
    print_rows(format, &rows);
    Ok(())
}

async fn show<T: Row + DeserializeOwned>(api: &Api, format: Format, path: &str) -> Result<(), CallApi> {
    let row: T = api.read(path).await?;
    print_row(format, &row);
    Ok(())
}

/// Waits if told to, then prints what was made as it is then, or the operation if nobody waits.
async fn finish<T: Row + DeserializeOwned>(
    api: &Api,
    format: Format,
    accepted: Accepted<T>,
    wait: WaitOptions,
    path: &str,
) -> Result<(), CallApi> {
    let ended = wait_if_told(api, accepted.operation, wait).await?;
    if wait.wait {
        return show::<T>(api, format, path).await;
    }
    print_row(format, &ended);
    Ok(())
}

async fn delete(api: &Api, format: Format, path: &str, wait: WaitOptions) -> Result<(), CallApi> {
    let Some(operation) = api.delete::<OperationBody>(path).await? else {
        return Ok(());
    };
    let ended = wait_if_told(api, operation, wait).await?;
    print_row(format, &ended);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn hosts_are_named_after_the_end_of_their_nqn() {
        assert_eq!(
            name_of("nqn.2014-08.org.nvmexpress:uuid:3AEB300a-dac9"),
            "host-3aeb300a-dac9"
        );
        assert_eq!(name_of("nqn.2020-01.org.example:büro_7-"), "host-bro7");
        assert_eq!(name_of("nqn.2020-01.org.example:"), "host");
    }
}
