//! The cases of the execution store, by topic.

pub mod fire;

use crate::suite::suite;

suite! { $
    /// Expands to `mod store` with one test per case of [`STORE_CASES`](crate::STORE_CASES), for a
    /// [`StoreFactory`](crate::StoreFactory).
    macro store_suite, mod store, const STORE_CASES;
    fire: an_unknown_execution_is_absent;
}
