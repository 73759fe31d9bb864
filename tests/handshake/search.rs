//! The search: visits every state that the model can reach, shortest ways first, and checks the rules in
//! each.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::model::Model;
use super::rules;
use super::state::State;
use super::steps::Steps;

/// What a search found.
pub struct Found {
    pub states: usize,
    pub steps: usize,
    /// States in which nothing more happens by itself.
    pub rests: usize,
    pub broken: Option<Broken>,
}

/// A broken rule, and the shortest way to it.
pub struct Broken {
    pub rule: &'static str,
    pub trace: Vec<String>,
}

/// The states that were seen, numbered in the order in which they were found.
type Numbers = HashMap<State, u32, BuildHasherDefault<Mixer>>;

/// A quick hash for the small numbers that a state is made of.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(20)
    }
}

/// Searches until a rule is broken, or everything was seen. `most` bounds the states, so that a mistake in
/// the model ends.
pub fn search(model: &Model, most: usize) -> Found {
    let mut numbers: Numbers = Numbers::default();
    let mut parents = vec![0];
    // The numbers of all states' successors, one state's behind another's, and where each state's end.
    let (mut successors, mut ends): (Vec<u32>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut queue = VecDeque::new();
    let mut found = Found { states: 0, steps: 0, rests: 0, broken: None };
    let first = model.first();
    numbers.insert(first, 0);
    queue.push_back((first, 0_u32));
    while let Some((state, number)) = queue.pop_front() {
        let steps = Steps::from(model, &state);
        let mut broken = rules::always(model, &state);
        if !steps.goes_on {
            found.rests += 1;
            broken = broken.or_else(|| rules::at_rest(model, &state));
        }
        if let Some(rule) = broken {
            let trace = trace(model, &numbers, &parents, number);
            found.broken = Some(Broken { rule, trace });
            found.states = parents.len();
            return found;
        }
        for (_, next) in steps.list {
            found.steps += 1;
            let fresh = parents.len() as u32;
            let known = *numbers.entry(next).or_insert(fresh);
            if known == fresh {
                assert!(parents.len() < most, "{}: more than {most} states", model.name);
                parents.push(number);
                queue.push_back((next, fresh));
            }
            successors.push(known);
        }
        ends.push(successors.len());
    }
    found.states = parents.len();
    assert!(is_finite(&successors, &ends), "{}: a run never ends", model.name);
    found
}

/// Whether no state can be reached again from itself. Then every run is finite, and one in which each step
/// that must happen does happen ends in a state where the rules for states at rest were checked. That is all
/// that liveness means here; no assumption about fairness is hidden in it.
fn is_finite(successors: &[u32], ends: &[usize]) -> bool {
    let mut arrivals = vec![0_u32; ends.len()];
    successors.iter().for_each(|&state| arrivals[state as usize] += 1);
    let (mut ready, mut left) = (vec![0], ends.len());
    while let Some(state) = ready.pop() {
        left -= 1;
        let start = if state == 0 { 0 } else { ends[state - 1] };
        for &next in &successors[start..ends[state]] {
            let next = next as usize;
            arrivals[next] -= 1;
            if arrivals[next] == 0 {
                ready.push(next);
            }
        }
    }
    left == 0
}

#[test]
fn circles_are_found() {
    // From 0 to 1 and 2, and from 1 to 2.
    assert!(is_finite(&[1, 2, 2], &[2, 3, 3]));
    // And from 2 back to 1.
    assert!(!is_finite(&[1, 2, 2, 1], &[2, 3, 4]));
}

/// The steps from the first state to this one, in words.
fn trace(model: &Model, numbers: &Numbers, parents: &[u32], last: u32) -> Vec<String> {
    let mut way = vec![last];
    while let Some(&number) = way.last().filter(|&&number| number != 0) {
        way.push(parents[number as usize]);
    }
    way.reverse();
    let mut steps = Vec::new();
    let mut state = model.first();
    for number in &way[1..] {
        let mut list = Steps::from(model, &state).list.into_iter();
        let (step, next) = list.find(|(_, next)| numbers.get(next) == Some(number)).expect("a step there");
        steps.push(step.to_string());
        state = next;
    }
    steps
}
