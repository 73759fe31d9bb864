//! A log file, which is rotated, and opened anew when somebody else has renamed or removed it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use super::options::{Rotate, SIZE};
use super::stream::{Lost, Sink, Stream, Trouble, count};

/// The least time between two daily rotations, in case the clock is set back and forth.
const HOUR: Duration = Duration::from_secs(3600);

/// How long to wait after a failed attempt to open the file anew.
const RETRY: Duration = Duration::from_secs(10);

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
    /// When opening the file anew failed last.
    not_reopened: Option<Instant>,
    trouble: Option<Trouble>,
}

impl LogFile {
    pub fn open(path: &Path, rotate: Rotate, keep: u32) -> io::Result<LogFile> {
        LogFile::open_on(path, rotate, keep, || days(SystemTime::now()))
    }

    fn open_on(path: &Path, rotate: Rotate, keep: u32, today: fn() -> u64) -> io::Result<LogFile> {
        let file = append(path)?;
        Ok(LogFile {
            path: path.to_owned(),
            day: day_of(&file, today)?,
            to: Stream::new(file),
            rotate,
            keep,
            due_at: size_of(rotate),
            today,
            rotated: None,
            not_reopened: None,
            trouble: None,
        })
    }

    /// Opens the file anew if another one is at its path by now, or none: it was renamed or removed. If that
    /// fails, lines go to the old file for a while.
    fn follow(&mut self) {
        let was_moved = match (fs::metadata(&self.path), self.to.to.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            (Err(error), _) => error.kind() == ErrorKind::NotFound,
            _ => false,
        };
        let may_try = self.not_reopened.is_none_or(|then| then.elapsed() >= RETRY);
        if was_moved
            && may_try
            && let Err(error) = self.reopen()
        {
            self.not_reopened = Some(Instant::now());
            self.trouble = Some(Trouble::Reopening(error));
        }
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
                self.trouble = Some(Trouble::Rotation(error));
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
        self.follow();
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

    fn reopen(&mut self) -> io::Result<bool> {
        let file = append(&self.path)?;
        self.day = day_of(&file, self.today)?;
        self.to = Stream::new(file);
        self.due_at = size_of(self.rotate);
        self.not_reopened = None;
        Ok(true)
    }

    fn trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
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

/// The day on which a file was last written; for an empty one today.
fn day_of(file: &File, today: fn() -> u64) -> io::Result<u64> {
    let metadata = file.metadata()?;
    Ok(if metadata.len() == 0 { today() } else { metadata.modified().map_or_else(|_| today(), days) })
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
        assert!(matches!(file.trouble(), Some(Trouble::Rotation(_))));
        assert!(file.trouble().is_none());
    }

    #[test]
    fn a_file_that_was_renamed_or_removed_is_opened_anew() {
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        let mut file = LogFile::open(&path, Rotate::Never, 1).unwrap();
        file.write_lines(b"1\n").unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        file.write_lines(b"2\n").unwrap();
        assert_eq!(files(&directory), [pair("log", "2\n"), pair("moved", "1\n")]);
        fs::remove_file(&path).unwrap();
        file.write_lines(b"3\n").unwrap();
        // Somebody has put another file there.
        fs::write(directory.path().join("other"), "0\n").unwrap();
        fs::rename(directory.path().join("other"), &path).unwrap();
        file.write_lines(b"4\n").unwrap();
        assert_eq!(files(&directory), [pair("log", "0\n4\n"), pair("moved", "1\n")]);
        assert!(file.trouble().is_none());
    }

    #[test]
    fn what_cannot_be_opened_anew_is_reported_once_and_tried_again_later() {
        let directory = TempDir::new("log").unwrap();
        let path = directory.path().join("log");
        let moved = directory.path().join("moved");
        let mut file = LogFile::open(&path, Rotate::Never, 1).unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::create_dir(&path).unwrap();
        for line in [b"1\n", b"2\n"] {
            file.write_lines(line).unwrap();
        }
        assert!(matches!(file.trouble(), Some(Trouble::Reopening(_))));
        file.write_lines(b"3\n").unwrap();
        assert!(file.trouble().is_none(), "it was tried again at once");
        assert!(file.reopen().is_err(), "on request it is tried at any time");
        assert_eq!(fs::read(&moved).unwrap(), b"1\n2\n3\n", "the old file takes the lines");
        fs::remove_dir(&path).unwrap();
        file.not_reopened = Some(Instant::now() - RETRY);
        file.write_lines(b"4\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"4\n");
    }

    #[test]
    fn only_a_regular_file_can_be_the_log_file() {
        assert!(append(Path::new("/dev/null")).is_err());
        assert!(append(Path::new("/")).is_err());
        assert!(append(Path::new("/missing/log")).is_err());
    }
}
