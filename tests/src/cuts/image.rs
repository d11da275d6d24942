//! A disk as a power cut would find it: what is on the media, and what was asked and may be there or not.
//!
//! Stricter than [`WorldDisk`]: a flush promises only what had ended when it was asked, and a write that is in flight, durable or
//! not, may be on the media in part already.
//!
//! [`WorldDisk`]: crate::world::WorldDisk

use crate::world::{DiskChange, DiskNote, WorldDisk};
use fabric::driver::DiskRequestId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a sector: what a disk never tears.
pub const SECTOR: u64 = 512;
/// Bytes of a block.
pub const BLOCK: u64 = 4096;

type Block = [u8; BLOCK as usize];

/// What a write brings.
#[derive(Clone, Debug)]
enum Content {
    /// These bytes, from there on.
    Bytes(Arc<[u8]>, usize),
    Zeroes,
}

/// A write that is not on the media for sure.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// Where, in bytes of the disk.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    content: Content,
    durable: bool,
    /// In which place it ended; none: it is in flight.
    ended: Option<u64>,
    request: DiskRequestId,
}

impl Unsettled {
    /// Whether the disk has answered it.
    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether it was to be durable when it ended.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// The bytes of a block of it; `None` is zeroes.
    fn block(&self, at: u64) -> Option<&[u8]> {
        match &self.content {
            Content::Bytes(bytes, from) => {
                let start = from + (at - self.offset) as usize;
                Some(&bytes[start..start + BLOCK as usize])
            }
            Content::Zeroes => None,
        }
    }

    fn part(&self, from: u64, end: u64) -> Option<Unsettled> {
        let content = match &self.content {
            Content::Bytes(bytes, start) => Content::Bytes(
                bytes.clone(),
                start + (from.max(self.offset) - self.offset) as usize,
            ),
            Content::Zeroes => Content::Zeroes,
        };
        (from < end).then(|| Unsettled {
            offset: from,
            length: end - from,
            content,
            ..self.clone()
        })
    }

    /// What of it lies outside of a range.
    fn outside(&self, offset: u64, length: u64) -> impl Iterator<Item = Unsettled> {
        let end = self.offset + self.length;
        let before = self.part(self.offset, end.min(offset));
        let behind = self.part(self.offset.max(offset + length), end);
        before.into_iter().chain(behind)
    }
}

/// What became of an unsettled write when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on the media.
    Kept,
    /// Nothing of it is.
    Lost,
    /// Of its sectors only so many from its start are.
    Head(u64),
    /// Of its sectors all but so many from its start are.
    Tail(u64),
}

impl Fate {
    fn has(self, sector: u64) -> bool {
        match self {
            Fate::Kept => true,
            Fate::Lost => false,
            Fate::Head(sectors) => sector < sectors,
            Fate::Tail(sectors) => sector >= sectors,
        }
    }
}

/// What is on the media.
#[derive(Clone, Debug)]
pub struct Media {
    size_bytes: u64,
    blocks: BTreeMap<u64, Arc<Block>>,
}

impl Media {
    /// A disk of zeroes.
    pub fn blank(size_bytes: u64) -> Media {
        Media {
            size_bytes,
            blocks: BTreeMap::new(),
        }
    }

    /// A disk with exactly this on it.
    pub fn disk(&self) -> WorldDisk {
        let mut disk = WorldDisk::new(self.size_bytes);
        for (at, bytes) in &self.blocks {
            disk.write(*at, &bytes[..], true);
        }
        disk
    }

    /// The bytes from `offset` on.
    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        for (at, block) in self.blocks.range(offset..offset + length) {
            bytes[(at - offset) as usize..][..BLOCK as usize].copy_from_slice(&block[..]);
        }
        bytes
    }

    /// Puts bytes there.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let write = Unsettled {
            offset,
            length: bytes.len() as u64,
            content: Content::Bytes(bytes.into(), 0),
            durable: true,
            ended: None,
            request: DiskRequestId(0),
        };
        self.settle(&write, Fate::Kept);
    }

    fn settle(&mut self, write: &Unsettled, fate: Fate) {
        if fate == Fate::Kept && matches!(write.content, Content::Zeroes) {
            let range = write.offset..write.offset + write.length;
            let gone: Vec<u64> = self.blocks.range(range).map(|(at, _)| *at).collect();
            gone.iter().for_each(|at| drop(self.blocks.remove(at)));
            return;
        }
        for at in (write.offset..write.offset + write.length).step_by(BLOCK as usize) {
            self.settle_block(write, fate, at);
        }
    }

    fn settle_block(&mut self, write: &Unsettled, fate: Fate, at: u64) {
        let first = (at - write.offset) / SECTOR;
        let per_block = BLOCK / SECTOR;
        if (first..first + per_block).all(|sector| !fate.has(sector)) {
            return;
        }
        let mut block: Block = self.blocks.get(&at).map_or([0; BLOCK as usize], |block| **block);
        for sector in (0..per_block).filter(|sector| fate.has(first + sector)) {
            let place = (sector * SECTOR) as usize..((sector + 1) * SECTOR) as usize;
            match write.block(at) {
                Some(bytes) => block[place.clone()].copy_from_slice(&bytes[place]),
                None => block[place].fill(0),
            }
        }
        match block.iter().all(|byte| *byte == 0) {
            true => drop(self.blocks.remove(&at)),
            false => drop(self.blocks.insert(at, Arc::new(block))),
        }
    }
}

