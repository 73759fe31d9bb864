//! The thread that reads the keys of a terminal, and tells the editor what they are.

use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::Event;
use super::complete::{Completion, common};
use super::editor::{Ask, BELL, Screen, State};
use super::keys::{Decoder, Expected, Key};
use super::terminal::{self, Next, Signals};
use super::view::{WHERE, in_columns};
use ringpost::cli::exit::Failure;
use ringpost::cli::out;

/// How long to wait for the rest of a key, and for more of a pasted text.
const KEY: Duration = Duration::from_millis(50);
const PASTE: Duration = Duration::from_secs(2);

/// How long to wait for the terminal's answer where its cursor is.
const ANSWER: Duration = Duration::from_secs(3);

/// The body of the thread.
pub fn read(screen: &Screen, mut signals: Signals, completion: &Completion, events: &SyncSender<Event>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 4096];
    let end = loop {
        let patience = match decoder.expects() {
            Some(Expected::Key) => Some(KEY),
            Some(Expected::Paste) => Some(PASTE),
            None => screen.lock().view.asks().then_some(ANSWER),
        };
        let keys: Vec<Key> = match signals.wait(patience) {
            // An answer that does not come is like one that says nothing.
            Ok(Next::Nothing) => vec![decoder.flush().unwrap_or(Key::Column(usize::MAX))],
            Ok(Next::Input) => match rustix::io::read(io::stdin(), &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::IO) => break Event::EndOfInput,
                Ok(read) => bytes[..read].iter().filter_map(|&byte| decoder.feed(byte)).collect(),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
                Err(error) => break Event::InputFailed(error.to_string()),
            },
            Ok(Next::Resized) => {
                resized(&mut screen.lock());
                continue;
            }
            // Stops are not caught.
            Ok(Next::Continued | Next::Stop) => {
                goes_on(&mut screen.lock());
                continue;
            }
            Err(error) => break Event::InputFailed(error.to_string()),
        };
        for key in keys {
            if screen.lock().closed {
                return;
            }
            let pressed = match key {
                Key::Tab if !screen.lock().typing.is_quoting() => complete(screen, completion),
                key if screen.lock().stops(&key) => {
                    stop(&mut screen.lock(), &mut signals);
                    Ok(None)
                }
                key => screen.lock().press(key),
            };
            let event = match pressed {
                Ok(None) => continue,
                Ok(Some(event)) => event,
                Err(failure) => Event::Output(failure),
            };
            if events.send(event).is_err() {
                return;
            }
        }
    };
    let _ = events.send(end);
}

/// Draws the line for a terminal that has another size.
fn resized(state: &mut State) {
    if state.closed {
        return;
    }
    let _ = match state.view.resized(terminal::size().columns) {
        // Its answer comes like a key.
        true => out::put(WHERE.as_bytes()),
        false => state.draw(),
    };
}

/// Stops as a shell's job. The lock is held, so that nobody prints until the terminal is set again.
fn stop(state: &mut State, signals: &mut Signals) {
    let text = state.typing.shown().line.to_owned();
    let last = state.finish(&text, "^Z");
    let _ = out::put(last.as_bytes());
    state.terminal.leave();
    state.terminal.stop(signals);
    goes_on(state);
}

/// Sets the terminal again after a stop. The shell has written to it meanwhile.
fn goes_on(state: &mut State) {
    if state.closed {
        return;
    }
    let _ = state.terminal.enter();
    state.view.forget();
    let _ = state.draw();
}

/// Completes the word before the cursor. Messages are printed while the server is asked.
fn complete(screen: &Screen, completion: &Completion) -> Result<Option<Event>, Failure> {
    let (before, ask, chosen) = {
        let mut state = screen.lock();
        state.typing.end_search();
        state.draw()?;
        let shown = state.typing.shown();
        (shown.line[..shown.cursor].to_owned(), state.ask, state.chosen)
    };
    let (start, found) =
        if ask == Ask::Line { completion.of(&before, chosen) } else { (before.len(), Vec::new()) };
    let mut state = screen.lock();
    let common = common(&found);
    if common.len() > before.len() - start || found.len() == 1 {
        state.typing.complete(start, &common);
    } else if found.is_empty() {
        return out::put(BELL.as_bytes()).map(|()| None);
    }
    if found.len() > 1 {
        let shown: Vec<String> = found.iter().map(|candidate| candidate.shown.clone()).collect();
        state.above(&in_columns(&shown, terminal::size()))?;
    } else {
        state.draw()?;
    }
    Ok(None)
}
