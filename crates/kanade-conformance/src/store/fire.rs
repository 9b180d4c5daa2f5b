//! Firing.

use crate::StoreFactory;

pub async fn an_unknown_execution_is_absent<F: StoreFactory>() {
    let factory = F::fresh().await;
    let store = factory.open().await;
    let found = store.execution(&"nobody".parse().unwrap()).await.unwrap();
    assert_eq!(found, None, "an execution that nobody fired");
}
