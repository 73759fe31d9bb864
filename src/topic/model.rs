//! The shipping topic under loom: a writer that laps its readers, in every order.
//!
//! As in the models of `ring`, there are no spin loops, sleeps are untimed, and each model is exhaustive
//! within the bound that it states. Each sample carries its own sequence, so a torn or stale one is seen.
//! The ring has four lines, and each line is a part of its own, except where samples are longer.

use loom::thread;

use super::*;
use crate::ring::layout::{LINE, data_header};
use crate::ring::{Deadline, Kick, OwnPipe, WaitStrategy};
use crate::shm::View;
use crate::shm::backend::{AtomicU32, Ordering, fence};
use crate::shm::futex::{self, Scope};
use crate::wire::{Key, Name, Peer, Policy};
use std::time::Duration;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        // See the models of `ring`.
        fence(Ordering::SeqCst);
        futex::wake(&AtomicU32::new(0), Scope::Private, 0);
        model();
    });
}

struct Stage {
    view: View,
    shape: Shape,
    audience: Audience,
}

impl Stage {
    fn new(lines: usize) -> Stage {
        Stage::with_patience(lines, None)
    }

    fn with_patience(lines: usize, patience: Option<Duration>) -> Stage {
        let shape = Shape::of_lines(lines);
        Stage {
            view: View::overwritten(shape.segment_len()),
            shape,
            audience: Audience::new(patience).unwrap(),
        }
    }

    fn writer(&self) -> Writer {
        Writer::new(self.view.clone(), self.shape, 0, self.audience.clone(), WaitStrategy::Park)
    }

    /// A reader that is not attached.
    fn reader(&self, start: Start, policy: Policy) -> Reader {
        self.pair(start, policy).0
    }

    fn pair(&self, start: Start, policy: Policy) -> (Reader, Newcomer) {
        let page = View::of_len(shape::PAGE);
        let ends = (page.clone(), 0, Kick::default());
        let reader = Reader::new(self.view.clone(), self.shape, ends, 0, start, policy);
        let name = Name::new("bob").unwrap();
        let newcomer = Newcomer {
            id: 1,
            peer: Peer { name, key: Key::from_u128(1), pid: 1, uid: 1, gid: 1 },
            page,
            line: 0,
            may_sleep: true,
            reliable: policy == Policy::Reliable,
            from_beginning: start == Start::Beginning,
            kick: Kick::default(),
            pipe: None,
        };
        (reader, newcomer)
    }

    fn attached(&self, start: Start, policy: Policy) -> Reader {
        let (reader, newcomer) = self.pair(start, policy);
        self.audience.admit(newcomer);
        reader
    }
}

fn send(writer: &mut Writer) {
    let payload = writer.next_sequence().to_le_bytes();
    writer.try_send(&payload).unwrap();
}

/// Takes what is there. Whatever is taken is the sample of its sequence.
fn take(reader: &mut Reader, next: &mut u64) -> Option<u64> {
    let mut sample = Vec::new();
    let taken = reader.try_take(&mut sample).unwrap()?;
    assert_eq!(taken.sequence, *next + taken.missed, "every gap is counted");
    assert_eq!(sample[..8], taken.sequence.to_le_bytes(), "torn or stale");
    *next = taken.sequence + 1;
    Some(taken.sequence)
}

/// Takes until nothing is left.
fn take_all(reader: &mut Reader, next: &mut u64) {
    while take(reader, next).is_some() {}
    assert!(!reader.is_pending() || reader.ended().is_some());
}

fn sleep(reader: &mut Reader) {
    reader.park();
    if !reader.is_pending() {
        futex::wait(&[reader.as_wait()], None);
    }
    reader.unpark();
}

/// The reader stands at any of the samples of the pass before, and the writer goes over it.
#[test]
fn a_lapped_reader_takes_no_torn_or_stale_sample() {
    for read in [1, 2, 3] {
        explore(3, move || {
            let stage = Stage::new(4);
            let mut writer = stage.writer();
            (0..4).for_each(|_| send(&mut writer));
            let (mut reader, mut next) = (stage.reader(Start::Beginning, Policy::Lossy), 0);
            while next < read {
                take(&mut reader, &mut next);
            }
            let writing = thread::spawn(move || {
                (0..2).for_each(|_| send(&mut writer));
                writer
            });
            take(&mut reader, &mut next);
            take(&mut reader, &mut next);
            let writer = writing.join().unwrap();
            take_all(&mut reader, &mut next);
            assert_eq!(next, writer.next_sequence());
        });
    }
}

