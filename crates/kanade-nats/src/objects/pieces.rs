//! The pieces of programs: written, read, removed.

use std::{io, sync::Arc, time::Duration};

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use kanade_ports::{ErrorKind, Measure, Program, StoreError};
use serde_json::{Value, json};
use tokio::time;

use super::{
    BUCKET, STREAM,
    said::{Said, sequence},
    unavailable, unique,
};
use crate::link::{Fault, Link};

/// The bytes of a piece; what clients have by default.
pub(super) const PIECE: usize = 128 << 10;
/// How long a reader waits for the next piece.
const PATIENCE: Duration = Duration::from_secs(10);
/// When it looks whether the program is still there: the pieces of one that is replaced meanwhile never come.
const LOOK: Duration = Duration::from_secs(1);

/// The pieces of a program that no version names yet. They are removed when nothing becomes of them.
pub(super) struct Pieces {
    link: Arc<Link>,
    pub(super) nuid: String,
    kept: bool,
}

impl Pieces {
    /// Writes a program; says how it measures and how many pieces it is.
    pub(super) async fn write(
        link: &Arc<Link>,
        mut program: Program,
        doing: &str,
    ) -> Result<(Self, Measure, usize), StoreError> {
        let pieces = Self {
            link: Arc::clone(link),
            nuid: unique(),
            kept: false,
        };
        let (mut measure, mut count) = (Measure::default(), 0);
        let mut waiting = BytesMut::with_capacity(PIECE);
        loop {
            let more = program.try_next().await;
            let more = more.map_err(|error| StoreError::new(ErrorKind::Unavailable, doing).because(error))?;
            let ended = more.is_none();
            let mut more = more.unwrap_or_default();
            measure.take(&more);
            while !more.is_empty() || (ended && !waiting.is_empty()) {
                let fits = more.len().min(PIECE - waiting.len());
                waiting.extend_from_slice(&more.split_to(fits));
                if waiting.len() == PIECE || ended {
                    pieces
                        .publish(waiting.split().freeze())
                        .await
                        .map_err(|fault| unavailable(doing, fault))?;
                    count += 1;
                }
            }
            if ended {
                return Ok((pieces, measure, count));
            }
        }
    }

    async fn publish(&self, piece: Bytes) -> Result<(), Fault> {
        let subject = format!("$O.{BUCKET}.C.{}", self.nuid);
        self.link.keep(subject, HeaderMap::new(), piece).await.map(drop)
    }

    /// From now on something names them, or somebody else removes them.
    pub(super) fn keep(mut self) -> String {
        self.kept = true;
        self.nuid.clone()
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if !self.kept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (link, nuid) = (Arc::clone(&self.link), self.nuid.clone());
            runtime.spawn(async move { purge(&link, &nuid).await });
        }
    }
}

/// Removes pieces that no version names any more. What stays takes room and does no harm.
pub(super) async fn purge(link: &Link, nuid: &str) {
    let body = json!({ "filter": format!("$O.{BUCKET}.C.{nuid}") });
    if let Err(fault) = link.api::<Value>(&format!("STREAM.PURGE.{STREAM}"), &body).await {
        tracing::warn!(error = %fault, nuid, "cannot remove the pieces of a release that is gone from NATS");
    }
}

/// The pieces of a program, as long as they come.
pub(super) struct Reading {
    pub(super) link: Arc<Link>,
    pub(super) subject: String,
    /// What the version was when this began.
    pub(super) sequence: u64,
    pub(super) pieces: Program,
}

impl Reading {
    pub(super) fn program(self) -> Program {
        let pieces = stream::unfold(Some(self), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(piece) => Some((Ok(piece?), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        });
        pieces.boxed()
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut waited = Duration::ZERO;
        loop {
            if let Ok(piece) = time::timeout(LOOK, self.pieces.next()).await {
                return piece.transpose();
            }
            waited += LOOK;
            let said = Said::of(&self.link, &self.subject).await;
            if said.is_ok_and(|said| sequence(said.as_ref()) != self.sequence) {
                return Err(io::Error::other("it was replaced or deleted meanwhile"));
            }
            if waited >= PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no more of it comes"));
            }
        }
    }
}
