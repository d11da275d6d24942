//! The embedded database's side: the present records, the running leases and the revision; committed with fsync.
//!
//! | table | key | value |
//! |---|---|---|
//! | `records` | key | create revision, mod revision, version, lease (or 0): u64 each, little-endian; then the value |
//! | `leases` | identifier, i64 | time to live in ms, u64 |
//! | `meta` | `format`, `revision` | u64 |

use crate::{Change, KeyValue, Lease, LeaseId, StoreError, StoreRevision};
use redb::{Database, DatabaseError, Durability, ReadableTable, TableDefinition};
use std::path::Path;
use std::time::Duration;

const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const LEASES: TableDefinition<i64, u64> = TableDefinition::new("leases");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Of the tables above.
const FORMAT: u64 = 1;
/// The file in the store's folder.
const FILE: &str = "store.redb";
/// Everything is in memory anyhow.
const CACHE_BYTES: usize = 16 << 20;
/// Before the value of a record.
const HEADER_BYTES: usize = 32;

/// See the module.
pub(super) struct Disk {
    database: Database,
}

/// What was found.
pub(super) struct Contents {
    pub(super) revision: StoreRevision,
    pub(super) entries: Vec<KeyValue>,
    pub(super) leases: Vec<Lease>,
}

impl Disk {
    pub(super) fn open(folder: &Path) -> Result<(Disk, Contents), StoreError> {
        let at = |error: std::io::Error| StoreError::Unusable {
            reason: format!("{}: {error}", folder.display()),
        };
        std::fs::create_dir_all(folder).map_err(at)?;
        let path = folder.join(FILE);
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::Unusable {
                    reason: format!(
                        "another process has {} open: stop it, or give both an etcd",
                        path.display()
                    ),
                },
                DatabaseError::Storage(redb::StorageError::Io(error))
                    if error.kind() != std::io::ErrorKind::InvalidData =>
                {
                    StoreError::Unusable {
                        reason: format!("{}: {error}", path.display()),
                    }
                }
                other => StoreError::Damaged {
                    reason: format!("{}: {other}", path.display()),
                },
            })?;
        // The file's own name must survive a crash, too.
        std::fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(at)?;
        let disk = Disk { database };
        let contents = disk.load().map_err(|error| StoreError::Damaged {
            reason: error.to_string(),
        })??;
        Ok((disk, contents))
    }

    /// Read everything; a new file is given its tables first.
    fn load(&self) -> Result<Result<Contents, StoreError>, redb::Error> {
        let transaction = self.begin()?;
        let contents = {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get("format")?.map(|found| found.value());
            if format.is_none() {
                meta.insert("format", FORMAT)?;
                meta.insert("revision", 1)?; // As an etcd that was never written to.
            } else if format != Some(FORMAT) {
                let reason =
                    format!("its format is {format:?}, this program knows {FORMAT}: use a newer one");
                return Ok(Err(StoreError::Unusable { reason }));
            }
            let revision = StoreRevision(meta.get("revision")?.map_or(0, |found| found.value()));
            let mut entries = Vec::new();
            for row in transaction.open_table(RECORDS)?.iter()? {
                let (key, value) = row?;
                match parse_entry(key.value(), value.value(), revision) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => return Ok(Err(error)),
                }
            }
            let mut leases = Vec::new();
            for row in transaction.open_table(LEASES)?.iter()? {
                let (id, ttl_ms) = row?;
                leases.push(Lease {
                    id: LeaseId(id.value()),
                    ttl: Duration::from_millis(ttl_ms.value()),
                });
            }
            Contents {
                revision,
                entries,
                leases,
            }
        };
        transaction.commit()?;
        Ok(Ok(contents))
    }

    fn begin(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }

    /// Changes, the revision they are of, and a lease that ended: durable when this returns.
    pub(super) fn commit(
        &mut self,
        revision: StoreRevision,
        changes: &[Change],
        ended: Option<LeaseId>,
    ) -> Result<(), String> {
        self.try_commit(revision, changes, ended)
            .map_err(|error| error.to_string())
    }

    fn try_commit(
        &mut self,
        revision: StoreRevision,
        changes: &[Change],
        ended: Option<LeaseId>,
    ) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for change in changes {
                match change {
                    Change::Put(entry) => _ = records.insert(&entry.key[..], &write_entry(entry)[..])?,
                    Change::Delete { key, .. } => _ = records.remove(&key[..])?,
                }
            }
            if let Some(lease) = ended {
                transaction.open_table(LEASES)?.remove(lease.0)?;
            }
            transaction.open_table(META)?.insert("revision", revision.0)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// A lease runs: durable when this returns.
    pub(super) fn add_lease(&mut self, lease: Lease) -> Result<(), String> {
        let add = || -> Result<(), redb::Error> {
            let transaction = self.begin()?;
            transaction
                .open_table(LEASES)?
                .insert(lease.id.0, lease.ttl.as_millis() as u64)?;
            transaction.commit()?;
            Ok(())
        };
        add().map_err(|error| error.to_string())
    }
}

fn write_entry(entry: &KeyValue) -> Vec<u8> {
    let lease = entry.lease.map_or(0, |lease| lease.0 as u64);
    let header = [
        entry.create_revision.0,
        entry.mod_revision.0,
        entry.version,
        lease,
    ];
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entry.value.len());
    header.iter().for_each(|field| bytes.extend(field.to_le_bytes()));
    bytes.extend(&entry.value);
    bytes
}

fn parse_entry(key: &[u8], bytes: &[u8], newest: StoreRevision) -> Result<KeyValue, StoreError> {
    let damaged = |what: &str| StoreError::Damaged {
        reason: format!("the record {} {what}", String::from_utf8_lossy(key)),
    };
    let (header, value) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| damaged("is too short"))?;
    let field = |index: usize| {
        u64::from_le_bytes(
            header[index * 8..][..8]
                .try_into()
                .expect("eight bytes were just sliced"),
        )
    };
    let entry = KeyValue {
        key: key.to_vec(),
        value: value.to_vec(),
        create_revision: StoreRevision(field(0)),
        mod_revision: StoreRevision(field(1)),
        version: field(2),
        lease: Some(LeaseId(field(3) as i64)).filter(|lease| lease.0 != 0),
    };
    if entry.create_revision > entry.mod_revision || entry.mod_revision > newest || entry.version == 0 {
        return Err(damaged("has impossible revisions"));
    }
    Ok(entry)
}
