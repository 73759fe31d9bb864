//! The pipe of the models: the number of bytes in it, under a lock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use loom::sync::{Condvar, Mutex};

use super::Arc;

#[derive(Debug)]
struct Pipe {
    bytes: Mutex<usize>,
    /// How many it holds. A kick that finds no room is dropped, as in the kernel.
    most: usize,
    changed: Condvar,
}

/// A pipe that holds so many bytes.
pub(crate) fn pipe(most: usize) -> (PipeReader, PipeWriter) {
    let pipe = Arc::new(Pipe { bytes: Mutex::new(0), most, changed: Condvar::new() });
    (PipeReader { pipe: pipe.clone(), descriptor: None }, PipeWriter(pipe))
}

/// The write end.
#[derive(Debug, Clone)]
pub(crate) struct PipeWriter(Arc<Pipe>);

impl PipeWriter {
    /// No model uses a descriptor.
    pub(crate) fn new(_descriptor: OwnedFd) -> PipeWriter {
        pipe(1).1
    }

    pub(crate) fn is_ours(&self) -> bool {
        true
    }

    pub(crate) fn kick(&self) {
        let mut bytes = self.0.bytes.lock().unwrap();
        *bytes = (*bytes + 1).min(self.0.most);
        self.0.changed.notify_all();
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("no model waits on a descriptor")
    }
}

/// The read end.
#[derive(Debug)]
pub(crate) struct PipeReader {
    pipe: Arc<Pipe>,
    descriptor: Option<OwnedFd>,
}

impl PipeReader {
    /// No model uses a descriptor.
    pub(crate) fn new(descriptor: OwnedFd) -> PipeReader {
        PipeReader { descriptor: Some(descriptor), ..pipe(1).0 }
    }

    pub(crate) fn is_ours(&self) -> bool {
        true
    }

    pub(crate) fn drain(&self) -> Option<usize> {
        Some(std::mem::take(&mut *self.pipe.bytes.lock().unwrap()))
    }

    /// What an event loop does: waits until it is readable, and takes nothing.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let mut bytes = self.pipe.bytes.lock().unwrap();
        while *bytes == 0 {
            bytes = self.pipe.changed.wait(bytes).unwrap();
        }
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("no model waits on a descriptor").as_fd()
    }
}
