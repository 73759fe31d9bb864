//! The least that waking many takes: a word for each reader, which sleeps on it, and a futex wake for each.

use std::sync::atomic::Ordering;

use ringpost::testing::{futex_wait, futex_wake};

use super::control::Control;
use super::{Kind, Measured, Outcome, Peer, Play, Version, peer, to_the_last};
use crate::context::Context;

pub static FAN: Peer = peer(
    "fan-floor",
    Kind::FanOut,
    "a bare word and a futex wake for each reader",
    Version::None,
    Play::Broadcast { broker: None, reader, client },
);

fn client(context: &Context) -> Outcome<Measured> {
    let control = Control::create(context)?;
    let put = |value: u32| {
        for reader in 0..context.readers {
            control.word(reader).store(value, Ordering::Release);
            futex_wake(control.word(reader), 1);
        }
    };
    let measured = to_the_last(context, &control, |number| {
        put(number as u32);
        Ok(())
    })?;
    put(u32::MAX);
    Ok(measured)
}

fn reader(context: &Context) -> Outcome {
    let control = Control::open(context)?;
    let word = control.word(control.enter());
    let mut last = 0;
    loop {
        let value = word.load(Ordering::Acquire);
        if value == u32::MAX {
            return Ok(());
        }
        if value == last {
            futex_wait(word, last, None);
            continue;
        }
        last = value;
        control.received().fetch_add(1, Ordering::AcqRel);
    }
}
