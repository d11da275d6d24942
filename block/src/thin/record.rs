/// Whole records in a block of a checkpoint's body.
pub(super) const RECORDS_PER_BODY_BLOCK: u64 = 128;
