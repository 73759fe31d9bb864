//! Payloads: any object that exports its memory in, `bytes` out.

#![allow(
    unsafe_code,
    reason = "the memory of a Python object is read while the interpreter's lock is let go"
)]

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// From this length on the interpreter's lock is let go for a copy.
pub const LONG: usize = 4096;

/// The bytes of a Python object.
pub enum Payload<'py> {
    Bytes(&'py [u8]),
    Buffer(Exported<'py>),
}

impl<'py> Payload<'py> {
    /// Of `bytes`, or of anything with the buffer protocol whose memory is in one piece.
    pub fn of<'a: 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Payload::Bytes(bytes.as_bytes()));
        }
        if object.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("a payload is bytes, not str: encode() it"));
        }
        Exported::of(object).map(Payload::Buffer)
    }

    /// The bytes. Whoever writes into a buffer while it is sent sends something in between.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Buffer(exported) => exported.bytes(),
        }
    }
}

/// The memory that an object exports, in one piece. It stays where it is as long as this lives.
pub struct Exported<'py> {
    /// In a box, because some exporters keep its address, or point into it.
    view: Box<ffi::Py_buffer>,
    /// It is released by a thread that has the interpreter's lock.
    _attached: Python<'py>,
}

impl<'py> Exported<'py> {
    /// Asks for the bytes and for nothing else. pyo3's own buffer wants shape and strides as well, which
    /// ctypes objects and arrays without a dimension do not have. An exporter refuses what is not in one
    /// piece.
    fn of(object: &Bound<'py, PyAny>) -> PyResult<Exported<'py>> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the object is alive, and `view` is a place for a view that does not move until it is
        // released.
        let asked = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) };
        match asked {
            0 => Ok(Exported { view, _attached: object.py() }),
            _ => Err(PyErr::fetch(object.py())),
        }
    }

    fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.view.len).unwrap_or(0);
        if len == 0 {
            return &[]; // also where the address is null
        }
        // SAFETY: the exporter promises `len` bytes there, in one piece, and keeps them where they are until
        // the view is released, which this slice does not outlive. They are initialised. Other
        // threads of the program can write into a mutable object meanwhile, as for every extension
        // that lets go of the interpreter's lock; the slice is only copied from, byte by byte without
        // a decision, so that changes what is sent and nothing else. The documents say not to do it.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast::<u8>().cast_const(), len) }
    }
}

impl Drop for Exported<'_> {
    fn drop(&mut self) {
        // SAFETY: `PyObject_GetBuffer` filled it, nobody else releases it, and this thread has the
        // interpreter's lock, as it has a `Python`.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.view) }
    }
}

/// `bytes` with this content.
pub fn bytes<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    if content.len() < LONG {
        return Ok(PyBytes::new(py, content));
    }
    PyBytes::new_with(py, content.len(), |place| {
        py.detach(|| place.copy_from_slice(content));
        Ok(())
    })
}

/// `bytes` of this length, filled by `fill`.
pub fn filled<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<()> + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, len, |place| if len < LONG { fill(place) } else { py.detach(|| fill(place)) })
}
