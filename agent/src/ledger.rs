//! What a node remembers of the control plane: who it is, and its last configuration.
//!
//! A folder with two files, `identity` and `config`; each is one line of header (`trestle-ledger 1 <crc32c in hex>`) and JSON
//! behind it, written to a new file, synced, renamed, and the folder synced: after a crash either the old or the new one is
//! there, whole.
//!
//! A file that does not match its checksum is an error and never an empty ledger: an older configuration, accepted by a node
//! that forgot a newer one, would sweep what it does not name.

use crate::folder::{Disk, Folder};
use control::agent::{NodeConfig, NodeKind};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

const HEADER: &str = "trestle-ledger 1";
const IDENTITY: &str = "identity";
const CONFIG: &str = "config";

/// Who the node is: chosen at its first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which kind; a folder of the other kind is refused.
    pub kind: NodeKind,
    /// Never reused.
    pub id: Uuid,
    /// Given by the cluster when the node joined.
    pub agent_token: Option<String>,
}

/// The ledger, open.
#[derive(Debug)]
pub struct Ledger {
    folder: Arc<dyn Folder>,
    identity: Identity,
    config: Option<NodeConfig>,
}

/// Why a ledger cannot be used.
#[derive(Debug, Error)]
pub enum OpenLedger {
    /// The folder or a file in it cannot be read or made.
    #[error("cannot use {path} as a ledger")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is damaged.
    #[error("the ledger file {path} is damaged ({problem}); nothing was changed. {}", remedy(.path))]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It is the ledger of a node of the other kind.
    #[error("{path} is the ledger of a {}: give this node a folder of its own", kind_words(.found))]
    OtherKind {
        /// Which.
        path: PathBuf,
        /// What it belongs to.
        found: NodeKind,
    },
    /// A new ledger could not be written.
    #[error(transparent)]
    Write(#[from] WriteLedger),
}

/// What to do about a damaged file. A configuration can be had again; who a node is nobody else knows.
fn remedy(path: &Path) -> &'static str {
    if path.ends_with(IDENTITY) {
        return "It says who this node is: put back a copy of it. If there is none, the node must join as a new one: from \
                an empty folder, under another name";
    }
    "Put back a copy of it, or, if there is none, make sure that the api-servers are up and start once with --reset-ledger"
}

fn kind_words(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::DiskNode => "disk node",
        NodeKind::ControllerNode => "controller node",
    }
}

/// Why a ledger cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the ledger file {path}; the configuration is not taken")]
pub struct WriteLedger {
    path: PathBuf,
    source: std::io::Error,
}

impl Ledger {
    /// Opens the ledger in `folder`, or begins one for a node of this kind with the id `fresh`.
    pub fn open(folder: &Path, kind: NodeKind, fresh: Uuid) -> Result<Ledger, OpenLedger> {
        fs::create_dir_all(folder).map_err(|source| OpenLedger::Unreadable {
            path: folder.to_owned(),
            source,
        })?;
        Ledger::open_in(Arc::new(Disk::of(folder)), kind, fresh)
    }

    /// The same, in a folder of any kind that is there already.
    pub fn open_in(folder: Arc<dyn Folder>, kind: NodeKind, fresh: Uuid) -> Result<Ledger, OpenLedger> {
        let identity: Identity = match read(&*folder, IDENTITY)? {
            Some(identity) => identity,
            None => {
                let identity = Identity {
                    kind,
                    id: fresh,
                    agent_token: None,
                };
                write(&*folder, IDENTITY, &identity)?;
                identity
            }
        };
        if identity.kind != kind {
            return Err(OpenLedger::OtherKind {
                path: folder
                    .path(IDENTITY)
                    .parent()
                    .map_or_else(PathBuf::new, Path::to_path_buf),
                found: identity.kind,
            });
        }
        let config = read(&*folder, CONFIG)?;
        Ok(Ledger {
            folder,
            identity,
            config,
        })
    }