/// A reader exactly one pass behind sees the zeroed header that the writer put there, and must not take it
/// for the end of what was published.
#[test]
fn a_reader_one_pass_behind_does_not_sleep() {
    explore(2, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        (0..3).for_each(|_| send(&mut writer));
        let (mut reader, mut next) = (stage.attached(Start::Beginning, Policy::Lossy), 0);
        let writing = thread::spawn(move || (0..2).for_each(|_| send(&mut writer)));
        while next < 5 {
            if take(&mut reader, &mut next).is_none() && next < 5 {
                sleep(&mut reader);
            }
        }
        writing.join().unwrap();
    });
}

/// The payload of a long record poses as the header of a sample at the reader's position.
#[test]
fn a_payload_does_not_pose_as_a_header() {
    explore(3, || {
        let stage = Stage::new(8);
        let mut writer = stage.writer();
        (0..8).for_each(|_| send(&mut writer));
        let (mut reader, mut next) = (stage.reader(Start::Beginning, Policy::Lossy), 0);
        while next < 1 {
            take(&mut reader, &mut next);
        }
        next = reader.next_sequence();
        let writing = thread::spawn(move || {
            // It takes the lines of the first two samples; its last 8 bytes lie where the second begins.
            let mut payload = [0; 64];
            payload[..8].copy_from_slice(&writer.next_sequence().to_le_bytes());
            payload[56..].copy_from_slice(&data_header(LINE as u64, 8).to_le_bytes());
            writer.try_send(&payload).unwrap();
        });
        take(&mut reader, &mut next);
        writing.join().unwrap();
        take_all(&mut reader, &mut next);
        assert_eq!(next, 9);
    });
}

/// Whoever comes late begins with the last samples, or behind them, while the writer goes on.
#[test]
fn a_late_reader_begins_with_a_whole_history() {
    for start in [Start::Now, Start::Last(2), Start::Last(9)] {
        explore(2, move || {
            let stage = Stage::new(4);
            let mut writer = stage.writer();
            (0..3).for_each(|_| send(&mut writer));
            let writing = thread::spawn(move || (0..2).for_each(|_| send(&mut writer)));
            let mut reader = stage.reader(start, Policy::Lossy);
            let mut next = reader.next_sequence();
            writing.join().unwrap();
            take_all(&mut reader, &mut next);
            assert_eq!(next, 5);
        });
    }
}

/// The sequence of the first sample is known when that is seen, however late it comes.
#[test]
fn a_reader_knows_the_first_sequence() {
    explore(3, || {
        let stage = Stage::new(4);
        let mut writer =
            Writer::new(stage.view.clone(), stage.shape, 5, stage.audience.clone(), WaitStrategy::Park);
        let (mut reader, mut next) = (stage.reader(Start::Beginning, Policy::Lossy), 5);
        let writing = thread::spawn(move || send(&mut writer));
        take(&mut reader, &mut next);
        writing.join().unwrap();
        take_all(&mut reader, &mut next);
        assert_eq!(next, 6);
    });
}

#[test]
fn a_reader_of_the_latest_skips_and_counts() {
    explore(2, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        (0..2).for_each(|_| send(&mut writer));
        let (mut reader, mut next) = (stage.reader(Start::Beginning, Policy::Latest), 0);
        let writing = thread::spawn(move || (0..3).for_each(|_| send(&mut writer)));
        take(&mut reader, &mut next);
        take(&mut reader, &mut next);
        writing.join().unwrap();
        take_all(&mut reader, &mut next);
        assert_eq!(next, 5);
    });
}

