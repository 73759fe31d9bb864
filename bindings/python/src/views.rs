//! Samples in place: `View` reads one where the publisher wrote it, `Grant` is room to write one.

#![allow(unsafe_code, reason = "the buffer protocol is pointers")]

use std::os::raw::{c_int, c_void};

use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::{PyBufferError, PyException, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use ringpost::{CloseReason, SampleGrant, SampleView};
use self_cell::{MutBorrow, self_cell};

use crate::armed::Armed;
use crate::errors::{disconnected, overrun};
use crate::payload::{LONG, filled};
use crate::records::Peer;
use crate::topics::{Publisher, Subscriber};

self_cell!(
    /// A subscription, and the sample of it that is looked at.
    pub struct Shown {
        owner: MutBorrow<Box<Armed<ringpost::Subscriber>>>,
        #[covariant]
        dependent: SampleView,
    }
);

type Granted<'a> = Option<SampleGrant<'a>>;

self_cell!(
    /// A publisher, and the room for its next sample, until that is committed.
    pub struct Room {
        owner: MutBorrow<Box<Armed<ringpost::Publisher>>>,
        #[covariant]
        dependent: Granted,
    }
);

/// What exports memory: as long as there are exports, it stays where it is.
struct Exporting<T> {
    what: Option<T>,
    exports: usize,
}

impl<T> Exporting<T> {
    fn new(what: T) -> Mutex<Exporting<T>> {
        Mutex::new(Exporting { what: Some(what), exports: 0 })
    }
}

/// Takes it out if nobody sees its memory any more.
fn take<T>(place: &Mutex<Exporting<T>>) -> PyResult<Option<T>> {
    let mut place = place.lock();
    if place.exports == 0 {
        return Ok(place.what.take());
    }
    drop(place); // Making an exception may run Python code.
    Err(PyBufferError::new_err(
        "a memoryview or an array over this memory is still there: release or delete it first",
    ))
}

fn over(what: &str) -> PyErr {
    PyValueError::new_err(format!("this {what} is not open any more"))
}

/// Exports the memory that `address` finds. The view keeps `object` alive.
///
/// # Safety
///
/// `view` is a place for a `Py_buffer`, or null. The memory is there, and for `readonly == false` may be
/// written to, as long as `place` has what it has, and that is not taken out while exports are counted.
unsafe fn export<T>(
    object: &Bound<'_, PyAny>,
    place: &Mutex<Exporting<T>>,
    (view, flags): (*mut ffi::Py_buffer, c_int),
    (len, readonly): (usize, bool),
    address: impl FnOnce(&mut T) -> Option<*mut c_void>,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("there is no place for the view"));
    }
    // SAFETY: it is a place for one (see above), and the protocol wants no object in it if this fails.
    unsafe { (*view).obj = std::ptr::null_mut() };
    if readonly && flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
        return Err(PyBufferError::new_err("a sample in place can only be read"));
    }
    let mut held = place.lock();
    let Some(start) = held.what.as_mut().and_then(address) else {
        drop(held);
        return Err(over("view or grant"));
    };
    let len = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: `view` is a place for one. `len` bytes at `start` are there as long as exports are counted (see
    // above); that is counted below, and until `__releasebuffer__`, which the interpreter calls once for
    // each view. The object is alive, and the view holds it from here on.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, object.as_ptr(), start, len, c_int::from(readonly), flags) };
    if filled == 0 {
        held.exports += 1;
        return Ok(());
    }
    drop(held);
    Err(PyErr::fetch(object.py()))
}

/// A sample in place, in the publisher's memory: ``Subscriber.view``. Nothing was copied.
///
/// It has the buffer protocol: ``memoryview(view)``, ``numpy.frombuffer(view, dtype)``, or any function that
/// takes bytes, read it there. Those can only be read, and the memory stays as long as any of them is there,
/// whatever happens to the publisher, the subscriber or the server. ``release``, or the end of a ``with``
/// block, gives the sample back. It raises ``BufferError`` while anybody still sees the memory: ``del`` the
/// array first. ``bytes(view)`` is a checked copy.
///
/// The publisher may overwrite the sample while it is read, unless the subscription is reliable: it waits for
/// no lossy reader. Then what was read may be anything. ``check`` tells, and so do ``release`` and the end of
/// the ``with`` block: they raise ``errors.Overrun``. So compute what you need, and use it once one of them
/// has not raised. A publisher that breaks the rules can change a sample unnoticed: from one that you do not
/// trust, take copies by ``Subscriber.recv``.
///
/// While it is open, its subscriber can do nothing else but ``close``: everything raises ``errors.InUse``.
///
/// >>> server = ringpost.Server(path)
/// >>> with server, ringpost.Client("alice", path) as alice, ringpost.Client("bob", path) as bob:
/// ...     frames = bob.subscribe("camera/*")
/// ...     alice.publish("camera/front").send(bytes(range(100)))
/// ...     with frames.view(timeout=10) as view:
/// ...         with memoryview(view) as pixels:
/// ...             total = sum(pixels)
/// ...     view.topic, len(view), total
/// ('camera/front', 100, 4950)
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct View {
    shown: Mutex<Exporting<Shown>>,
    len: usize,
    /// The topic.
    #[pyo3(get)]
    topic: Py<PyString>,
    /// Who published it.
    #[pyo3(get)]
    publisher: Py<Peer>,
    /// Its number among the samples of this publisher, from 1.
    #[pyo3(get)]
    sequence: u64,
    /// How many samples of this publisher were left out just before this one.
    #[pyo3(get)]
    missed: u64,
    subscriber: Py<Subscriber>,
}

