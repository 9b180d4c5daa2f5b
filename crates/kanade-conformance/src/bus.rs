//! The cases of the bus, by topic.

pub mod fan_out;

use crate::suite::suite;

suite! { $
    /// Expands to `mod bus` with one test per case of [`BUS_CASES`](crate::BUS_CASES), for a
    /// [`BusFactory`](crate::BusFactory).
    macro bus_suite, mod bus, const BUS_CASES;
    fan_out: publishing_to_nobody_succeeds;
}
