//! Decides from bytes: whatever the fuzzer has found becomes a story. Where the bytes end everything is zero, so that stories are
//! short if inputs are.

/// The bytes not used yet.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// Whether all are used.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// The next two bytes.
    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next eight bytes.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `limit` (at most 256), of one byte.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// True for half of all bytes.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// The next `length` bytes, or as many as there are.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}

/// Where a stream is cut into pieces, as sockets do: by a few bytes of the input, over and over.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    seed: u32,
}

impl Cuts {
    /// Cuts that follow from a number.
    pub fn new(seed: u8) -> Cuts {
        Cuts {
            seed: u32::from(seed) * 2 + 1,
        }
    }

    /// The next piece of a stream, and what is behind it: a byte, a few, or many.
    pub fn cut<'a>(&mut self, stream: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        self.seed = self.seed.wrapping_mul(0x915f_77f5).wrapping_add(0x3c6e_f35f);
        let draw = (self.seed >> 16) as usize;
        let length = match draw % 4 {
            0 => 1,
            1 => 1 + draw / 4 % 16,
            _ => 1 + draw / 4 % 512,
        };
        stream.split_at(length.min(stream.len()))
    }
}
