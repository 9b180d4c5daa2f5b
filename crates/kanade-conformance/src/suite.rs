//! Turns one list of cases into a suite macro, so that the list, the macro and the count cannot disagree.

/// Takes a `$` (to write the inner macro with), the names, and the cases by topic; a case is the function of that name
/// in the topic's module.
macro_rules! suite {
    ($d:tt $(#[$doc:meta])* macro $suite:ident, mod $module:ident, const $cases:ident;
     $($topic:ident: $($case:ident)+;)+) => {
        /// The names of the cases, in the order they are written in.
        pub const $cases: &[&str] = &[$($(stringify!($case)),+),+];

        $(#[$doc])*
        #[macro_export]
        macro_rules! $suite {
            ($d factory:ty) => {
                mod $module {
                    use super::*;
                    $($(
                        #[test]
                        fn $case() {
                            $crate::run_case($crate::$module::$topic::$case::<$d factory>());
                        }
                    )+)+
                }
            };
        }
    };
}
pub(crate) use suite;
