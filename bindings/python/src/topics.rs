//! Topics: publishers and subscribers.

use std::os::fd::AsRawFd;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ringpost::{Key, Readiness, Ready};

use crate::errors::{Raise, word};
use crate::payload::{Payload, bytes, filled};
use crate::records::{Peer, Sample};
use crate::turn::Turn;
use crate::waits::{Limit, until};

/// An end that waits in an event loop, and its descriptor.
struct Armed<T> {
    end: T,
    readiness: Option<Readiness>,
}

impl<T: Ready + Send> Armed<T> {
    fn descriptor(&mut self, py: Python<'_>) -> PyResult<i32> {
        if self.readiness.is_none() {
            self.readiness = Some(py.detach(|| self.end.readiness()).map_err(Raise::raise)?);
        }
        Ok(self.readiness.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }
}

/// A topic that this client publishes: ``Client.publish``.
#[pyclass(frozen, module = "ringpost")]
pub struct Publisher {
    end: Turn<Armed<ringpost::Publisher>>,
    /// The topic.
    #[pyo3(get)]
    topic: String,
    /// The most bytes of a sample.
    #[pyo3(get)]
    max_sample: usize,
}

impl Publisher {
    pub fn new(publisher: ringpost::Publisher) -> Publisher {
        let (topic, max_sample) = (publisher.topic().as_str().to_owned(), publisher.max_sample());
        let closer = publisher.closer();
        Publisher { end: Turn::new(Armed { end: publisher, readiness: None }, closer), topic, max_sample }
    }
}

#[pymethods]
impl Publisher {
    /// Publishes a sample: ``bytes``, or any buffer in one piece, such as a numpy array. It waits for nobody, unless the topic
    /// was published with ``reliable``.
    #[pyo3(signature = (sample, timeout=None))]
    fn send(&self, py: Python<'_>, sample: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let (limit, sample) = (Limit::new(timeout)?, Payload::of(sample)?);
        let sample = sample.bytes();
        self.end.with(py, &limit, |armed| {
            until(py, &limit, |time| py.detach(|| armed.end.send_timeout(sample, time)))
        })
    }

    /// As ``send``, but never waits: raises ``Full`` if a reliable subscriber makes no room.
    fn try_send(&self, py: Python<'_>, sample: &Bound<'_, PyAny>) -> PyResult<()> {
        let sample = Payload::of(sample)?;
        let sample = sample.bytes();
        self.end
            .with(py, &Limit::NONE, |armed| py.detach(|| armed.end.try_send(sample)).map_err(Raise::raise))
    }

    /// How many samples were published.
    #[getter]
    fn sequence(&self, py: Python<'_>) -> PyResult<u64> {
        self.end.with(py, &Limit::NONE, |armed| Ok(armed.end.sequence()))
    }

    /// How many subscribers there are now.
    #[getter]
    fn subscribers(&self, py: Python<'_>) -> PyResult<usize> {
        self.end.with(py, &Limit::NONE, |armed| Ok(armed.end.subscribers()))
    }

    /// The reliable subscribers that were given up since the last time.
    fn evictions(&self, py: Python<'_>) -> PyResult<Vec<Peer>> {
        self.end.with(py, &Limit::NONE, |armed| {
            Ok(armed.end.evictions().iter().map(|eviction| Peer::from(&eviction.subscriber)).collect())
        })
    }

    /// The descriptor by which an event loop waits for room, if it was published with ``arms``.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::NONE, |armed| armed.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::NONE, |armed| armed.end.arm().map_err(Raise::raise))
    }

    /// Ends the topic. What was published can still be read.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let end = self.end.take(py)?;
        py.detach(|| drop(end));
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}

/// A subscription: ``Client.subscribe``. Iterating over it waits for one sample after the other.
///
/// >>> with ringpost.Server(path), ringpost.Client("alice", path) as alice, ringpost.Client("bob", path) as bob:
/// ...     prices = bob.subscribe("prices/*")
/// ...     alice.publish("prices/AAPL").send(b"187.42")
/// ...     sample = prices.recv(timeout=10)
/// ...     sample.topic, sample.payload, sample.publisher.name
/// ('prices/AAPL', b'187.42', 'alice')
#[pyclass(frozen, module = "ringpost")]
pub struct Subscriber {
    end: Turn<Subscription>,
}

