//! Writes whole lines to a destination, and counts those that could not be written.

use std::io::{self, ErrorKind, Write};

/// The number of lines that could not be written, and the error.
#[derive(Debug)]
pub struct Lost {
    pub lines: u64,
    pub error: io::Error,
}

/// What could not be done with a log file. Lines are still written to it.
#[derive(Debug)]
pub enum Trouble {
    Rotation(io::Error),
    Reopening(io::Error),
}

/// A destination for lines.
pub trait Sink {
    /// Writes whole lines.
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), Lost>;

    /// Opens the file anew at its path. False if this is no file.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// What went wrong with the file while lines were written, once for each attempt.
    fn trouble(&mut self) -> Option<Trouble> {
        None
    }
}

/// A destination that is never rotated.
pub struct Stream<W> {
    pub to: W,
    /// The last line was written only in part, so a line break must come before the next one.
    torn: bool,
}

impl<W> Stream<W> {
    pub fn new(to: W) -> Stream<W> {
        Stream { to, torn: false }
    }
}

impl<W: Write> Sink for Stream<W> {
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let lost = |rest: &[u8], error| Lost { lines: count(rest), error };
        if self.torn {
            self.to.write_all(b"\n").map_err(|error| lost(lines, error))?;
            self.torn = false;
        }
        let mut done = 0;
        while done < lines.len() {
            let error = match self.to.write(&lines[done..]) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    done += written;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.torn = done > 0 && lines[done - 1] != b'\n';
            return Err(lost(&lines[done..], error));
        }
        Ok(())
    }
}

pub fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts `room` bytes, then fails like a full disk.
    struct Disk {
        room: usize,
        holds: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.holds.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn on_a_full_disk_only_lines_that_do_not_fit_are_lost() {
        let mut stream = Stream::new(Disk { room: 7, holds: Vec::new() });
        let lost = stream.write_lines(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (2, ErrorKind::StorageFull));
        assert_eq!(stream.write_lines(b"four\n").unwrap_err().lines, 1);
        stream.to.room = 100;
        stream.write_lines(b"five\n").unwrap();
        stream.write_lines(b"six\n").unwrap();
        assert_eq!(String::from_utf8(stream.to.holds).unwrap(), "one\ntwo\nfive\nsix\n");
    }
}
