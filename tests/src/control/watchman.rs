//! Hears panics: tasks of production code that panic are started again by their keepers, and nobody would notice.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics of this thread are kept for [`panicked`]; what was heard before is forgotten.
pub(super) fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            HEARD.with(|heard| {
                heard.borrow_mut().get_or_insert_with(|| panic.to_string());
            });
            before(panic);
        }));
    });
    HEARD.with(|heard| heard.borrow_mut().take());
}

/// The first panic since then.
pub(super) fn panicked() -> Option<String> {
    HEARD.with(|heard| heard.borrow().clone())
}
