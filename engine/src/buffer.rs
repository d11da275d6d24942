//! The pool of payload buffers: the engine owns the bytes, machines pass descriptors.
//!
//! One region of address space is reserved at the start and divided into slabs of 1 MiB. A slab holds chunks of one
//! size class (4, 16, 64, 256 KiB, 1 MiB); larger buffers take several slabs in a row. A slab whose chunks have all
//! come back keeps its class for as long as no other needs it, then serves any. If none can be had, a chunk of a larger
//! class is lent instead.
//!
//! Invariants: bytes in use never exceed the limit; a chunk is free exactly when its count is zero; the region never
//! moves, so that the kernel may hold addresses into it while somebody retains the buffer. Bytes are never zeroed on
//! the way (a fresh region reads as zeroes, so nothing uninitialised can be seen).
//!
//! Not here: who holds what (the counts only say how many).

use crate::stand_in::{StandIn, StandIns};
use block::{BufferId, BufferSlice, Memory};
use std::io;

const SLAB_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;
/// Chunks of the smallest class in a slab: also the stride of buffer names from slab to slab.
const CHUNKS_MAX: usize = SLAB_BYTES / PAGE_BYTES;
const CLASS_BYTES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// A set of slabs, by number.
#[derive(Clone)]
struct SlabSet {
    words: Vec<u64>,
}

impl SlabSet {
    fn new(slabs: usize) -> SlabSet {
        SlabSet {
            words: vec![0; slabs.div_ceil(64)],
        }
    }
    fn insert(&mut self, slab: usize) {
        self.words[slab / 64] |= 1 << (slab % 64);
    }
    fn remove(&mut self, slab: usize) {
        self.words[slab / 64] &= !(1 << (slab % 64));
    }
    fn contains(&self, slab: usize) -> bool {
        self.words[slab / 64] & (1 << (slab % 64)) != 0
    }
    fn first(&self) -> Option<usize> {
        let word = self.words.iter().position(|word| *word != 0)?;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }
}

/// What a slab is just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Free,
    /// Chunks of one class.
    Class(usize),
    /// The first of so many in a row that are one buffer.
    Head(usize),
    /// A later one of those.
    Body,
}

struct Slab {
    role: Role,
    /// Which chunks are lent.
    lent: [u64; CHUNKS_MAX / 64],
    lent_count: usize,
    counts: Vec<u32>,
}

impl Slab {
    fn free() -> Slab {
        Slab {
            role: Role::Free,
            lent: [0; CHUNKS_MAX / 64],
            lent_count: 0,
            counts: Vec::new(),
        }
    }
    fn chunks(class: usize) -> usize {
        SLAB_BYTES / CLASS_BYTES[class]
    }
    fn lend(&mut self, class: usize) -> usize {
        let full = |word: &u64| *word == u64::MAX;
        let word = self.lent.iter().position(|word| !full(word));
        let word = word.expect("a slab in its class's set has a free chunk");
        let chunk = word * 64 + self.lent[word].trailing_ones() as usize;
        assert!(
            chunk < Slab::chunks(class),
            "a slab in its class's set has a free chunk"
        );
        self.mark_lent(chunk);
        chunk
    }
    fn mark_lent(&mut self, chunk: usize) {
        self.lent[chunk / 64] |= 1 << (chunk % 64);
        self.lent_count += 1;
        self.counts[chunk] = 1;
    }
    fn take_back(&mut self, chunk: usize) {
        self.lent[chunk / 64] &= !(1 << (chunk % 64));
        self.lent_count -= 1;
    }
}

/// The pool. One per reactor, touched by its thread alone.
pub struct Pool {
    region: Region,
    slabs: Vec<Slab>,
    free: SlabSet,
    free_count: usize,
    /// Slabs of a class that have a chunk to lend.
    partial: [SlabSet; CLASS_BYTES.len()],
    /// Slabs of a class that have lent none.
    idle: SlabSet,
    idle_count: usize,
    in_use_bytes: u64,
    buffers: u64,
    given_back: u64,
    stand_ins: StandIns,
}

