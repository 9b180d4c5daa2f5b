//! When bytes last came and went, seen below the frames: a large frame on a slow connection is a sign of life from its
//! first byte.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// A stream whose traffic is noted.
pub(super) struct Observed<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

/// When bytes last moved, each in milliseconds since the connection was made.
pub(super) struct Traffic {
    began: Instant,
    heard: AtomicU64,
    sent: AtomicU64,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S) -> Self {
        let traffic = Traffic {
            began: Instant::now(),
            heard: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        };
        Self {
            stream,
            traffic: Arc::new(traffic),
        }
    }

    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }
}

impl Traffic {
    /// Returns when nothing was heard for so long.
    pub(super) async fn silence(&self, limit: Duration) {
        self.standstill(&self.heard, self.began, limit).await;
    }

    /// Does what sends something; none when for so long not a byte of it could be sent.
    pub(super) async fn send<T>(&self, limit: Duration, sending: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            sent = sending => Some(sent),
            () = self.standstill(&self.sent, Instant::now(), limit) => None,
        }
    }

    async fn standstill(&self, last: &AtomicU64, since: Instant, limit: Duration) {
        loop {
            let last = self.began + Duration::from_millis(last.load(Ordering::Relaxed));
            let until = last.max(since) + limit;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn note(&self, last: &AtomicU64) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        last.store(now, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.traffic.note(&self.traffic.heard);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.traffic.note(&self.traffic.sent);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(45);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_silent_when_not_a_byte_comes_in_time() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Observed::new(near);
        let traffic = near.traffic();
        let began = Instant::now();
        let listening = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                far.write_all(b"x").await.unwrap();
                near.read_u8().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = listening => {}
            () = traffic.silence(LIMIT) => {}
        }
        assert_eq!(began.elapsed(), Duration::from_secs(90) + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn sending_may_be_slow_but_not_stand_still() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Observed::new(near);
        let traffic = near.traffic();
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 64];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                far.read_exact(&mut buffer).await.unwrap();
            }
            far
        });
        let sent = traffic.send(LIMIT, near.write_all(&[0; 5 * 64])).await;
        assert!(sent.unwrap().is_ok(), "within 120 s, 30 s for each part");
        let _far = reader.await.unwrap();
        let began = Instant::now();
        assert!(traffic.send(LIMIT, near.write_all(&[0; 64])).await.is_none());
        assert_eq!(began.elapsed(), LIMIT);
    }
}