impl View {
    pub fn new(
        shown: Shown,
        (topic, publisher): (Py<PyString>, Py<Peer>),
        subscriber: Py<Subscriber>,
    ) -> View {
        let view = shown.borrow_dependent();
        let (len, sequence, missed) = (view.len(), view.sequence(), view.missed());
        View { shown: Exporting::new(shown), len, topic, publisher, sequence, missed, subscriber }
    }

    /// In a forked child everything is the parent's. Its threads may have held a lock, so none is taken here,
    /// and to give the sample up would tell the publisher that the parent has read it.
    fn is_forked(&self) -> bool {
        self.subscriber.get().end.reason() == Some(CloseReason::Forked)
    }

    /// What is looked at, unless this is a forked child.
    fn open(&self) -> PyResult<MutexGuard<'_, Exporting<Shown>>> {
        if self.is_forked() { Err(disconnected(CloseReason::Forked, false)) } else { Ok(self.shown.lock()) }
    }

    /// Gives the subscription back. Returns whether what was read was the sample.
    fn end(&self, py: Python<'_>, shown: Shown) -> bool {
        let whole = shown.borrow_dependent().check().is_ok();
        self.subscriber.get().end.give_back(py, shown.into_owner().into_inner());
        whole
    }
}

#[pymethods]
impl View {
    /// Raises ``errors.Overrun`` if the publisher has overwritten the sample, or is about to: what was read
    /// so far may be anything.
    fn check(&self) -> PyResult<()> {
        let place = self.open()?;
        let whole = place.what.as_ref().map(|shown| shown.borrow_dependent().check().is_ok());
        drop(place); // Making an exception may run Python code.
        match whole {
            Some(true) => Ok(()),
            Some(false) => Err(overrun()),
            None => Err(over("view")),
        }
    }

    /// Gives the sample back: it counts as taken. Raises ``BufferError`` while a ``memoryview`` or an array
    /// over it is there; then it stays open. Raises ``errors.Overrun`` if the publisher has overwritten
    /// it before this. May be called twice.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_forked() {
            return Ok(());
        }
        match take(&self.shown)?.map(|shown| self.end(py, shown)) {
            Some(false) => Err(overrun()),
            _ => Ok(()),
        }
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// A copy of the sample, as ``Subscriber.recv`` makes it. Raises ``errors.Overrun`` if it is not whole.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        drop(self.open()?);
        let mut copied = Some(false);
        let copy = filled(py, self.len, |to| {
            // Held for the copy alone: whoever has it never waits for the interpreter's lock.
            let place = self.shown.lock();
            let view = place.what.as_ref().map(Shown::borrow_dependent);
            copied = view.map(|view| view.copy_to(0, to).is_ok());
            Ok(())
        })?;
        match copied {
            Some(true) => Ok(copy),
            Some(false) => Err(overrun()),
            None => Err(over("view")),
        }
    }

    unsafe fn __getbuffer__(this: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let own = this.get();
        drop(own.open()?);
        let address = |shown: &mut Shown| Some(shown.borrow_dependent().as_ptr().cast_mut().cast::<c_void>());
        // SAFETY: the interpreter gives the place. `SampleView` promises `len` readable bytes at its address
        // as long as it lives, and `shown`, which `end` alone takes out by `take`, keeps it and its
        // subscriber alive.
        unsafe { export(this.as_any(), &own.shown, (view, flags), (own.len, true), address) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        if !self.is_forked() {
            self.shown.lock().exports -= 1;
        }
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// Releases it. An exception on its way goes on, but gives way to ``Overrun``, which may be its cause.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let released = self.release(py);
        match (released, raised(exception)) {
            (Err(error), Some(_)) if error.is_instance_of::<PyBufferError>(py) => Ok(()),
            (Err(_), Some(raised)) if !raised.is_instance_of::<PyException>() => Ok(()),
            (Err(error), Some(raised)) => {
                error.value(py).setattr("__context__", raised)?;
                Err(error)
            }
            (released, _) => released,
        }
    }

    fn __repr__(&self) -> String {
        format!("View({} bytes of '{}', sequence={})", self.len, self.topic, self.sequence)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Nobody sees its memory: each export holds this object.
        let Some(shown) = self.shown.get_mut().what.take() else { return };
        if self.is_forked() {
            return std::mem::forget(shown);
        }
        let _ = Python::try_attach(|py| self.end(py, shown));
    }
}

