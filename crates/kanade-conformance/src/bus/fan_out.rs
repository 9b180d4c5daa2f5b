//! Publishing to whoever listens.

use crate::BusFactory;

pub async fn publishing_to_nobody_succeeds<F: BusFactory>() {
    let factory = F::fresh().await;
    let bus = factory.bus().await;
    bus.publish(&"a.b".parse().unwrap(), "x".into()).await.unwrap();
}
