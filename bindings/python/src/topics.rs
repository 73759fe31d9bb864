//! Topics: publishers and subscribers.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;
use ringpost::{Key, PublishError, SampleError, SampleView};
use self_cell::MutBorrow;

use crate::armed::Armed;
use crate::errors::{Raise, word};
use crate::lending::Lending;
use crate::payload::{Payload, filled};
use crate::records::{Peer, Sample};
use crate::views::{Grant, Room, Shown, View};
use crate::waits::{Limit, until};

/// A topic that this client publishes: ``Client.publish``.
#[pyclass(frozen, module = "ringpost")]
pub struct Publisher {
    pub end: Lending<Armed<ringpost::Publisher>>,
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
        Publisher { end: Lending::new(Armed::new(publisher), closer), topic, max_sample }
    }

    fn room(this: &Bound<'_, Self>, size: usize, limit: &Limit, waits: bool) -> PyResult<Option<Grant>> {
        let room = this.get().end.lend(this.py(), limit, waits, |end, time| {
            Room::try_new_or_recover(MutBorrow::new(end), |end| {
                end.borrow_mut().end.grant_timeout(size, time).map(Some)
            })
            .map_err(|(owner, error)| (owner.into_inner(), error))
        })?;
        Ok(room.map(|room| Grant::new(room, size, this.clone().unbind())))
    }
}

#[pymethods]
impl Publisher {
    /// Publishes a sample: ``bytes``, or any buffer in one piece, such as a numpy array. It waits for nobody,
    /// unless the topic was published with ``reliable``.
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
            .with(py, &Limit::none(), |armed| py.detach(|| armed.end.try_send(sample)).map_err(Raise::raise))
    }

    /// How many samples were published.
    #[getter]
    fn sequence(&self, py: Python<'_>) -> PyResult<u64> {
        self.end.with(py, &Limit::none(), |armed| Ok(armed.end.sequence()))
    }

    /// How many subscribers there are now.
    #[getter]
    fn subscribers(&self, py: Python<'_>) -> PyResult<usize> {
        self.end.with(py, &Limit::none(), |armed| Ok(armed.end.subscribers()))
    }

    /// Room for a sample of ``size`` bytes, to be written in place: see ``Grant``. Waits as ``send`` does.
    #[pyo3(signature = (size, timeout=None))]
    fn grant(this: &Bound<'_, Self>, size: usize, timeout: Option<f64>) -> PyResult<Grant> {
        let limit = Limit::new(timeout)?;
        Publisher::room(this, size, &limit, true)?.ok_or_else(|| PublishError::TimedOut.raise())
    }

    /// As ``grant``, but never waits: ``None`` if a reliable subscriber makes no room.
    fn try_grant(this: &Bound<'_, Self>, size: usize) -> PyResult<Option<Grant>> {
        Publisher::room(this, size, &Limit::none(), false)
    }

    /// The reliable subscribers that were given up since the last time.
    fn evictions(&self, py: Python<'_>) -> PyResult<Vec<Peer>> {
        self.end.with(py, &Limit::none(), |armed| {
            Ok(armed.end.evictions().iter().map(|eviction| Peer::from(&eviction.subscriber)).collect())
        })
    }

    /// The descriptor by which an event loop waits for room, if it was published with ``arms``.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::none(), |armed| armed.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::none(), Armed::arm)
    }

    /// Ends the topic. What was published can still be read.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.end.close(py)
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
/// >>> server = ringpost.Server(path)
/// >>> with server, ringpost.Client("alice", path) as alice, ringpost.Client("bob", path) as bob:
/// ...     prices = bob.subscribe("prices/*")
/// ...     alice.publish("prices/AAPL").send(b"187.42")
/// ...     sample = prices.recv(timeout=10)
/// ...     sample.topic, sample.payload, sample.publisher.name
/// ('prices/AAPL', b'187.42', 'alice')
#[pyclass(frozen, module = "ringpost")]
pub struct Subscriber {
    pub end: Lending<Armed<ringpost::Subscriber>>,
    last: Mutex<Option<Last>>,
}

/// Whose the last sample was, which is often that of the next one.
struct Last {
    key: Key,
    name: String,
    topic: Py<PyString>,
    publisher: Py<Peer>,
}

impl Subscriber {
    pub fn new(subscriber: ringpost::Subscriber) -> Subscriber {
        let closer = subscriber.closer();
        Subscriber { end: Lending::new(Armed::new(subscriber), closer), last: Mutex::new(None) }
    }