/// The exception that a ``with`` block ended with.
fn raised<'py>(exception: &Bound<'py, PyTuple>) -> Option<Bound<'py, PyAny>> {
    exception.get_item(1).ok().filter(|value| !value.is_none())
}

/// Room for one sample in the publisher's memory, to be written in place: ``Publisher.grant``.
///
/// It has the buffer protocol: write through ``memoryview(grant)``, ``numpy.frombuffer(grant, dtype)``, or
/// ``file.readinto(grant)``. ``commit`` publishes. If that was not called, the end of the ``with`` block
/// takes it back, and nothing was published. Both raise ``BufferError`` while an array over it is there:
/// ``del`` it first.
///
/// What is not written keeps the bytes of earlier samples. Do not put there what subscribers must not see:
/// they can read what is written before it is committed. While it is open, its publisher can do nothing else
/// but ``close``.
///
/// >>> server = ringpost.Server(path)
/// >>> with server, ringpost.Client("alice", path) as alice, ringpost.Client("bob", path) as bob:
/// ...     frames = bob.subscribe("camera/*")
/// ...     with alice.publish("camera/front").grant(100) as grant:
/// ...         with memoryview(grant) as room:
/// ...             room[:6] = b"pixels"
/// ...         grant.commit(6)
/// ...     frames.recv(timeout=10).payload
/// b'pixels'
#[pyclass(frozen, weakref, module = "ringpost")]
pub struct Grant {
    room: Mutex<Exporting<Room>>,
    len: usize,
    publisher: Py<Publisher>,
}

impl Grant {
    pub fn new(room: Room, len: usize, publisher: Py<Publisher>) -> Grant {
        Grant { room: Exporting::new(room), len, publisher }
    }

    /// In a forked child the room is the parent's: to give it up would overwrite what the parent is writing.
    fn is_forked(&self) -> bool {
        self.publisher.get().end.reason() == Some(CloseReason::Forked)
    }

    fn end(&self, py: Python<'_>, room: Room) {
        // What was not committed is overwritten, which takes as long as a copy.
        let back = || room.into_owner().into_inner();
        let end = if self.len < LONG { back() } else { py.detach(back) };
        self.publisher.get().end.give_back(py, end);
    }
}

#[pymethods]
impl Grant {
    /// Publishes the first ``size`` bytes, or all. Raises ``BufferError`` while a ``memoryview`` or an array
    /// over it is there, and ``ValueError`` if ``size`` is more than there is, or if it was committed or
    /// abandoned before.
    #[pyo3(signature = (size=None))]
    fn commit(&self, py: Python<'_>, size: Option<usize>) -> PyResult<()> {
        let size = size.unwrap_or(self.len);
        if size > self.len {
            let text = format!("the grant has room for {} bytes, not for {size}", self.len);
            return Err(PyValueError::new_err(text));
        }
        if self.is_forked() {
            return Err(disconnected(CloseReason::Forked, false));
        }
        let Some(mut room) = take(&self.room)? else { return Err(over("grant")) };
        room.with_dependent_mut(|_, grant| {
            if let Some(mut grant) = grant.take() {
                grant.advance(size);
                // Only what is left over is overwritten, which takes as long as a copy.
                let publish = || grant.commit();
                if self.len - size < LONG { publish() } else { py.detach(publish) }
            }
        });
        self.end(py, room);
        Ok(())
    }

    /// Takes it back: nothing is published. Raises ``BufferError`` while a ``memoryview`` or an array over it
    /// is there. May be called twice, and after ``commit``, which it changes nothing of.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_forked()
            && let Some(room) = take(&self.room)?
        {
            self.end(py, room);
        }
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.len
    }

    unsafe fn __getbuffer__(this: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let own = this.get();
        if own.is_forked() {
            return Err(disconnected(CloseReason::Forked, false));
        }
        let address = |room: &mut Room| {
            room.with_dependent_mut(|_, grant| Some(grant.as_mut()?.as_mut_ptr().cast::<c_void>()))
        };
        // SAFETY: the interpreter gives the place. `SampleGrant` promises `len` bytes, the length that it was
        // made with and of which none was written yet, to read and to write at its address until it
        // is committed or dropped; both take it out by `take`.
        unsafe { export(this.as_any(), &own.room, (view, flags), (own.len, false), address) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.room.lock().exports -= 1;
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let abandoned = self.abandon(py);
        if raised(exception).is_some() { Ok(()) } else { abandoned }
    }

    fn __repr__(&self) -> String {
        format!("Grant({} bytes)", self.len)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        // Nobody sees its memory: each export holds this object.
        let Some(room) = self.room.get_mut().what.take() else { return };
        if self.is_forked() {
            return std::mem::forget(room);
        }
        let _ = Python::try_attach(|py| self.end(py, room));
    }
}
