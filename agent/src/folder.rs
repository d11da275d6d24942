//! The seam between the ledger and the file system: a folder of small files. What a simulation puts in its place loses, at a crash, what was
//! not synced.

use std::fs::{self, File};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

/// A folder of small files.
pub trait Folder: core::fmt::Debug + Send + Sync {
    /// Where a file is, for people.
    fn path(&self, name: &str) -> PathBuf;
    /// A file's contents.
    fn read(&self, name: &str) -> Result<Vec<u8>>;
    /// Make a file, or empty it, and write this; after a crash any part of it may be there.
    fn write(&self, name: &str, contents: &[u8]) -> Result<()>;
    /// The file's contents survive a crash.
    fn sync(&self, name: &str) -> Result<()>;
    /// Give a file another's name; after a crash either may be there under it, whole if it was synced.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// The names survive a crash.
    fn sync_names(&self) -> Result<()>;
}

/// A folder of this machine.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub(crate) fn of(folder: &Path) -> Disk {
        Disk {
            folder: folder.to_owned(),
        }
    }
}

impl Folder for Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.path(name))
    }
    fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        File::create(self.path(name))?.write_all(contents)
    }
    fn sync(&self, name: &str) -> Result<()> {
        File::open(self.path(name))?.sync_all()
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        fs::rename(self.path(from), self.path(to))
    }
    fn sync_names(&self) -> Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}
