//! A folder that loses, at a crash, what was not synced: contents are torn anywhere, names are the old ones or the new ones.

use crate::world::Random;
use agent::folder::Folder;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub struct TornFolder {
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    now: BTreeMap<String, File>,
    /// As a crash may find the names; contents that were not synced are torn there, too.
    durable: BTreeMap<String, File>,
    /// How many more operations succeed.
    left: Option<u32>,
}

#[derive(Clone, Debug)]
struct File {
    contents: Vec<u8>,
    synced: bool,
}

impl TornFolder {
    /// After so many more operations every one fails: the process dies there.
    pub fn break_after(&self, operations: u32) {
        self.files.lock().expect("one thread").left = Some(operations);
    }

    /// A process begins that does not die in a write, for now.
    pub fn mend(&self) {
        self.files.lock().expect("one thread").left = None;
    }

    /// The process died; this is what the next one finds.
    pub fn crash(&self, random: &mut Random) {
        let mut files = self.files.lock().expect("one thread");
        let old_names = random.one_in(2);
        let mut found = if old_names { &files.durable } else { &files.now }.clone();
        for file in found.values_mut().filter(|file| !file.synced) {
            let kept = random.below(file.contents.len() as u64 + 1) as usize;
            file.contents.truncate(kept);
            file.synced = true;
        }
        files.now = found.clone();
        files.durable = found;
        files.left = None;
    }
}

impl Files {
    fn step(&mut self) -> Result<()> {
        match &mut self.left {
            Some(0) => Err(Error::other("the process is about to die")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
    fn file(&mut self, name: &str) -> Result<&mut File> {
        self.now.get_mut(name).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Folder for TornFolder {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/ledger").join(name)
    }
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self
            .files
            .lock()
            .expect("one thread")
            .file(name)?
            .contents
            .clone())
    }
    fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        let mut files = self.files.lock().expect("one thread");
        files.step()?;
        let file = File {
            contents: contents.to_vec(),
            synced: false,
        };
        files.now.insert(name.into(), file);
        Ok(())
    }
    fn sync(&self, name: &str) -> Result<()> {
        let mut files = self.files.lock().expect("one thread");
        files.step()?;
        files.file(name)?.synced = true;
        Ok(())
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut files = self.files.lock().expect("one thread");
        files.step()?;
        let file = files.now.remove(from).ok_or(ErrorKind::NotFound)?;
        files.now.insert(to.into(), file);
        Ok(())
    }
    fn sync_names(&self) -> Result<()> {
        let mut files = self.files.lock().expect("one thread");
        files.step()?;
        files.durable = files.now.clone();
        Ok(())
    }
}
