//! One connection of an agent, from the upgrade to the goodbye.

use std::{io, time::Duration};

use bytes::Bytes;
use kanade_core::AgentPorts;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    calls::{CALLS, Calls, pursue},
    end::End,
    inbound::Inbound,
    outbound::Outbound,
    room::Share,
    sink::Sink,
    source::{Patience, Source},
};
use crate::{GatewaySettings, accept::Closing};

/// A message that has begun must be whole within this time: it holds room that others wait for.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// The agent gets this long to hear why the connection ends.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a session is made of.
pub(super) struct Session<'a> {
    /// What the agent may use.
    pub(super) ports: AgentPorts,
    /// What its calls may take.
    pub(super) share: Share,
    pub(super) settings: &'a GatewaySettings,
    /// Cancelled when it has connected once more.
    pub(super) replaced: &'a CancellationToken,
    pub(super) closing: &'a Closing,
}

/// A session that has ended, when the agent has not been told yet.
pub(super) struct Parting<IO> {
    /// Why it has ended.
    pub(super) end: End,
    reader: ReadHalf<IO>,
    sink: Sink<WriteHalf<IO>>,
}

impl Session<'_> {
    /// Lets the agent use its ports over `io` until one side ends it. Whatever it used is left then.
    pub(super) async fn run<IO: AsyncRead + AsyncWrite>(self, io: IO) -> Parting<IO> {
        let settings = self.settings;
        let (reader, writer) = split(io);
        let (pings, pinged) = watch::channel(Bytes::new());
        let (answers, answered) = mpsc::channel(CALLS);
        let (begun, beginning) = mpsc::channel(CALLS);
        let patience = Patience {
            idle: settings.idle_timeout,
            message: WHOLE_WITHIN,
        };
        let source = Source::new(reader, patience, pings);
        let sink = Sink::new(writer, settings.write_timeout);
        let calls = Calls::new(self.ports, self.share, begun, answers.clone());
        let mut inbound = Inbound::new(source, calls);
        let mut outbound = Outbound::new(sink, answered, pinged, settings.ping_every);
        let end = tokio::select! {
            () = self.closing.begun() => End::Stopping,
            () = self.replaced.cancelled() => End::Replaced,
            end = inbound.run() => end,
            end = outbound.run() => end,
            () = pursue(beginning, answers) => unreachable!("the reading side holds the other end"),
        };
        Parting {
            end,
            reader: inbound.into_inner(),
            sink: outbound.into_inner(),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite> Parting<IO> {
    /// Tells the agent why, as well as that can be done in a moment.
    pub(super) async fn say_goodbye(mut self, closing: &Closing) {
        let Some((code, reason)) = self.end.told() else {
            return;
        };
        let said = async {
            self.sink.close(code, &reason).await?;
            if matches!(self.end, End::Left(_)) {
                return Ok(());
            }
            // A socket that is closed before everything was read takes back what was said.
            tokio::io::copy(&mut self.reader, &mut tokio::io::sink()).await?;
            io::Result::Ok(())
        };
        tokio::select! {
            said = timeout(GOODBYE, said) => drop(said),
            () = closing.given_up() => {}
        }
    }
}
