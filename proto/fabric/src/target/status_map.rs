//! From the block layers' status to the fabric's: one exhaustive function (R7).

use nvme::Status;

/// How a request to a namespace ended, for the host. `modifies`: the command was to change blocks.
///
/// Path conditions are path related and never say "do not retry": the host keeps the command and tries again.
pub(crate) fn status(status: block::Status, modifies: bool) -> Status {
    match status {
        block::Status::Success => Status::SUCCESS,
        block::Status::Unavailable => Status::INTERNAL_PATH_ERROR,
        block::Status::StaleEpoch => Status::ANA_INACCESSIBLE,
        block::Status::MediaError if modifies => Status::WRITE_FAULT,
        block::Status::MediaError => Status::UNRECOVERED_READ_ERROR,
        block::Status::OutOfSpace => Status::CAPACITY_EXCEEDED.do_not_retry(),
        block::Status::OutOfRange => Status::LBA_OUT_OF_RANGE.do_not_retry(),
        block::Status::Invalid => Status::INVALID_FIELD.do_not_retry(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_row() {
        use block::Status as B;
        let rows = [
            (B::Success, Status::SUCCESS, false),
            (B::Unavailable, Status::INTERNAL_PATH_ERROR, false),
            (B::StaleEpoch, Status::ANA_INACCESSIBLE, false),
            (B::OutOfSpace, Status::CAPACITY_EXCEEDED, true),
            (B::OutOfRange, Status::LBA_OUT_OF_RANGE, true),
            (B::Invalid, Status::INVALID_FIELD, true),
        ];
        for (from, to, do_not_retry) in rows {
            for modifies in [false, true] {
                assert!(status(from, modifies).is(to), "{from:?}");
                assert_eq!(status(from, modifies).do_not_retry, do_not_retry, "{from:?}");
            }
        }
        assert_eq!(status(B::MediaError, true), Status::WRITE_FAULT);
        assert_eq!(status(B::MediaError, false), Status::UNRECOVERED_READ_ERROR);
    }
}