/// A reader that sleeps, or is about to, is woken by each sample.
#[test]
fn each_sample_wakes_a_reader() {
    explore(3, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        let (mut reader, mut next) = (stage.attached(Start::Beginning, Policy::Lossy), 0);
        // The writer lives on, because its end wakes everybody.
        let writing = thread::spawn(move || {
            send(&mut writer);
            writer
        });
        while next < 1 {
            if take(&mut reader, &mut next).is_none() {
                sleep(&mut reader);
            }
        }
        drop(writing.join().unwrap());
    });
}

#[test]
fn the_end_wakes_a_reader() {
    explore(3, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        let (mut reader, mut next) = (stage.attached(Start::Beginning, Policy::Lossy), 0);
        send(&mut writer);
        let ending = thread::spawn(move || drop(writer));
        while reader.ended().is_none() {
            if take(&mut reader, &mut next).is_none() && reader.ended().is_none() {
                sleep(&mut reader);
            }
        }
        assert_eq!(next, 1);
        ending.join().unwrap();
    });
}

/// The writer goes round the whole ring while a reader that has read everything falls asleep: where the
/// reader looks, there are the zeros behind the last sample.
#[test]
fn a_reader_does_not_sleep_over_a_whole_ring() {
    explore(2, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        let (mut reader, mut next) = (stage.attached(Start::Beginning, Policy::Lossy), 0);
        (0..3).for_each(|_| send(&mut writer));
        while next < 3 {
            take(&mut reader, &mut next);
        }
        let writing = thread::spawn(move || {
            (0..4).for_each(|_| send(&mut writer));
            writer
        });
        while next < 7 {
            if take(&mut reader, &mut next).is_none() && next < 7 {
                sleep(&mut reader);
            }
        }
        drop(writing.join().unwrap());
    });
}

/// A reader that waits in an event loop, or is about to, is kicked by each sample.
#[test]
fn each_sample_kicks_an_armed_reader() {
    explore(3, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        let (mut reader, newcomer) = stage.pair(Start::Beginning, Policy::Lossy);
        let (pipe, kick) = crate::shm::backend::pipe(8);
        assert!(newcomer.kick.set(kick));
        stage.audience.admit(newcomer);
        let pipe = std::sync::Arc::new(pipe);
        let mut own = OwnPipe::new(pipe.clone(), Kick::default());
        let writing = thread::spawn(move || {
            send(&mut writer);
            writer
        });
        let mut next = 0;
        while next < 1 {
            if take(&mut reader, &mut next).is_none() && reader.arm(&mut own) {
                pipe.wait();
            }
        }
        drop(writing.join().unwrap());
    });
}

/// A reader is attached while the writer publishes and the reader falls asleep.
#[test]
fn a_reader_that_is_attached_misses_no_wake() {
    explore(2, || {
        let stage = Stage::new(4);
        let mut writer = stage.writer();
        let (mut reader, newcomer) = stage.pair(Start::Beginning, Policy::Lossy);
        let audience = stage.audience.clone();
        let attaching = thread::spawn(move || audience.admit(newcomer));
        let writing = thread::spawn(move || {
            send(&mut writer);
            writer
        });
        let mut next = 0;
        while next < 1 {
            if take(&mut reader, &mut next).is_none() {
                sleep(&mut reader);
            }
        }
        attaching.join().unwrap();
        drop(writing.join().unwrap());
    });
}

/// A reliable reader is attached while the writer publishes: from what was published by then on, it gets all.
#[test]
fn a_reliable_reader_misses_nothing_from_its_attachment_on() {
    explore(2, || {
        let stage = Stage::with_patience(4, Some(Duration::from_secs(3600)));
        let mut writer = stage.writer();
        (0..2).for_each(|_| send(&mut writer));
        let (mut reader, newcomer) = stage.pair(Start::Now, Policy::Reliable);
        let writing = thread::spawn(move || {
            (0..5).for_each(|_| {
                let payload = writer.next_sequence().to_le_bytes();
                let _ = writer.try_send(&payload);
            });
            writer.next_sequence()
        });
        stage.audience.admit(newcomer);
        // Each sample has a line.
        let owed = stage.audience.tail() / LINE as u64;
        let mut next = reader.next_sequence();
        let sent = writing.join().unwrap();
        let mut sample = Vec::new();
        while let Some(taken) = reader.try_take(&mut sample).unwrap() {
            assert_eq!(taken.sequence, next + taken.missed);
            assert_eq!(sample, taken.sequence.to_le_bytes());
            assert!(taken.missed == 0 || taken.sequence <= owed, "missed {taken:?}, of {owed}");
            next = taken.sequence + 1;
        }
        assert_eq!(next, sent);
    });
}

