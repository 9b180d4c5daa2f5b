//! A small server with answers of our choosing, on a real socket.

use std::future::Future;

use axum::Router;
use kanade_client::Client;
use tokio::net::TcpListener;

/// Serves `router` until the test ends and returns a client of it.
pub(crate) async fn client_of(router: Router) -> Client {
    Client::new(&serve(router).await, None).unwrap()
}

/// Serves `router` until the test ends and returns its address.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// Waits for something that must come soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(20), what)
        .await
        .expect("within 20 s")
}
