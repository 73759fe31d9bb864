//! Payloads: any object that exports its memory in, `bytes` out.

#![allow(
    unsafe_code,
    reason = "the memory of a Python object is read while the interpreter's lock is let go"
)]

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// From this length on the interpreter's lock is let go for a copy.
pub const LONG: usize = 4096;

/// The bytes of a Python object.
pub enum Payload<'py> {
    Bytes(&'py [u8]),
    Buffer(PyUntypedBuffer),
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
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(
                "the memory of this object is not in one piece: copy it first",
            ));
        }
        Ok(Payload::Buffer(buffer))
    }

    /// The bytes. Whoever writes into a buffer while it is sent sends something in between.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Buffer(buffer) if buffer.len_bytes() == 0 => &[],
            // SAFETY: the exporter promises `len_bytes` bytes there, in one piece (looked at above), and
            // keeps them where they are until the buffer is released, which this slice does not
            // outlive. They are initialised. Other threads of the program can write into a
            // mutable object meanwhile, as for every extension that lets go of the interpreter's
            // lock; the slice is only copied from, byte by byte without a decision, so that changes
            // what is sent and nothing else. The documents say not to do it.
            Payload::Buffer(buffer) => unsafe {
                std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>().cast_const(), buffer.len_bytes())
            },
        }
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
