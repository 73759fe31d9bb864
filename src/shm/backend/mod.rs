//! Chooses what shared memory, atomics, sleeping, the clock and random numbers are made of.
//!
//! The code above imports these from here and is the same in every build. `mapped` is what ships. `loom`
//! replaces atomics, memory and sleeping by modelled ones, so that the models explore the shipping ring.
//! `fuzz` replaces what would need a second thread or a system call, so that a fuzz target plays the peer on
//! its own thread. Each of the two takes from `mapped` whatever it does not replace.

#[cfg(fuzzing)]
pub(crate) mod fuzz;
#[cfg(loom)]
mod loom;
mod mapped;

#[cfg(fuzzing)]
pub(crate) use self::fuzz::*;
#[cfg(loom)]
pub(crate) use self::loom::*;
#[cfg(not(any(fuzzing, loom)))]
pub(crate) use self::mapped::*;
