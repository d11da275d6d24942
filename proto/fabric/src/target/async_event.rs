//! Asynchronous events of one controller (Base 2.1, section 5.1.2): requests that wait, events that wait, and the masks
//! that hold an event back until the host has read its log page.
//!
//! Invariant: an event and a request never wait for each other, unless the event is masked.

use nvme::async_event::{AsyncEvent, AsyncEventSet, IoCommandSpecificEvent};
use nvme::log::LogPageIdentifier;
use std::collections::{BTreeSet, VecDeque};

/// AERL + 1: requests that one controller may have outstanding.
pub(crate) const REQUESTS_MAX: usize = 4;

/// The events that a controller of ours has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EventKind {
    /// Namespaces came, went or changed: Changed Attached Namespace List.
    NamespaceAttributes,
    /// An ANA group changed.
    AnaChange,
    /// The discovery log page changed.
    DiscoveryChange,
    /// The reservation notification log page has something.
    ReservationNotice,
}

impl EventKind {
    /// The event as the host is told of it.
    pub(crate) fn event(self) -> AsyncEvent {
        match self {
            EventKind::NamespaceAttributes => AsyncEvent::NAMESPACE_CHANGED,
            EventKind::AnaChange => AsyncEvent::ANA_CHANGE,
            EventKind::DiscoveryChange => AsyncEvent::DISCOVERY_CHANGE,
            EventKind::ReservationNotice => {
                AsyncEvent::IoCommandSpecific(IoCommandSpecificEvent::ReservationLogPageAvailable)
            }
        }
    }

    fn log_page(self) -> LogPageIdentifier {
        self.event().log_page().expect("each of these has a log page")
    }

    /// The event in OAES and in the feature Asynchronous Event Configuration; reservation notices have a mask of their
    /// own.
    fn configuration(self) -> Option<AsyncEventSet> {
        match self {
            EventKind::NamespaceAttributes => Some(AsyncEventSet::NAMESPACE_ATTRIBUTE),
            EventKind::AnaChange => Some(AsyncEventSet::ANA_CHANGE),
            EventKind::DiscoveryChange => Some(AsyncEventSet::DISCOVERY_CHANGE),
            EventKind::ReservationNotice => None,
        }
    }
}

/// A controller's events. `R` names a request that waits.
#[derive(Clone, Debug)]
pub(crate) struct AsyncEvents<R> {
    /// The feature Asynchronous Event Configuration.
    pub(crate) configuration: AsyncEventSet,
    requests: VecDeque<R>,
    pending: BTreeSet<EventKind>,
    masked: BTreeSet<EventKind>,
}

impl<R> Default for AsyncEvents<R> {
    fn default() -> AsyncEvents<R> {
        AsyncEvents {
            configuration: AsyncEventSet::default(),
            requests: VecDeque::new(),
            pending: BTreeSet::new(),
            masked: BTreeSet::new(),
        }
    }
}

impl<R: PartialEq> AsyncEvents<R> {
    /// A request arrived; `false` if there are too many.
    pub(crate) fn request(&mut self, request: R) -> bool {
        if self.requests.len() == REQUESTS_MAX {
            return false;
        }
        self.requests.push_back(request);
        true
    }

    /// The request is gone (aborted).
    pub(crate) fn forget(&mut self, request: &R) {
        self.requests.retain(|other| other != request);
    }

    /// Something happened. Nothing is kept of events that the host did not ask for.
    pub(crate) fn raise(&mut self, event: EventKind) {
        if event
            .configuration()
            .is_none_or(|set| self.configuration.contains(set))
        {
            self.pending.insert(event);
        }
    }

    /// The host read the event's log page without asking to retain the event: it knows everything until now.
    pub(crate) fn log_read(&mut self, log_page: LogPageIdentifier) {
        self.pending.retain(|event| event.log_page() != log_page);
        self.masked.retain(|event| event.log_page() != log_page);
    }

    /// The next request to answer, and with what. The event is masked from then on.
    pub(crate) fn next(&mut self) -> Option<(R, EventKind)> {
        let event = *self.pending.difference(&self.masked).next()?;
        let request = self.requests.pop_front()?;
        self.pending.remove(&event);
        self.masked.insert(event);
        Some((request, event))
    }
}

#[cfg(test)]
mod tests {
    //! Bugs these catch: an event told twice before its log was read; an event lost while no request waits; an event told
    //! that nobody asked for.
    use super::*;

    fn all_enabled() -> AsyncEvents<u32> {
        AsyncEvents {
            configuration: AsyncEventSet(u32::MAX),
            ..AsyncEvents::default()
        }
    }

    #[test]
    fn an_event_is_told_once_until_its_log_page_is_read() {
        let mut events = all_enabled();
        assert!((0..4).all(|request| events.request(request)));
        assert!(!events.request(4), "a fifth request is one too many");
        events.raise(EventKind::AnaChange);
        events.raise(EventKind::AnaChange);
        assert_eq!(events.next(), Some((0, EventKind::AnaChange)));
        events.raise(EventKind::AnaChange);
        assert_eq!(events.next(), None, "masked");
        events.log_read(LogPageIdentifier::ChangedAttachedNamespaceList);
        assert_eq!(events.next(), None, "another page was read");
        events.log_read(LogPageIdentifier::AsymmetricNamespaceAccess);
        assert_eq!(events.next(), None, "the page read told of it already");
        events.raise(EventKind::AnaChange);
        assert_eq!(events.next(), Some((1, EventKind::AnaChange)));
    }

    #[test]
    fn an_event_waits_for_a_request() {
        let mut events = all_enabled();
        events.raise(EventKind::NamespaceAttributes);
        assert_eq!(events.next(), None);
        assert!(events.request(9));
        assert_eq!(events.next(), Some((9, EventKind::NamespaceAttributes)));
    }

    #[test]
    fn events_that_were_not_asked_for_are_not_told() {
        let mut events = AsyncEvents::default();
        assert!(events.request(1));
        events.raise(EventKind::AnaChange);
        assert_eq!(events.next(), None);
        events.raise(EventKind::ReservationNotice);
        assert_eq!(
            events.next(),
            Some((1, EventKind::ReservationNotice)),
            "has a mask of its own"
        );
    }
}