impl Pool {
    /// A pool of at most `limit_bytes` (rounded up to whole MiB). Address space is reserved at once, memory is taken
    /// as it is touched.
    pub fn new(limit_bytes: u64) -> io::Result<Pool> {
        let slabs = (limit_bytes.max(1) as usize).div_ceil(SLAB_BYTES);
        let mut free = SlabSet::new(slabs);
        (0..slabs).for_each(|slab| free.insert(slab));
        Ok(Pool {
            region: Region::reserve(slabs * SLAB_BYTES)?,
            slabs: (0..slabs).map(|_| Slab::free()).collect(),
            free,
            free_count: slabs,
            partial: std::array::from_fn(|_| SlabSet::new(slabs)),
            idle: SlabSet::new(slabs),
            idle_count: 0,
            in_use_bytes: 0,
            buffers: 0,
            given_back: 0,
            stand_ins: StandIns::default(),
        })
    }

    /// Bytes in buffers that somebody holds, rounded up to what each takes.
    pub fn in_use_bytes(&self) -> u64 {
        self.in_use_bytes
    }

    /// How many buffers somebody holds.
    pub fn buffers(&self) -> u64 {
        self.buffers
    }

    /// How many buffers have come back so far.
    pub(crate) fn given_back(&self) -> u64 {
        self.given_back
    }

    /// How many buffers hold at most.
    pub fn limit_bytes(&self) -> u64 {
        (self.slabs.len() * SLAB_BYTES) as u64
    }

    /// Lets bytes elsewhere stand for a buffer's first: from now on it reads as if they had been copied. False if it cannot be:
    /// then they must be copied.
    ///
    /// # Safety
    /// The bytes stay where they are, and as they are, until [`Pool::own_bytes_of`] was told of their range.
    pub(crate) unsafe fn stand_in(&mut self, slice: BufferSlice, bytes: *const u8) -> bool {
        if slice.offset != 0 || !self.stand_ins.has_room() {
            return false;
        }
        self.checked_offset(slice);
        self.stand_ins.take(slice.buffer);
        self.stand_ins.add(StandIn {
            buffer: slice.buffer,
            start: bytes,
            length: slice.length as usize,
        });
        true
    }

    /// These bytes are about to change: buffers that they stand for get copies.
    pub(crate) fn own_bytes_of(&mut self, start: *const u8, length: usize) {
        while let Some(buffer) = self.stand_ins.over(start, length) {
            self.own_bytes(buffer);
        }
    }

    fn own_bytes(&mut self, buffer: BufferId) {
        let Some(stand_in) = self.stand_ins.take(buffer) else {
            return;
        };
        let (slab, chunk, length) = self.locate(buffer);
        let own = self
            .region
            .slice_mut(slab * SLAB_BYTES + chunk * length, stand_in.length);
        // SAFETY: whoever let these bytes stand in keeps them as they are until this was done, and they are not the pool's.
        own.copy_from_slice(unsafe { std::slice::from_raw_parts(stand_in.start, stand_in.length) });
    }

    /// Where a slice lies, for the kernel. Valid while somebody holds the buffer.
    pub(crate) fn address(&mut self, slice: BufferSlice) -> *mut u8 {
        self.own_bytes(slice.buffer);
        let start = self.checked_offset(slice);
        self.region.at(start)
    }

    /// All the memory that buffers ever lie in.
    pub(crate) fn region(&self) -> (*mut u8, usize) {
        (self.region.at(0), self.region.length)
    }

    fn take_chunk(&mut self, wanted: usize) -> Option<(usize, usize)> {
        if let Some(slab) = self.partial[wanted].first() {
            return Some((wanted, slab));
        }
        if self.free_count == 0 {
            self.free_idle_slabs();
        }
        if let Some(slab) = self.free.first() {
            self.give_role(slab, Role::Class(wanted), Slab::chunks(wanted));
            self.partial[wanted].insert(slab);
            return Some((wanted, slab));
        }
        (wanted + 1..CLASS_BYTES.len()).find_map(|class| Some((class, self.partial[class].first()?)))
    }

    fn give_role(&mut self, slab: usize, role: Role, chunks: usize) {
        assert!(self.free.contains(slab), "slab {slab} is free");
        self.free.remove(slab);
        self.free_count -= 1;
        let entry = &mut self.slabs[slab];
        entry.role = role;
        entry.counts.clear();
        entry.counts.resize(chunks, 0);
    }

    /// A slab has nothing lent any more, and waits in its class.
    fn rest_slab(&mut self, slab: usize, class: usize) {
        self.partial[class].insert(slab);
        self.idle.insert(slab);
        self.idle_count += 1;
    }