    /// Forgets the configuration (`--reset-ledger`): the damaged file is kept beside, under another name.
    pub fn reset(folder: &Path) -> Result<(), OpenLedger> {
        let path = folder.join(CONFIG);
        match fs::rename(&path, folder.join("config.damaged")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(OpenLedger::Unreadable { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Who the node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last configuration it accepted.
    pub fn config(&self) -> Option<&NodeConfig> {
        self.config.as_ref()
    }

    /// The token the cluster gave; durable when this returns.
    pub fn record_token(&mut self, token: &str) -> Result<(), WriteLedger> {
        let identity = Identity {
            agent_token: Some(token.to_owned()),
            ..self.identity.clone()
        };
        write(&*self.folder, IDENTITY, &identity)?;
        self.identity = identity;
        Ok(())
    }

    /// A configuration; durable when this returns.
    ///
    /// # Panics
    /// If it is older than the one it replaces: the server checks that first.
    pub fn record_config(&mut self, config: &NodeConfig) -> Result<(), WriteLedger> {
        assert!(
            self.config
                .as_ref()
                .is_none_or(|present| present.revision() <= config.revision()),
            "a ledger's revision never goes back"
        );
        write(&*self.folder, CONFIG, config)?;
        self.config = Some(config.clone());
        Ok(())
    }
}

fn read<T: for<'a> Deserialize<'a>>(folder: &dyn Folder, name: &str) -> Result<Option<T>, OpenLedger> {
    let path = folder.path(name);
    let text = match folder.read(name) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(OpenLedger::Unreadable { path, source });
        }
    };
    parse(&text)
        .map(Some)
        .map_err(|problem| OpenLedger::Corrupt { path, problem })
}

fn parse<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, String> {
    let end = text
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or("no header line")?;
    let header = std::str::from_utf8(&text[..end]).map_err(|_| "the header is not text")?;
    let sum = header
        .strip_prefix(HEADER)
        .map(str::trim)
        .ok_or("the header is not a ledger's")?;
    let sum = u32::from_str_radix(sum, 16).map_err(|_| "the checksum is not a number")?;
    let body = &text[end + 1..];
    if crc32c::crc32c(body) != sum {
        return Err("the checksum does not match".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| format!("the contents cannot be read: {error}"))
}

fn write<T: Serialize>(folder: &dyn Folder, name: &str, value: &T) -> Result<(), WriteLedger> {
    let body = serde_json::to_vec(value).expect("ledger records can be written as JSON");
    let text = [
        format!("{HEADER} {:08x}\n", crc32c::crc32c(&body)).as_bytes(),
        &body,
    ]
    .concat();
    replace(folder, name, &text).map_err(|source| WriteLedger {
        path: folder.path(name),
        source,
    })
}

fn replace(folder: &dyn Folder, name: &str, text: &[u8]) -> std::io::Result<()> {
    let fresh = format!("{name}.new");
    folder.write(&fresh, text)?;
    folder.sync(&fresh)?;
    folder.rename(&fresh, name)?;
    folder.sync_names()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::node_config::DiskNodeConfig;
    use cluster::{DiskNodeId, Revision};

    fn config(revision: u64) -> NodeConfig {
        NodeConfig::DiskNode(DiskNodeConfig {
            node: DiskNodeId(Uuid::nil()),
            revision: Revision(revision),
            legs: Default::default(),
        })
    }

    #[test]
    fn what_was_recorded_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let id = Uuid::from_u128(7);
        let mut ledger = Ledger::open(folder.path(), NodeKind::DiskNode, id).unwrap();
        ledger.record_token("secret").unwrap();
        ledger.record_config(&config(3)).unwrap();
        drop(ledger);
        let ledger = Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::from_u128(8)).unwrap();
        assert_eq!(ledger.identity().id, id, "the first id stays");
        assert_eq!(ledger.identity().agent_token.as_deref(), Some("secret"));
        assert_eq!(ledger.config(), Some(&config(3)));
    }

    #[test]
    fn every_damaged_byte_is_refused_and_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::from_u128(7))
            .unwrap()
            .record_config(&config(3))
            .unwrap();
        let path = folder.path().join(CONFIG);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            fs::write(&path, &bad).unwrap();
            let error = Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil()).unwrap_err();
            assert!(matches!(error, OpenLedger::Corrupt { .. }), "byte {at}: {error}");
            assert!(error.to_string().contains("--reset-ledger"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
        let identity = folder.path().join(IDENTITY);
        let who = fs::read(&identity).unwrap();
        fs::write(&identity, &who[1..]).unwrap();
        let error = Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil()).unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("who this node is") && !words.contains("--reset"),
            "{words}"
        );
        fs::write(&identity, &who).unwrap();
        for end in 0..good.len() {
            fs::write(&path, &good[..end]).unwrap();
            assert!(
                Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil()).is_err(),
                "cut at {end}"
            );
        }
        Ledger::reset(folder.path()).unwrap();
        let ledger = Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil()).unwrap();
        assert_eq!(ledger.config(), None);
        assert_eq!(ledger.identity().id, Uuid::from_u128(7), "the identity is kept");
    }

    #[test]
    fn a_folder_of_the_other_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil()).unwrap();
        let error = Ledger::open(folder.path(), NodeKind::ControllerNode, Uuid::nil()).unwrap_err();
        assert!(
            matches!(
                error,
                OpenLedger::OtherKind {
                    found: NodeKind::DiskNode,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    #[should_panic(expected = "never goes back")]
    fn an_older_configuration_is_our_own_bug() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), NodeKind::DiskNode, Uuid::nil()).unwrap();
        ledger.record_config(&config(3)).unwrap();
        let _ = ledger.record_config(&config(2));
    }
}
