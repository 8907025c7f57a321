//! A panic in a spawned task ends that task and nothing else; a simulation has to notice it all the same.

use std::cell::RefCell;
use std::panic::{set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics of this thread from now on.
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = take_hook();
        set_hook(Box::new(move |panic| {
            LAST.with_borrow_mut(|last| *last = Some(panic.to_string()));
            default(panic);
        }));
    });
    LAST.with_borrow_mut(Option::take);
}

/// The last panic of this thread since [`watch`].
pub(crate) fn noticed() -> Option<String> {
    LAST.with_borrow_mut(Option::take)
}
