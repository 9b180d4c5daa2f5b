//! The reading side of a session: takes calls one by one, and no more than there is room for.

use kanade_ports::frame::{AgentFrame, FrameError, decode};
use tokio::io::AsyncRead;

use super::{
    calls::{Calls, Taken},
    end::End,
    source::Source,
};

/// A message up to this long is read without asking for room, so that signs of life come through when there is none.
const SHORT: usize = 8 << 10;

/// Takes the calls of an agent.
pub(super) struct Inbound<R> {
    source: Source<R>,
    calls: Calls,
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    /// Takes calls from `source`.
    pub(super) fn new(source: Source<R>, calls: Calls) -> Self {
        Self { source, calls }
    }

    /// Takes calls until the connection ends.
    pub(super) async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// What is read from.
    pub(super) fn into_inner(self) -> R {
        self.source.into_inner()
    }

    async fn step(&mut self) -> Result<(), End> {
        let coming = self.source.next().await?;
        let slot = self.calls.slot().await;
        let mut room = None;
        if coming.at_most() > SHORT {
            room = Some(self.calls.room(coming.at_most()).await);
        }
        let message = self.source.message(coming).await?;
        if let Some(room) = &mut room {
            room.shrink(message.len());
        }
        let (AgentFrame { id, call }, payload) = decode(message).map_err(unread)?;
        let taken = Taken {
            id,
            payload,
            slot,
            room,
        };
        self.calls.take(call, taken).await;
        Ok(())
    }
}

fn unread(error: FrameError) -> End {
    match error {
        FrameError::TooLarge(_) => End::TooLarge,
        FrameError::Head(cause) => End::Garbage(format!("the first line of a frame cannot be read: {cause}")),
        FrameError::NoHead => End::Garbage(error.to_string()),
    }
}
