//! The cases of the catalog, by topic.

pub mod documents;

use crate::suite::suite;

suite! { $
    /// Expands to `mod catalog` with one test per case of [`CATALOG_CASES`](crate::CATALOG_CASES), for a
    /// [`CatalogFactory`](crate::CatalogFactory).
    macro catalog_suite, mod catalog, const CATALOG_CASES;
    documents: a_missing_document_is_absent;
}
