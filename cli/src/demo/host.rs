//! The demo's own host: our initiator over all paths, on a reactor of its own.

use anyhow::{Context, bail};
use engine::{Handle, ReactorConfig};
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, PathStatus,
    VolumeId,
};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A host of one subsystem.
pub(crate) struct DemoHost {
    reactor: Handle<HostControl>,
    reports: Receiver<HostReport>,
    volume: VolumeId,
    next: u64,
}

/// An operation that ended.
pub(crate) struct Ended {
    /// Its name.
    pub(crate) id: u64,
    /// The bytes of a read, or what it failed with.
    pub(crate) result: Result<Vec<u8>, String>,
}

impl DemoHost {
    /// A host by this NQN of a volume of this subsystem; not connected yet.
    pub(crate) fn start(host_nqn: &str, subsystem_nqn: &str, volume: Uuid) -> anyhow::Result<DemoHost> {
        let host_id = *Uuid::new_v4().as_bytes();
        // The address is not looked at: paths name theirs.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let association = AssociationConfig::new(host_nqn, host_id, subsystem_nqn, nowhere);
        let config = ReactorConfig {
            name: "demo-host".to_owned(),
            ..ReactorConfig::default()
        };
        let (tell, reports) = channel();
        let reactor = engine::start(
            config,
            move |_| HostNode::new(MultipathConfig::new(association)),
            move |report| {
                // Nobody listens any more when the demo ends.
                let _ = tell.send(report);
            },
        )
        .context("cannot start the demo's host")?;
        Ok(DemoHost {
            reactor,
            reports,
            volume: VolumeId(*volume.as_bytes()),
            next: 0,
        })
    }

    /// Connects over these addresses, and waits until all are live and `usable` of them serve the volume.
    pub(crate) fn connect(
        &mut self,
        addresses: Vec<SocketAddr>,
        usable: usize,
    ) -> anyhow::Result<Vec<PathStatus>> {
        let wanted = addresses.len();
        self.begin_connecting(addresses)?;
        self.wait_paths(Duration::from_secs(15), |paths, volume| {
            let live = paths.iter().filter(|path| path.is_live()).count();
            let serving = paths.iter().filter(|path| path.serves(volume)).count();
            live == wanted && serving == usable
        })
    }

    /// Connects over these addresses, and keeps trying.
    pub(crate) fn begin_connecting(&self, addresses: Vec<SocketAddr>) -> anyhow::Result<()> {
        self.control(HostControl::Connect { addresses })
    }

    /// Asks for the paths until they are as wanted.
    pub(crate) fn wait_paths(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&[PathStatus], VolumeId) -> bool,
    ) -> anyhow::Result<Vec<PathStatus>> {
        let deadline = Instant::now() + patience;
        let mut last = Vec::new();
        while Instant::now() < deadline {
            self.control(HostControl::Paths)?;
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_millis(50) {
                match self.reports.recv_timeout(Duration::from_millis(50)) {
                    Ok(HostReport::Paths(paths)) => {
                        if wanted(&paths, self.volume) {
                            return Ok(paths);
                        }
                        last = paths;
                    }
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => bail!("the demo's host has stopped"),
                }
            }
        }
        bail!("the host's paths are not as they should be: {last:?}")
    }

    /// Begins an operation; its name.
    pub(crate) fn submit(&mut self, operation: HostOperation) -> anyhow::Result<u64> {
        let id = self.next;
        self.next += 1;
        self.control(HostControl::Submit {
            id,
            volume: self.volume,
            operation,
        })?;
        Ok(id)
    }

    /// The next operation that ends within the time.
    pub(crate) fn ended(&mut self, patience: Duration) -> anyhow::Result<Option<Ended>> {
        let deadline = Instant::now() + patience;
        loop {
            match self
                .reports
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(HostReport::Completed { id, result }) => {
                    return Ok(Some(Ended {
                        id,
                        result: result.map_err(|status| status.to_string()),
                    }));
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the demo's host has stopped"),
            }
        }
    }

    fn control(&self, message: HostControl) -> anyhow::Result<()> {
        self.reactor
            .control(message)
            .context("the demo's host has stopped")
    }
}
