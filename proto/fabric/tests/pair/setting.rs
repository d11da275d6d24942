//! What a world is made of, and where its chances come from.

/// A small generator: the same numbers from the same seed, for ever.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    pub(crate) in_capsule_bytes: u32,
    pub h2c_data_bytes_max: u32,
    pub(crate) mdts: u8,
    pub(crate) io_queues: u16,
    pub(crate) queue_depth: u16,
    pub(crate) sq_flow_control: bool,
    pub(crate) targets: usize,
    /// How many buffers each of them has.
    pub(crate) target_buffers: Option<usize>,
    /// The longest a piece of a stream is under way.
    pub(crate) delay_us: u64,
    /// The longest piece that a stream is chopped into.
    pub(crate) chunk_bytes: u64,
}

impl Setting {
    pub(crate) fn plain() -> Setting {
        Setting {
            header_digest: false,
            data_digest: false,
            in_capsule_bytes: 8192,
            h2c_data_bytes_max: 128 << 10,
            mdts: 8,
            io_queues: 1,
            queue_depth: 32,
            sq_flow_control: true,
            targets: 1,
            target_buffers: None,
            delay_us: 200,
            chunk_bytes: 16 << 10,
        }
    }

    pub(crate) fn random(random: &mut Random) -> Setting {
        Setting {
            header_digest: random.one_in(2),
            data_digest: random.one_in(2),
            in_capsule_bytes: random.pick(&[4096, 8192, 16384]),
            h2c_data_bytes_max: random.pick(&[4096, 8192, 128 << 10]),
            mdts: random.pick(&[1, 2, 3, 8]),
            io_queues: random.pick(&[1, 2, 3]),
            queue_depth: random.pick(&[1, 2, 8, 32]),
            sq_flow_control: random.one_in(2),
            targets: 2,
            target_buffers: random.pick(&[None, Some(40), Some(3)]),
            delay_us: random.pick(&[10, 200, 2_000]),
            chunk_bytes: random.pick(&[7, 1_500, 64 << 10]),
        }
    }
}
