//! The operations on topics: to publish, to receive samples, and to learn who is registered.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Ready;
use super::asynchronous::Async;
use super::runtime::{MOST_TURNS, poll_until};
use crate::client::{
    Change, OwnedSample, Presence, PublishError, Publisher, Sample, SampleError, Subscriber,
};
use crate::codec::Payload;
use crate::topic::Taken;

impl Async<Publisher> {
    /// Publishes a sample: as [`Publisher::send`]. Waits only for room, which a publisher lacks if it has
    /// offered to wait for reliable subscribers. Those that use up its patience meanwhile are evicted.
    ///
    /// Dropped before its end, nothing was published.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn send(&mut self, sample: impl Payload) -> Result<(), PublishError> {
        let (max, due) = (self.end.max_sample(), self.turns >= MOST_TURNS);
        let kept = sample.encode(max, |bytes| {
            let sent = !due && publish(&mut self.end, bytes)?.is_some();
            Ok::<_, PublishError>((!sent).then(|| bytes.to_vec()))
        })??;
        let Some(bytes) = kept else {
            self.turns += 1;
            return Ok(());
        };
        let Async { end, watch, turns, .. } = self;
        let begin = |end: &mut Publisher| publish(end, &bytes);
        poll_fn(|cx| poll_until(cx, watch, turns, end, begin, Ready::arm)).await
    }
}

/// Publishes if there is room.
fn publish(publisher: &mut Publisher, bytes: &[u8]) -> Result<Option<()>, PublishError> {
    match publisher.try_send(bytes) {
        Ok(()) => Ok(Some(())),
        Err(PublishError::Full) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Async<Subscriber> {
    /// Waits for the next sample: as [`Subscriber::recv`]. It stays readable until the next operation.
    ///
    /// Dropped before its end, it took nothing.
    ///
    /// # Errors
    ///
    /// See [`SampleError`].
    pub async fn recv(&mut self) -> Result<Sample<'_>, SampleError> {
        let (at, taken) = poll_fn(|cx| self.poll_take(cx)).await?;
        Ok(self.end.sample(at, taken))
    }

    /// Takes a sample into the subscriber's buffer.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(usize, Taken), SampleError>> {
        let Async { end, watch, turns, .. } = self;
        poll_until(cx, watch, turns, end, Subscriber::look, Ready::arm)
    }
}

impl Async<Presence> {
    /// Waits for the next change: as [`Presence::recv`].
    ///
    /// Dropped before its end, it took nothing.
    ///
    /// # Errors
    ///
    /// See [`SampleError`].
    pub async fn recv(&mut self) -> Result<Change, SampleError> {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Result<Change, SampleError>> {
        let Async { end, watch, turns, .. } = self;
        poll_until(cx, watch, turns, end, Presence::try_recv, Ready::arm)
    }
}

/// The samples, as [`recv`](Async::recv) receives them. It ends behind
/// [`Disconnected`](SampleError::Disconnected), or if the runtime has ended; every other error is one of its
/// items, and more may come.
impl Stream for Async<Subscriber> {
    type Item = Result<OwnedSample, SampleError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let taken = ready!(this.poll_take(cx));
        this.over = matches!(taken, Err(SampleError::Disconnected(_) | SampleError::CannotWait));
        Poll::Ready(Some(taken.map(|(at, taken)| this.end.sample(at, taken).to_owned())))
    }
}

/// The changes, as [`recv`](Async::recv) returns them. It ends behind the first error.
impl Stream for Async<Presence> {
    type Item = Result<Change, SampleError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let change = ready!(this.poll_change(cx));
        this.over = change.is_err();
        Poll::Ready(Some(change))
    }
}