    fn rouse_slab(&mut self, slab: usize) {
        if self.idle.contains(slab) {
            self.idle.remove(slab);
            self.idle_count -= 1;
        }
    }

    fn free_idle_slabs(&mut self) {
        while let Some(slab) = self.idle.first() {
            self.rouse_slab(slab);
            self.give_back_slab(slab);
        }
    }

    fn give_back_slab(&mut self, slab: usize) {
        let entry = &mut self.slabs[slab];
        assert_eq!(entry.lent_count, 0, "slab {slab} has no chunk lent");
        if let Role::Class(class) = entry.role {
            self.partial[class].remove(slab);
        }
        entry.role = Role::Free;
        self.free.insert(slab);
        self.free_count += 1;
    }

    fn allocate_chunk(&mut self, wanted: usize) -> Option<BufferId> {
        let (class, slab) = self.take_chunk(wanted)?;
        if self.slabs[slab].lent_count == 0 {
            self.rouse_slab(slab);
        }
        let entry = &mut self.slabs[slab];
        let chunk = entry.lend(class);
        if entry.lent_count == Slab::chunks(class) {
            self.partial[class].remove(slab);
        }
        self.in_use_bytes += CLASS_BYTES[class] as u64;
        Some(BufferId((slab * CHUNKS_MAX + chunk) as u32))
    }

    fn allocate_row(&mut self, slabs: usize) -> Option<BufferId> {
        let first = self.find_row(slabs)?;
        self.free_idle_slabs();
        self.give_role(first, Role::Head(slabs), 1);
        self.slabs[first].mark_lent(0);
        (first + 1..first + slabs).for_each(|slab| self.give_role(slab, Role::Body, 0));
        self.in_use_bytes += (slabs * SLAB_BYTES) as u64;
        Some(BufferId((first * CHUNKS_MAX) as u32))
    }

    fn find_row(&self, slabs: usize) -> Option<usize> {
        if self.free_count + self.idle_count < slabs {
            return None;
        }
        let mut length = 0;
        for slab in 0..self.slabs.len() {
            let to_be_had = self.free.contains(slab) || self.idle.contains(slab);
            length = if to_be_had { length + 1 } else { 0 };
            if length == slabs {
                return Some(slab + 1 - slabs);
            }
        }
        None
    }

    /// The slab, the chunk in it, and the bytes the buffer has. Panics if nobody holds the buffer.
    fn locate(&self, buffer: BufferId) -> (usize, usize, usize) {
        let (slab, chunk) = (buffer.0 as usize / CHUNKS_MAX, buffer.0 as usize % CHUNKS_MAX);
        let entry = self.slabs.get(slab).expect("a buffer of this pool");
        let length = match entry.role {
            Role::Class(class) => CLASS_BYTES[class],
            Role::Head(slabs) => slabs * SLAB_BYTES,
            Role::Free | Role::Body => panic!("buffer {buffer:?} is not lent"),
        };
        assert!(
            entry.counts.get(chunk).is_some_and(|count| *count > 0),
            "buffer {buffer:?} is not lent"
        );
        (slab, chunk, length)
    }

    fn checked_offset(&self, slice: BufferSlice) -> usize {
        let (slab, chunk, length) = self.locate(slice.buffer);
        let end = slice.offset as usize + slice.length as usize;
        assert!(end <= length, "slice {slice:?} of a buffer of {length} bytes");
        slab * SLAB_BYTES + chunk * length + slice.offset as usize
    }
}

