//! Writes the log's lines to stderr, or to a file that it rotates.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use super::{Rotate, SIZE};

/// The least time between two daily rotations, in case the clock is set back and forth.
const HOUR: Duration = Duration::from_secs(3600);

/// The number of lines that could not be written, and the error.
#[derive(Debug)]
pub struct Lost {
    pub lines: u64,
    pub error: io::Error,
}

/// A destination for lines.
pub trait Sink {
    /// Writes whole lines.
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), Lost>;

    /// Returns the error of a failed rotation, once for each attempt.
    fn rotation_failed(&mut self) -> Option<io::Error> {
        None
    }
}

/// A destination that is never rotated.
pub struct Stream<W> {
    to: W,
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

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// A file to which lines are appended. Rotation renames it to PATH.1, the former PATH.1 to PATH.2, and so on.
pub struct LogFile {
    path: PathBuf,
    to: Stream<File>,
    rotate: Rotate,
    /// The number of rotated files to keep.
    keep: u32,
    /// The size that the file must not exceed; raised after a failed rotation.
    due_at: u64,
    /// The day on which the file was last written, in days since 1970.
    day: u64,
    today: fn() -> u64,
    /// The time of the last daily rotation.
    rotated: Option<Instant>,
    failure: Option<io::Error>,
}

impl LogFile {
    pub fn open(path: &Path, rotate: Rotate, keep: u32) -> io::Result<LogFile> {
        LogFile::open_on(path, rotate, keep, || days(SystemTime::now()))
    }

    fn open_on(path: &Path, rotate: Rotate, keep: u32, today: fn() -> u64) -> io::Result<LogFile> {
        let file = append(path)?;
        let metadata = file.metadata()?;
        let day =
            if metadata.len() == 0 { today() } else { metadata.modified().map_or_else(|_| today(), days) };
        Ok(LogFile {
            path: path.to_owned(),
            to: Stream::new(file),
            rotate,
            keep,
            due_at: size_of(rotate),
            day,
            today,
            rotated: None,
            failure: None,
        })
    }

    /// Rotates if that is due, and returns how many bytes of `lines` fit into the file then.
    fn room(&mut self, size: &mut u64, lines: &[u8]) -> usize {
        if self.rotate == Rotate::Daily {
            self.rotate_daily(size);
        }
        let limit = size_of(self.rotate);
        let first = line_end(lines);
        if *size > 0 && *size + first as u64 > self.due_at {
            if self.rotate() {
                *size = 0;
                self.due_at = limit;
            } else {
                self.due_at = *size + limit;
            }
        }
        let mut fits = first;
        while fits < lines.len() {
            let next = fits + line_end(&lines[fits..]);
            if *size + next as u64 > self.due_at {
                break;
            }
            fits = next;
        }
        fits
    }

    /// Rotates if a new day has begun. Setting the clock back does not begin a day; setting it back and forth
    /// around midnight begins one day.
    fn rotate_daily(&mut self, size: &mut u64) {
        let today = (self.today)();
        // If the rotation fails, the next attempt is tomorrow.
        let is_new = today > std::mem::replace(&mut self.day, today);
        let was_just_rotated = self.rotated.is_some_and(|then| then.elapsed() < HOUR);
        if is_new && !was_just_rotated && *size > 0 && self.rotate() {
            *size = 0;
            self.rotated = Some(Instant::now());
        }
    }

    fn rotate(&mut self) -> bool {
        match self.shift().and_then(|()| append(&self.path)) {
            Ok(file) => {
                self.to = Stream::new(file);
                true
            }
            Err(error) => {
                self.failure = Some(error);
                false
            }
        }
    }

    /// Renames each file to the next number. The last one is overwritten.
    fn shift(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            if number > 0 {
                path.push(format!(".{number}"));
            }
            PathBuf::from(path)
        };
        for number in (0..self.keep).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Sink for LogFile {
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), Lost> {
        // Another program may have truncated the file.
        let mut size = self.to.to.metadata().map_or(0, |metadata| metadata.len());
        let mut rest = lines;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.room(&mut size, rest));
            if let Err(mut lost) = self.to.write_lines(now) {
                lost.lines += count(later);
                return Err(lost);
            }
            size += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn rotation_failed(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

fn size_of(rotate: Rotate) -> u64 {
    match rotate {
        Rotate::Size(limit) => limit,
        Rotate::Daily => SIZE,
        Rotate::Never => u64::MAX,
    }
}

/// The length of the first line.
fn line_end(lines: &[u8]) -> usize {
    lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1)
}

fn days(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400
}

/// Opens a regular file for appending. Others are refused: opening a pipe would block, and a device must
/// never be renamed.
fn append(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use ringpost::cli::place::TempDir;

    fn files(directory: &TempDir) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.into(), text.into())
    }

