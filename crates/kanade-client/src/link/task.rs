//! The task of a link: connects, holds the connection, and tries again after a pause, for ever.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    broken::{Broken, Parting},
    connection::Connection,
    dial::{Dialer, Socket},
    line::Line,
    pauses::Pauses,
    shared::Shared,
};

/// Keeps a connection to the server until the link is closed.
pub(super) async fn run(shared: Arc<Shared>, dialer: Dialer) {
    let mut pauses = Pauses::new(shared.timing);
    let mut told = None;
    loop {
        let dialled = tokio::select! {
            biased;
            () = shared.stopped() => break,
            dialled = dialer.dial() => dialled,
        };
        let began = Instant::now();
        let (broken, lasted) = match dialled {
            Ok(socket) => match hold(&shared, socket, &dialer).await {
                Some(broken) => {
                    told = None;
                    (broken, began.elapsed())
                }
                None => break,
            },
            Err(broken) => {
                shared.failed(broken.to_string());
                (broken, Duration::ZERO)
            }
        };
        let pause = pauses.after(&broken, lasted);
        tell(&broken, dialer.server(), pause, &mut told);
        tokio::select! {
            biased;
            () = shared.stopped() => break,
            () = sleep(pause) => {}
        }
    }
    shared.end();
}

/// Holds one connection until it breaks; none when the link is closed.
async fn hold(shared: &Shared, socket: Socket, dialer: &Dialer) -> Option<Broken> {
    let (line, mut queue) = Line::new(Arc::clone(&shared.ids));
    let mut connection = Connection::new(socket, shared.timing);
    let putting_to_use = async {
        match timeout(shared.timing.connect, shared.restore(&line)).await {
            Ok(Ok(())) => {
                tracing::info!(server = dialer.server(), "connected");
                pending().await
            }
            // Whoever carries the frames knows why.
            Ok(Err(_)) => pending().await,
            Err(_) => Broken::TooLate(shared.timing.connect),
        }
    };
    let broken = tokio::select! {
        biased;
        () = shared.stopped() => None,
        broken = connection.carry(&line, &mut queue, shared) => Some(broken),
        broken = putting_to_use => Some(broken),
    };
    shared.lost(&line, broken.as_ref().map(ToString::to_string));
    let parting = match &broken {
        Some(broken) => broken.parting(),
        None => Parting::say(CloseCode::Normal, "the agent stops"),
    };
    connection.part(parting).await;
    broken
}

/// Logs why there is no connection, each reason once.
fn tell(broken: &Broken, server: &str, pause: Duration, told: &mut Option<String>) {
    let error = broken.to_string();
    let again_in = format_args!("{:.1}s", pause.as_secs_f32());
    if told.as_ref() == Some(&error) {
        tracing::debug!(server, error, %again_in, "still not connected");
    } else if broken.is_lasting() || matches!(broken, Broken::Replaced) {
        tracing::error!(server, error, %again_in, "not connected; somebody has to look after it");
    } else if matches!(broken, Broken::Stopping) {
        tracing::info!(server, error, %again_in, "not connected");
    } else {
        tracing::warn!(server, error, %again_in, "not connected");
    }
    *told = Some(error);
}