impl Memory for Pool {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        let bytes = (length as usize).max(1);
        let buffer = match CLASS_BYTES.iter().position(|class| bytes <= *class) {
            Some(class) => self.allocate_chunk(class)?,
            None => self.allocate_row(bytes.div_ceil(SLAB_BYTES))?,
        };
        self.buffers += 1;
        Some(BufferSlice {
            buffer,
            offset: 0,
            length,
        })
    }

    fn retain(&mut self, buffer: BufferId) {
        let (slab, chunk, _) = self.locate(buffer);
        let count = &mut self.slabs[slab].counts[chunk];
        *count = count
            .checked_add(1)
            .expect("fewer than four thousand million holders");
    }

    fn release(&mut self, buffer: BufferId) {
        let (slab, chunk, length) = self.locate(buffer);
        let entry = &mut self.slabs[slab];
        entry.counts[chunk] -= 1;
        if entry.counts[chunk] > 0 {
            return;
        }
        entry.take_back(chunk);
        self.stand_ins.take(buffer);
        self.in_use_bytes -= length as u64;
        self.buffers -= 1;
        self.given_back += 1;
        match (entry.role, entry.lent_count) {
            (Role::Head(slabs), _) => (slab..slab + slabs).for_each(|slab| self.give_back_slab(slab)),
            (Role::Class(class), 0) => self.rest_slab(slab, class),
            (Role::Class(class), _) => self.partial[class].insert(slab),
            (Role::Free | Role::Body, _) => unreachable!("locate refuses these"),
        }
    }

    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let start = self.checked_offset(slice);
        if let Some(stand_in) = self.stand_ins.of(slice.buffer) {
            let (from, length) = (slice.offset as usize, slice.length as usize);
            assert!(
                from + length <= stand_in.length,
                "slice {slice:?} of what was read"
            );
            // SAFETY: inside of what stands in, which stays as it is until [`Pool::own_bytes_of`].
            return unsafe { std::slice::from_raw_parts(stand_in.start.add(from), length) };
        }
        self.region.slice(start, slice.length as usize)
    }

    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        self.own_bytes(slice.buffer);
        let start = self.checked_offset(slice);
        self.region.slice_mut(start, slice.length as usize)
    }
}

/// Anonymous memory of the process: reads as zeroes until written, taken from the machine as touched. By huge pages where the
/// kernel has some free (2 MiB; nothing needs to be set aside for that): a payload anywhere in a large region is then found
/// without walking page tables, which in a virtual machine costs more than copying it.
pub(crate) struct Region {
    start: *mut u8,
    length: usize,
    /// What is mapped begins so much before `start`, which lies at the beginning of a huge page.
    before: usize,
}

const HUGE_PAGE_BYTES: usize = 2 << 20;

// SAFETY: a region is plain memory that belongs to whoever owns the value; nothing ties it to a thread.
unsafe impl Send for Region {}

impl Region {
    pub(crate) fn reserve(length: usize) -> io::Result<Region> {
        let mapped = length
            .checked_add(HUGE_PAGE_BYTES)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // SAFETY: a fresh anonymous mapping touches no memory that anybody has.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = base.cast::<u8>().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: less than a huge page, and so much more than `length` is mapped.
        let start = unsafe { base.cast::<u8>().add(before) };
        // SAFETY: inside the mapping; it changes nothing that can be read there. A kernel without huge pages refuses: then the
        // pages are small ones.
        let _ = unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
        Ok(Region {
            start,
            length,
            before,
        })
    }

    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.length, "inside the region");
        // SAFETY: the offset lies inside the mapping, or right behind it.
        unsafe { self.start.add(offset) }
    }

    pub(crate) fn slice(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.length, "inside the region");
        // SAFETY: inside the mapping, initialised (anonymous memory), and shared for as long as `self` is. That the
        // kernel does not write there meanwhile is the seam's law: a machine leaves alone what it lent to a disk.
        unsafe { std::slice::from_raw_parts(self.at(offset), length) }
    }

    pub(crate) fn slice_mut(&mut self, offset: usize, length: usize) -> &mut [u8] {
        assert!(offset + length <= self.length, "inside the region");
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), length) }
    }

    /// Makes whole pages read as zeroes again and gives their memory back.
    pub(crate) fn forget(&mut self, offset: usize, length: usize) {
        assert!(offset + length <= self.length, "inside the region");
        assert!(
            offset.is_multiple_of(PAGE_BYTES) && length.is_multiple_of(PAGE_BYTES),
            "whole pages"
        );
        // SAFETY: the range lies inside our private anonymous mapping, which nobody else looks at just now.
        let answer = unsafe { libc::madvise(self.at(offset).cast(), length, libc::MADV_DONTNEED) };
        assert_eq!(
            answer, 0,
            "whole pages of a private anonymous mapping can be given back"
        );
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `reserve` from there with this length, and nobody can have a reference into it any more.
        unsafe { libc::munmap(self.start.sub(self.before).cast(), self.length + HUGE_PAGE_BYTES) };
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
