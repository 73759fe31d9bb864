//! The pipe of the models: the number of bytes in it, under a lock.

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
#[cfg(test)]
pub(crate) fn pipe(most: usize) -> (PipeReader, PipeWriter) {
    let pipe = Arc::new(Pipe { bytes: Mutex::new(0), most, changed: Condvar::new() });
    (PipeReader(pipe.clone()), PipeWriter(pipe))
}

/// The write end.
#[derive(Debug, Clone)]
pub(crate) struct PipeWriter(Arc<Pipe>);

impl PipeWriter {
    pub(crate) fn kick(&self) {
        let mut bytes = self.0.bytes.lock().unwrap();
        *bytes = (*bytes + 1).min(self.0.most);
        self.0.changed.notify_all();
    }
}

/// The read end.
#[derive(Debug)]
pub(crate) struct PipeReader(Arc<Pipe>);

impl PipeReader {
    pub(crate) fn drain(&self) -> usize {
        std::mem::take(&mut *self.0.bytes.lock().unwrap())
    }

    /// What an event loop does: waits until it is readable, and takes nothing.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let mut bytes = self.0.bytes.lock().unwrap();
        while *bytes == 0 {
            bytes = self.0.changed.wait(bytes).unwrap();
        }
    }
}
