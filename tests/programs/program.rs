//! Starts servers and listeners, and lists clients, with the programs.

pub use crate::common::program::*;

use crate::common::{Place, eventually};
use ringpost::Client;
use serde_json::Value;
use std::path::Path;

pub fn start_server(place: &Place, more: &[&str]) -> Program {
    let mut arguments = vec!["--socket", text(&place.path)];
    arguments.extend_from_slice(more);
    let server = Program::start(SERVER, &arguments);
    eventually("it serves", || ringpost::Observer::connect(&place.path).is_ok());
    server
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Starts a listener with `--json`, and returns it with its key.
pub fn start_listener(place: &Place, name: &str, more: &[&str]) -> (Program, String) {
    let mut arguments = vec!["listen", "--socket", text(&place.path), "--json", "--as", name];
    arguments.extend_from_slice(more);
    let mut listener = Program::start(CLIENT, &arguments);
    let registered = listener.json_line();
    assert_eq!(registered["registered"]["name"], name);
    let key = registered["registered"]["key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 26);
    (listener, key)
}

/// Starts `ringpost serve`, and waits until it accepts links, by opening one.
pub fn start_serving(place: &Place, name: &str, more: &[&str]) -> Program {
    let serving =
        Program::start(CLIENT, &[&["serve", "--socket", text(&place.path), "--as", name], more].concat());
    eventually("it serves", || {
        Client::register(&place.path, "probe").is_ok_and(|mut probe| probe.connect(name).is_ok())
    });
    serving
}

pub fn ls(place: &Place) -> Value {
    let output = run(CLIENT, &["ls", "--json", "--socket", text(&place.path)]).well();
    assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&output).unwrap()
}

pub fn names(place: &Place) -> Vec<String> {
    let clients = ls(place)["clients"].clone();
    let name = |client: &Value| client["name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = clients.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}
