//! How much is done at once and for how long: sheds load, gives up on what takes too long, and lets changes go on when
//! their caller goes away.

use std::{any::Any, future::pending, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::future::{BoxFuture, FutureExt};
use http::StatusCode;
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::{accept::Closing, problem::Problem};

/// How many requests of a kind are handled at once, and for how long.
#[derive(Clone)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    timeout: Option<Duration>,
}

impl Gate {
    /// `at_once` requests, each for at most `timeout`; without one the request knows itself when to end.
    pub(crate) fn new(at_once: usize, timeout: Option<Duration>) -> Self {
        let permits = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        Self { permits, timeout }
    }
}

/// Lets a request through the gate, or says at once that there are too many.
pub(crate) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Ok(permit) = Arc::clone(&gate.permits).try_acquire_owned() else {
        return Problem::try_again("the server has too many requests at once; try again in a few seconds")
            .into_response();
    };
    let closing = request.extensions().get::<Closing>().cloned();
    // A change that was begun is finished (and its audit entry written), whether or not somebody still waits for the
    // answer. What waits for an agent has nothing left to write.
    let detach = !request.method().is_safe() && gate.timeout.is_some();
    let work = async move {
        let response = next.run(request).await;
        drop(permit);
        response
    };
    let work: BoxFuture<'static, Response> = if detach {
        tokio::spawn(work.in_current_span())
            .map(|done| done.unwrap_or_else(|failed| lost(failed).into_response()))
            .boxed()
    } else {
        work.boxed()
    };
    tokio::select! {
        response = work => response,
        taken = deadline(gate.timeout) => too_slow(taken, detach).into_response(),
        () = given_up(closing) => stopping().into_response(),
    }
}

/// The answer to a request whose handler panicked.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the layer that calls it hands the panic over"
)]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    Problem::panicked(message(&*panic)).into_response()
}

fn lost(failed: tokio::task::JoinError) -> Problem {
    match failed.try_into_panic() {
        Ok(panic) => Problem::panicked(message(&*panic)),
        Err(_) => stopping(),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().unwrap_or(&"of an unknown kind"),
    }
}

async fn deadline(timeout: Option<Duration>) -> Duration {
    match timeout {
        Some(timeout) => {
            tokio::time::sleep(timeout).await;
            timeout
        }
        None => pending().await,
    }
}

fn too_slow(taken: Duration, may_be_done: bool) -> Problem {
    let hint = if may_be_done {
        "; it may have been done, so look before you repeat it"
    } else {
        ""
    };
    let secs = taken.as_secs_f32();
    let detail = format!("the server did not finish this request within {secs}s{hint}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn stopping() -> Problem {
    let detail =
        "the server is stopping; what was asked for may have been done, so look before you repeat it";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

async fn given_up(closing: Option<Closing>) {
    match closing {
        Some(closing) => closing.given_up().await,
        None => pending().await,
    }
}
