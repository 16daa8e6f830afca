//! A panic is a bug of ours: it ends at one door, and says where it was, but not what it held.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, ErrorKind};

thread_local! {
    static CONTAINED: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; its panic becomes an error.
pub(crate) fn contain<T>(body: impl FnOnce() -> T) -> Result<T, Error> {
    CONTAINED.set(CONTAINED.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    CONTAINED.set(CONTAINED.get() - 1);
    result.map_err(|_| {
        let place = PLACE.take();
        Error::new(ErrorKind::Internal, format!("A bug in pgaad ({place}): please report it."))
    })
}

/// A panic's text may quote what the code was working on, secrets included, so for panics that are contained the
/// place alone is kept, and nothing is printed.
#[cfg(feature = "capi")]
pub(crate) fn keep_quiet() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if CONTAINED.get() == 0 {
            return others(panic);
        }
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        PLACE.set(place.unwrap_or_default());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_where_but_not_what() {
        let error = contain(|| panic!("hunter2")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("src/bug.rs:"), "{error}");
        assert!(!error.message().contains("hunter2"));
    }
}