/// A writer that waits for a reliable reader is woken by its cursor, and overwrites nothing before.
#[test]
fn a_writer_sleeps_until_a_reliable_reader_has_read() {
    explore(2, || {
        let stage = Stage::with_patience(4, Some(Duration::from_secs(3600)));
        let mut writer = stage.writer();
        let mut reader = stage.attached(Start::Now, Policy::Reliable);
        (0..3).for_each(|_| send(&mut writer));
        let writing = thread::spawn(move || {
            (3..5_u64).for_each(|number| writer.send(&number.to_le_bytes(), Deadline::NEVER).unwrap());
        });
        let mut sample = Vec::new();
        for sequence in 0..5 {
            let taken = loop {
                match reader.try_take(&mut sample).unwrap() {
                    Some(taken) => break taken,
                    None => sleep(&mut reader),
                }
            };
            assert_eq!((taken, &sample[..]), (Taken { sequence, missed: 0 }, &sequence.to_le_bytes()[..]));
        }
        writing.join().unwrap();
    });
}

/// A reader is given up while it moves on: what it still takes is right, and then it is told.
#[test]
fn an_evicted_reader_takes_nothing_wrong_and_is_told() {
    explore(3, || {
        let stage = Stage::with_patience(4, Some(Duration::ZERO));
        let mut writer = stage.writer();
        let mut reader = stage.attached(Start::Now, Policy::Reliable);
        (0..3).for_each(|_| send(&mut writer));
        let writing = thread::spawn(move || {
            (3..5_u64).for_each(|number| writer.send(&number.to_le_bytes(), Deadline::NEVER).unwrap());
        });
        let (mut sample, mut next) = (Vec::new(), 0);
        for _ in 0..2 {
            match reader.try_take(&mut sample) {
                Ok(Some(taken)) => {
                    assert_eq!(
                        (taken, &sample[..]),
                        (Taken { sequence: next, missed: 0 }, &next.to_le_bytes()[..])
                    );
                    next += 1;
                }
                Ok(None) => {}
                Err(fault) => assert_eq!(fault, Fault::GivenUp(State::Stalled)),
            }
        }
        writing.join().unwrap();
        let told = loop {
            match reader.try_take(&mut sample) {
                Ok(Some(taken)) => {
                    assert_eq!(taken.missed, 0);
                    assert_eq!(sample, taken.sequence.to_le_bytes());
                    next = taken.sequence + 1;
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(told || next == 5);
    });
}

/// A reader that leaves ends the writer's wait for it.
#[test]
fn a_reader_that_leaves_is_not_waited_for() {
    explore(2, || {
        let stage = Stage::with_patience(4, Some(Duration::from_secs(3600)));
        let mut writer = stage.writer();
        let reader = stage.attached(Start::Now, Policy::Reliable);
        (0..3).for_each(|_| send(&mut writer));
        let leaving = thread::spawn(move || reader.leave());
        (3..5_u64).for_each(|number| writer.send(&number.to_le_bytes(), Deadline::NEVER).unwrap());
        leaving.join().unwrap();
    });
}

/// A close from another thread ends the writer's wait.
#[test]
fn a_close_ends_the_wait_for_a_reader() {
    explore(3, || {
        let stage = Stage::with_patience(4, Some(Duration::from_secs(3600)));
        let mut writer = stage.writer();
        let _reader = stage.attached(Start::Now, Policy::Reliable);
        (0..3).for_each(|_| send(&mut writer));
        let audience = stage.audience.clone();
        let closing = thread::spawn(move || audience.close(crate::ring::CloseReason::LOCAL));
        while writer.send(b"x", Deadline::NEVER).is_ok() {}
        closing.join().unwrap();
    });
}
