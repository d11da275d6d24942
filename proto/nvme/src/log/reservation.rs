//! Reservation Notification log page (Base, 5.1.12.1.32).

use crate::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

codes! {
    /// Reservation notification log page type (RNLPT).
    pub enum ReservationNotificationType: u8 {
        Empty = 0x0 "empty log page",
        RegistrationPreempted = 0x1 "registration preempted",
        ReservationReleased = 0x2 "reservation released",
        ReservationPreempted = 0x3 "reservation preempted",
    }
}

/// One notification; reading it makes room for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReservationNotification {
    /// Log page count (LPC): grows with every notification; 0 if there is none.
    pub log_page_count: U64,
    /// What happened: see [`ReservationNotificationType`].
    pub notification_type: u8,
    /// Number of further log pages available (NALP), 255 for that or more.
    pub available_log_pages: u8,
    pub(crate) reserved_10: [u8; 2],
    /// The namespace (NSID).
    pub nsid: U32,
    pub(crate) reserved_16: [u8; 48],
}
wire!(ReservationNotification, 64);
