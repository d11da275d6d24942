//! Buffers are lent by descriptor: layers pass [`BufferSlice`]s around, the engine owns the bytes.

/// Names one buffer of the engine's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u32);

/// Part of a buffer: the payload of a request, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferSlice {
    /// The buffer.
    pub buffer: BufferId,
    /// Where the slice starts in the buffer, in bytes.
    pub offset: u32,
    /// How long it is, in bytes.
    pub length: u32,
}

impl BufferSlice {
    /// The part that starts `offset` bytes into this slice and is `length` bytes long.
    ///
    /// # Panics
    /// If that part is not wholly inside this slice: our own arithmetic is wrong.
    pub fn part(self, offset: u32, length: u32) -> BufferSlice {
        let end = offset.checked_add(length).expect("a slice's end fits in 32 bits");
        assert!(
            end <= self.length,
            "part {offset}+{length} of a slice of {} bytes",
            self.length
        );
        BufferSlice {
            buffer: self.buffer,
            offset: self.offset + offset,
            length,
        }
    }
}

/// The engine's buffers, as the machines see them.
///
/// Buffers are reference counted: `allocate` starts at one, `retain` adds one, `release` takes one away and
/// gives the buffer back at zero. Block layers never call this; protocol sessions (which fill payloads) and
/// metadata machines (which write and read superblocks, bitmaps, journals) do.
pub trait Memory {
    /// A buffer of `length` bytes, 4096-aligned, contents unspecified (whoever sends it must fill it first),
    /// count one. `None` when the pool is exhausted: the caller waits or refuses, it never fails silently.
    fn allocate(&mut self, length: u32) -> Option<BufferSlice>;
    /// One more holder of the buffer.
    fn retain(&mut self, buffer: BufferId);
    /// One holder fewer; at none the buffer returns to the pool.
    fn release(&mut self, buffer: BufferId);
    /// The bytes of a slice.
    fn bytes(&self, slice: BufferSlice) -> &[u8];
    /// The bytes of a slice, to fill.
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8];
}