    #[test]
    fn a_file_is_rotated_before_it_would_grow_too_large() {
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        let mut file = LogFile::open(&path, Rotate::Size(8), 2).unwrap();
        file.write_lines(b"1\n2\n3\n").unwrap();
        file.write_lines(b"44\n").unwrap();
        assert_eq!(files(&directory), [pair("log", "44\n"), pair("log.1", "1\n2\n3\n")]);
        file.write_lines(b"a line longer than that\n5\n666\n7\n8\n").unwrap();
        let kept =
            [pair("log", "8\n"), pair("log.1", "5\n666\n7\n"), pair("log.2", "a line longer than that\n")];
        assert_eq!(files(&directory), kept, "no line is cut, and only two files stay");
        drop(file);
        let mut file = LogFile::open(&path, Rotate::Size(8), 2).unwrap();
        file.write_lines(b"9\n").unwrap();
        assert_eq!(files(&directory)[0], pair("log", "8\n9\n"), "lines are appended to an existing file");
        fs::File::create(&path).unwrap();
        file.write_lines(b"abcdef\n").unwrap();
        assert_eq!(files(&directory)[0], pair("log", "abcdef\n"), "the file was truncated by somebody else");
    }

    #[test]
    fn a_file_is_rotated_each_day() {
        static TODAY: AtomicU64 = AtomicU64::new(100_000);
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        let mut file = LogFile::open_on(&path, Rotate::Daily, 3, || TODAY.load(Ordering::Relaxed)).unwrap();
        file.write_lines(b"monday\n").unwrap();
        file.write_lines(b"still monday\n").unwrap();
        TODAY.fetch_add(1, Ordering::Relaxed);
        file.write_lines(b"tuesday\n").unwrap();
        assert_eq!(files(&directory), [pair("log", "tuesday\n"), pair("log.1", "monday\nstill monday\n")]);
        // After a restart, a file that was last written on another day is rotated first.
        drop(file);
        let mut file = LogFile::open(&path, Rotate::Daily, 3).unwrap();
        file.day -= 1;
        file.write_lines(b"now\n").unwrap();
        assert_eq!(files(&directory)[..2], [pair("log", "now\n"), pair("log.1", "tuesday\n")]);
    }

    #[test]
    fn a_clock_that_is_set_back_rotates_nothing() {
        static TODAY: AtomicU64 = AtomicU64::new(20_000);
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        let mut file = LogFile::open_on(&path, Rotate::Daily, 3, || TODAY.load(Ordering::Relaxed)).unwrap();
        file.write_lines(b"1\n").unwrap();
        for day in [19_999, 0, 19_000] {
            TODAY.store(day, Ordering::Relaxed);
            file.write_lines(b"1\n").unwrap();
            TODAY.store(0, Ordering::Relaxed);
            file.write_lines(b"1\n").unwrap();
            file.day = 20_000;
        }
        assert_eq!(files(&directory).len(), 1, "no day begins when the clock is set back");
        // Back and forth around midnight, and far into the past.
        for day in [19_999, 20_000, 19_999, 0, 20_000, 19_999] {
            TODAY.store(day, Ordering::Relaxed);
            file.write_lines(b"2\n").unwrap();
        }
        assert_eq!(files(&directory).len(), 2, "one new day at the most: {:?}", files(&directory));
        // Rotation goes on as before, even if the clock was far ahead for a moment.
        for day in [80_000, 19_999] {
            TODAY.store(day, Ordering::Relaxed);
            file.write_lines(b"3\n").unwrap();
        }
        file.rotated = None;
        TODAY.store(20_000, Ordering::Relaxed);
        file.write_lines(b"4\n").unwrap();
        let kept: String = files(&directory).into_iter().rev().map(|(_, text)| text).collect();
        assert_eq!(kept, "1\n1\n1\n1\n1\n1\n1\n2\n2\n2\n2\n2\n2\n3\n3\n4\n", "no line is lost");
        assert_eq!(files(&directory).len(), 3);
    }

    #[test]
    fn a_daily_file_also_has_a_size_limit() {
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        fs::write(&path, vec![b'x'; SIZE as usize - 4]).unwrap();
        let mut file = LogFile::open(&path, Rotate::Daily, 3).unwrap();
        file.write_lines(b"1\n2\n3\n").unwrap();
        assert_eq!(files(&directory)[0], pair("log", "3\n"));
        let mut file = LogFile::open(&path, Rotate::Never, 3).unwrap();
        file.write_lines(&b"4\n".repeat(SIZE as usize / 2)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE / 2 * 2 + 2);
    }

    #[test]
    fn after_a_failed_rotation_the_error_is_reported_and_logging_goes_on() {
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        // A rename cannot replace a directory that is not empty.
        fs::create_dir_all(directory.path().join("log.1/x")).unwrap();
        fs::create_dir_all(directory.path().join("log.2/x")).unwrap();
        let mut file = LogFile::open(&path, Rotate::Size(4), 2).unwrap();
        file.write_lines(b"1\n2\n3\n4\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\n3\n4\n");
        assert!(file.rotation_failed().is_some());
        assert!(file.rotation_failed().is_none());
    }

    #[test]
    fn only_a_regular_file_can_be_the_log_file() {
        assert!(append(Path::new("/dev/null")).is_err());
        assert!(append(Path::new("/")).is_err());
        assert!(append(Path::new("/missing/log")).is_err());
    }

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