    /// Topic and publisher as objects of Python.
    fn origin(&self, py: Python<'_>, view: &SampleView<'_>) -> PyResult<(Py<PyString>, Py<Peer>)> {
        if let Some(last) = &*self.last.lock()
            && last.key == view.publisher().key
            && last.name == view.topic()
        {
            return Ok((last.topic.clone_ref(py), last.publisher.clone_ref(py)));
        }
        let topic = PyString::new(py, view.topic()).unbind();
        let publisher = Py::new(py, Peer::from(view.publisher()))?;
        let last = Last {
            key: view.publisher().key,
            name: view.topic().to_owned(),
            topic: topic.clone_ref(py),
            publisher: publisher.clone_ref(py),
        };
        let before = self.last.lock().replace(last);
        drop(before); // without the lock
        Ok((topic, publisher))
    }

    /// The sample, copied once: from the publisher's ring into its `bytes`. `None` if it was overwritten
    /// meanwhile: the next sample counts it as missed.
    fn copied(&self, py: Python<'_>, view: SampleView<'_>) -> PyResult<Option<Sample>> {
        let payload = filled(py, view.len(), |place| {
            // What was overwritten is found below.
            let _ = view.copy_to(0, place);
            Ok(())
        })?;
        let (topic, publisher) = self.origin(py, &view)?;
        let sample = Sample {
            payload: payload.unbind(),
            topic,
            publisher,
            sequence: view.sequence(),
            missed: view.missed(),
        };
        Ok(view.finish().is_ok().then_some(sample))
    }

    #[expect(clippy::result_large_err, reason = "the library's error is as large as that")]
    fn show(this: &Bound<'_, Self>, limit: &Limit, waits: bool) -> PyResult<Option<View>> {
        let (py, own) = (this.py(), this.get());
        let shown = own.end.lend(py, limit, waits, |end, time| {
            Shown::try_new_or_recover(MutBorrow::new(end), |end| end.borrow_mut().end.recv_ref_timeout(time))
                .map_err(|(owner, error)| (owner.into_inner(), error))
        })?;
        let Some(shown) = shown else { return Ok(None) };
        match own.origin(py, shown.borrow_dependent()) {
            Ok(origin) => Ok(Some(View::new(shown, origin, this.clone().unbind()))),
            Err(error) => {
                own.end.give_back(py, shown.into_owner().into_inner());
                Err(error)
            }
        }
    }
}

#[pymethods]
impl Subscriber {
    /// Waits for the next sample.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Sample> {
        let limit = Limit::new(timeout)?;
        self.end.with(py, &limit, |armed| {
            // What is there, or comes within the microsecond of looks that a wait begins with, costs less
            // than to let go of the interpreter's lock.
            match armed.end.recv_ref_timeout(Duration::ZERO) {
                Ok(view) => {
                    if let Some(sample) = self.copied(py, view)? {
                        return Ok(sample);
                    }
                }
                Err(error) if error.is_timeout() => {}
                Err(error) => return Err(error.raise()),
            }
            loop {
                let (slice, over) = limit.slice();
                match py.detach(|| armed.end.recv_ref_timeout(slice)) {
                    Ok(view) => {
                        if let Some(sample) = self.copied(py, view)? {
                            return Ok(sample);
                        }
                    }
                    Err(error) if error.is_timeout() && !over => py.check_signals()?,
                    Err(error) => return Err(error.raise()),
                }
            }
        })
    }

    /// The next sample, or ``None`` if there is none now. Never waits.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Sample>> {
        self.end.with(py, &Limit::none(), |armed| {
            loop {
                let Some(view) = armed.end.try_recv_ref().map_err(Raise::raise)? else { return Ok(None) };
                if let Some(sample) = self.copied(py, view)? {
                    return Ok(Some(sample));
                }
            }
        })
    }

    /// Waits for the next sample as ``recv`` does, but leaves it where it is: see ``View``.
    #[pyo3(signature = (timeout=None))]
    fn view(this: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<View> {
        let limit = Limit::new(timeout)?;
        Subscriber::show(this, &limit, true)?.ok_or_else(|| SampleError::TimedOut.raise())
    }

    /// The next sample in place, or ``None`` if there is none now. Never waits.
    fn try_view(this: &Bound<'_, Self>) -> PyResult<Option<View>> {
        Subscriber::show(this, &Limit::none(), false)
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Sample> {
        self.recv(py, None)
    }

    /// The publishers whose topics match, now.
    fn publishers(&self, py: Python<'_>) -> PyResult<Vec<Peer>> {
        self.end.with(py, &Limit::none(), |armed| Ok(armed.end.publishers().iter().map(Peer::from).collect()))
    }

    /// The descriptor by which an event loop waits for samples, if it was made with ``arms``.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.end.with(py, &Limit::none(), |armed| armed.descriptor(py))
    }

    /// Announces a wait. ``False``: look again now.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        self.end.with(py, &Limit::none(), Armed::arm)
    }

    /// Why the subscription has ended, in a word, or ``None``.
    #[getter]
    fn closed(&self) -> Option<&'static str> {
        self.end.reason().map(word)
    }

    /// Ends the subscription, and the waits of other threads for it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.end.close(py)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}
