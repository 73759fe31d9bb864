//! `ringpost top`: shows who does how much on the bus, how full it is and how long things take, live.

mod bus;
mod detail;
mod draw;
mod help;
mod looks;
mod plain;
mod screen;
mod state;
mod table;

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use ringpost::Observer;
use ringpost::cli::exit::{Failure, Outcome, note};
use ringpost::cli::out;
use ringpost::cli::signals::Interrupt;
use serde::Serialize;

use crate::cli::TopOptions;
use crate::client::terminal::Terminal;
use crate::end::{self, End};
use crate::patience::patiently;
use crate::session;
use looks::Found;
use state::State;
pub use table::Sort;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(socket: &Path, options: &TopOptions) -> Outcome {
    // Until then signals end it at once, because there is nothing to be left in order.
    let observer = patiently(socket, &options.wait, None, None, |left| {
        let observer = Observer::connect_timeout(socket, left.min(PATIENCE))?;
        observer.server().map(|_| observer)
    })?;
    let state = State {
        sort: options.sort,
        reverse: options.reverse,
        filter: options.filter.clone().unwrap_or_default(),
        ..State::default()
    };
    if !options.once && !options.json {
        let cannot = |error| Failure::failed(format!("cannot use the terminal: {error}; try --once"));
        if let Some(terminal) = Terminal::open().map_err(cannot)? {
            return screen::run(terminal, observer, options.interval, state);
        }
    }
    print(observer, options, state)
}

/// Prints each look but the first, which has no rates.
fn print(observer: Observer, options: &TopOptions, mut state: State) -> Outcome {
    let interrupt = Interrupt::install()?;
    let (events, arrived) = mpsc::channel();
    let on_signal = events.clone();
    end::watch_output(events.clone())?;
    interrupt.then(move || drop(on_signal.send(End::Signal)));
    let (once, json, interval) = (options.once, options.json, options.interval);
    session::spawn("looks", move || {
        let mut printed = 0;
        let mut waits = false;
        looks::watch(&observer, interval, |found| {
            let done = match found {
                Found::Bus(bus) if bus.interval_seconds.is_none() => {
                    waits = false;
                    Ok(())
                }
                Found::Bus(bus) => {
                    printed += 1;
                    state.look(*bus);
                    print_look(&state, json, printed > 1)
                }
                Found::Gone(why) if once => {
                    let _ = events.send(End::Gone(why));
                    return false;
                }
                // Said once.
                Found::Gone(_) if std::mem::replace(&mut waits, true) => Ok(()),
                Found::Gone(why) if json => out::json(&Waiting { waiting: &why }),
                Found::Gone(why) => {
                    note(format_args!("ringpost: {why}"));
                    Ok(())
                }
            };
            let end = match done {
                Ok(()) if once && printed > 0 => End::Enough,
                Ok(()) => return true,
                Err(failure) => End::Output(failure),
            };
            let _ = events.send(end);
            false
        });
    })?;
    let end = end::wait(&arrived, None);
    end::judge(end, 0, once.then_some(1), "looks", interrupt.caught())
}

fn print_look(state: &State, json: bool, again: bool) -> Outcome {
    if json {
        let mut bus = state.bus.clone();
        bus.keep(&state.filter);
        return out::json(&bus);
    }
    let mut text = if again { "\n".to_owned() } else { String::new() };
    text.push_str(&plain::text(state, out::terminal_width()));
    out::put(text.as_bytes())
}

/// What `--json` prints while there is no server.
#[derive(Serialize)]
struct Waiting<'a> {
    waiting: &'a str,
}