/// A disk at some moment of a story.
#[derive(Clone, Debug)]
pub struct Image {
    media: Media,
    unsettled: Vec<Unsettled>,
    /// Flushes in flight, and how many writes had ended when they were asked.
    flushes: BTreeMap<DiskRequestId, u64>,
    ends: u64,
}

impl Image {
    /// A disk that has just been given power.
    pub fn new(media: Media) -> Image {
        Image {
            media,
            unsettled: Vec::new(),
            flushes: BTreeMap::new(),
            ends: 0,
        }
    }

    /// Something happened at this disk.
    pub fn note(&mut self, note: &DiskNote) {
        match note {
            DiskNote::Asked { request, change, .. } => self.asked(*request, change),
            DiskNote::Ended { request, .. } => self.ended(*request),
            // Done or not: nobody was told, so nobody counts on it.
            DiskNote::Left { request, .. } => {
                self.flushes.remove(request);
            }
        }
    }

    fn asked(&mut self, request: DiskRequestId, change: &DiskChange) {
        let (offset, length, content, durable) = match change {
            DiskChange::Flush => {
                self.flushes.insert(request, self.ends);
                return;
            }
            DiskChange::Write {
                offset,
                bytes,
                durable,
            } => (
                *offset,
                bytes.len() as u64,
                Content::Bytes(bytes.clone(), 0),
                *durable,
            ),
            DiskChange::Zeroes { offset, length } => (*offset, *length, Content::Zeroes, false),
        };
        self.unsettled.push(Unsettled {
            offset,
            length,
            content,
            durable,
            ended: None,
            request,
        });
    }

    fn ended(&mut self, request: DiskRequestId) {
        if let Some(before) = self.flushes.remove(&request) {
            let settles = |write: &Unsettled| write.ended.is_some_and(|ended| ended <= before);
            let all = std::mem::take(&mut self.unsettled);
            let (settled, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(settles);
            self.unsettled = rest;
            settled
                .iter()
                .for_each(|write| self.media.settle(write, Fate::Kept));
            return;
        }
        let mine = |write: &Unsettled| write.request == request && write.ended.is_none();
        let Some(place) = self.unsettled.iter().position(mine) else {
            return;
        };
        let mut write = self.unsettled.remove(place);
        self.ends += 1;
        write.ended = Some(self.ends);
        if write.durable {
            // Force unit access promises this write and no other: the rest of what it overlaps may still be lost.
            let older = std::mem::take(&mut self.unsettled);
            for other in older {
                match other.ended {
                    Some(_) => self.unsettled.extend(other.outside(write.offset, write.length)),
                    None => self.unsettled.push(other),
                }
            }
            self.media.settle(&write, Fate::Kept);
        } else {
            // Those that ended come first, in the order of their ends.
            let behind = self.unsettled.iter().position(|other| other.ended.is_none());
            self.unsettled
                .insert(behind.unwrap_or(self.unsettled.len()), write);
        }
    }

    /// What may be on the media or not: first what has ended, in order, then what is in flight.
    pub fn unsettled(&self) -> &[Unsettled] {
        &self.unsettled
    }

    /// What is on the media for sure.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// What a power cut leaves, if this becomes of what is unsettled.
    pub fn cut(&self, fates: &[Fate]) -> Media {
        let mut media = self.media.clone();
        for (write, fate) in self.unsettled.iter().zip(fates) {
            media.settle(write, *fate);
        }
        media
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::NodeName;
    use fabric::driver::DiskId;

    fn write(image: &mut Image, request: u64, at: u64, value: u8, durable: bool) {
        let bytes = Arc::from(vec![value; BLOCK as usize]);
        let offset = at * BLOCK;
        ask(
            image,
            request,
            DiskChange::Write {
                offset,
                bytes,
                durable,
            },
        );
    }

    fn ask(image: &mut Image, request: u64, change: DiskChange) {
        image.note(&DiskNote::Asked {
            node: NodeName(0),
            disk: DiskId(0),
            request: DiskRequestId(request),
            change,
        });
    }

    fn end(image: &mut Image, request: u64) {
        let request = DiskRequestId(request);
        image.note(&DiskNote::Ended {
            node: NodeName(0),
            request,
        });
    }

    fn first(media: &Media, at: u64) -> u8 {
        media.read(at * BLOCK, BLOCK)[0]
    }

    #[test]
    fn a_flush_settles_what_had_ended_when_it_was_asked() {
        let mut image = Image::new(Media::blank(1 << 20));
        write(&mut image, 1, 0, 1, false);
        write(&mut image, 2, 1, 2, false);
        end(&mut image, 1);
        ask(&mut image, 3, DiskChange::Flush);
        end(&mut image, 2);
        end(&mut image, 3);
        assert_eq!(image.unsettled().len(), 1, "the second ended too late");
        assert_eq!((first(image.media(), 0), first(image.media(), 1)), (1, 0));
    }

    #[test]
    fn a_durable_write_is_unsettled_while_it_is_in_flight_and_takes_no_other_with_it() {
        let mut image = Image::new(Media::blank(1 << 20));
        write(&mut image, 1, 0, 1, false);
        end(&mut image, 1);
        write(&mut image, 2, 0, 2, true);
        assert_eq!(image.unsettled().len(), 2);
        let torn = image.cut(&[Fate::Kept, Fate::Head(3)]).read(0, BLOCK);
        assert_eq!((torn[0], torn[3 * 512 - 1], torn[3 * 512]), (2, 2, 1));
        write(&mut image, 3, 1, 3, false);
        end(&mut image, 2);
        assert_eq!(image.unsettled().len(), 1, "the first was overwritten");
        assert_eq!(first(image.media(), 0), 2);
    }
}
