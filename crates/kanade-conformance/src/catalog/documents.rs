//! Reading and writing documents.

use kanade_ports::Bucket;

use crate::CatalogFactory;

pub async fn a_missing_document_is_absent<F: CatalogFactory>() {
    let factory = F::fresh().await;
    let catalog = factory.open().await;
    let found = catalog
        .get(Bucket::Jobs, &"nobody".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found, None, "a document that nobody wrote");
}