struct Subscription {
    armed: Armed<ringpost::Subscriber>,
    /// The publisher of the last sample, which is often that of the next one.
    last: Option<(Key, Py<Peer>)>,
}

impl Subscriber {
    pub fn new(subscriber: ringpost::Subscriber) -> Subscriber {
        let closer = subscriber.closer();
        let armed = Armed { end: subscriber, readiness: None };
        Subscriber { end: Turn::new(Subscription { armed, last: None }, closer) }
    }
}

impl Subscription {
    /// The next sample if one is there, copied once: from the publisher's ring into its `bytes`.
    fn try_take(&mut self, py: Python<'_>) -> PyResult<Option<Sample>> {
        loop {
            let Some(view) = py.detach(|| self.armed.end.try_recv_ref()).map_err(Raise::raise)? else {
                return Ok(None);
            };
            let payload = filled(py, view.len(), |place| {
                // What was overwritten meanwhile is found below.
                let _ = view.copy_to(0, place);
                Ok(())
            })?;
            let of = Of {
                topic: view.topic(),
                publisher: view.publisher(),
                sequence: view.sequence(),
                missed: view.missed(),
            };
            let sample = of.sample(py, &mut self.last, payload)?;
            if view.finish().is_ok() {
                return Ok(Some(sample));
            }
            // Overwritten: the next sample counts it as missed.
        }
    }

    fn take(&mut self, py: Python<'_>, limit: &Limit) -> PyResult<Sample> {
        if let Some(sample) = self.try_take(py)? {
            return Ok(sample);
        }
        let (end, last) = (&mut self.armed.end, &mut self.last);
        loop {
            let (slice, over) = limit.slice();
            match py.detach(|| end.recv_timeout(slice)) {
                Ok(found) => {
                    let of = Of {
                        topic: found.topic(),
                        publisher: found.publisher(),
                        sequence: found.sequence(),
                        missed: found.missed(),
                    };
                    return of.sample(py, last, bytes(py, found.payload())?);
                }
                Err(error) if error.is_timeout() && !over => py.check_signals()?,
                Err(error) => return Err(error.raise()),
            }
        }
    }
}

/// What is said about a sample.
struct Of<'a> {
    topic: &'a str,
    publisher: &'a ringpost::Peer,
    sequence: u64,
    missed: u64,
}

impl Of<'_> {
    fn sample(
        &self,
        py: Python<'_>,
        last: &mut Option<(Key, Py<Peer>)>,
        payload: Bound<'_, PyBytes>,
    ) -> PyResult<Sample> {
        let publisher = match last {
            Some((key, peer)) if *key == self.publisher.key => peer.clone_ref(py),
            _ => {
                let peer = Py::new(py, Peer::from(self.publisher))?;
                *last = Some((self.publisher.key, peer.clone_ref(py)));
                peer
            }
        };
        Ok(Sample {
            payload: payload.unbind(),
            topic: self.topic.to_owned(),
            publisher,
            sequence: self.sequence,
            missed: self.missed,
        })
    }
}

#[pymethods]
impl Subscriber {
    /// Waits for the next sample.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Sample> {
        let limit = Limit::new(timeout)?;
        self.end.with(py, &limit, |subscription| subscription.take(py, &limit))
    }

    /// The next sample, or ``None`` if there is none now. Never waits.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Sample>> {
        self.end.with(py, &Limit::NONE, |subscription| subscription.try_take(py))
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Sample> {
        self.recv(py, None)
    }

    /// The publishers whose topics match, now.
    fn publishers(&self, py: Python<'_>) -> PyResult<Vec<Peer>> {
        self.end.with(py, &Limit::NONE, |subscription| {
            Ok(subscription.armed.end.publishers().iter().map(Peer::from).collect())
        })
    }

    /// The descriptor by which an event loop waits for samples, if it was made with ``arms``.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::NONE, |subscription| subscription.armed.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::NONE, |subscription| subscription.armed.end.arm().map_err(Raise::raise))
    }

    /// Why the subscription has ended, in a word, or ``None``.
    #[getter]
    fn closed(&self) -> Option<&'static str> {
        self.end.reason().map(word)
    }

    /// Ends the subscription, and the waits of other threads for it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let end = self.end.take(py)?;
        py.detach(|| drop(end.map(|end| end.armed)));
        Ok(())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}
