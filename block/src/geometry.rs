//! How much of a leg is metadata. The same rule stands in `cluster` (which plans the lengths of legs and knows nothing
//! of this crate); a test in `controller-node`, which knows both, holds them together.

use crate::Blocks;

/// The blocks at the start of a leg that are not data: superblocks, write-intent bitmap, map checkpoints and journal.
///
/// 8 MiB plus one 512th of the leg, in whole MiB.
pub const fn leg_metadata_blocks(leg: Blocks) -> Blocks {
    Blocks(2048 + leg.0.div_ceil(512).next_multiple_of(256))
}
