//! Tests of what is recorded: with a recorder that renders it, which comes with the programs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::durations::{Measured, Others};
use super::each::{MOST, record_clients};
use super::whole::Users;
use crate::connect::{ClientFigures, Fill, UserFigures};
use crate::registry::{ClientInfo, ClientState, Counters};
use crate::wire::{Histogram, Key, Name};

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

/// The values of a recorder by name and labels.
fn values(recorder: &PrometheusRecorder) -> BTreeMap<String, f64> {
    let text = recorder.handle().render();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap()
        })
        .collect()
}

/// A client that has measured so many calls, each of a microsecond, and sent so many bytes.
fn client(number: u128, name: &str, measured: u64, bytes_in: u64) -> ClientFigures {
    let mut counts = vec![0; Histogram::BUCKETS];
    counts[Histogram::bucket(1000)] = measured;
    ClientFigures {
        info: ClientInfo {
            key: Key::from_u128(number),
            name: Name::new(name).unwrap(),
            pid: 1,
            uid: 1,
            gid: 1,
            state: ClientState::Live,
            registered: SystemTime::UNIX_EPOCH,
            counters: Counters { bytes_in, ..Counters::default() },
            serves: false,
            links: 0,
        },
        requests: Fill::default(),
        responses: Fill::default(),
        inbox: Fill::default(),
        waiting_senders: 0,
        cpu: None,
        service: Histogram::of(counts),
        wake: Histogram::default(),
        own_wake: Histogram::default(),
        link_service: Histogram::default(),
        taken: 0,
        missed: 0,
        published: 0,
    }
}

#[test]
fn counts_of_durations_do_not_fall_when_clients_leave() {
    let (recorder, mut measured) = (recorder(), Measured::default());
    let mut record = |clients: &[ClientFigures]| {
        measured.add(clients);
        metrics::with_local_recorder(&recorder, || measured.record());
        let values = values(&recorder);
        let median = values["ringpost_service_seconds{quantile=\"0.5\"}"];
        (values["ringpost_service_duration_seconds_count"], median.is_nan())
    };
    assert_eq!(record(&[]), (0.0, true));
    assert_eq!(record(&[client(1, "alice", 5, 0), client(2, "bob", 10, 0)]), (15.0, false));
    assert_eq!(record(&[client(1, "alice", 7, 0)]), (17.0, false));
    assert_eq!(record(&[client(1, "alice", 7, 0)]), (17.0, true), "nothing was measured since");
    // What a client says may shrink.
    assert_eq!(record(&[client(1, "alice", 3, 0)]), (17.0, true));
    // One that comes anew under its name has measured anew.
    assert_eq!(record(&[client(3, "alice", 4, 0)]), (21.0, false));
    let buckets: Vec<f64> = values(&recorder)
        .into_iter()
        .filter(|(name, _)| name.starts_with("ringpost_service_duration_seconds_bucket"))
        .map(|(_, count)| count)
        .collect();
    assert!(
        buckets.contains(&21.0) && buckets.iter().all(|count| *count == 0.0 || *count == 21.0),
        "{buckets:?}"
    );
}

#[test]
fn users_who_have_nothing_any_more_are_set_to_0() {
    let (recorder, mut users) = (recorder(), Users::default());
    let mut record = |of: &[(u32, u32)]| {
        let of: Vec<UserFigures> = of
            .iter()
            .map(|(uid, links)| UserFigures { uid: *uid, links: *links, ..UserFigures::default() })
            .collect();
        metrics::with_local_recorder(&recorder, || users.record(&of));
        let values = values(&recorder);
        [7, 8].map(|uid| values.get(&format!("ringpost_user_links{{uid=\"{uid}\"}}")).copied())
    };
    assert_eq!(record(&[(7, 3), (8, 0)]), [Some(3.0), None]);
    assert_eq!(record(&[(8, 2)]), [Some(0.0), Some(2.0)]);
    let many: Vec<(u32, u32)> = (0..2000).map(|uid| (uid, 1)).collect();
    record(&many);
    let links = values(&recorder).into_keys().filter(|name| name.starts_with("ringpost_user_links{")).count();
    assert_eq!(links, MOST);
}

#[test]
fn of_many_clients_those_are_recorded_that_did_the_most() {
    let clients: Vec<ClientFigures> =
        (0..MOST as u64 + 20).map(|number| client(number.into(), &format!("c{number}"), 0, number)).collect();
    let recorder = recorder();
    metrics::with_local_recorder(&recorder, || record_clients(clients, &mut Others::default()));
    let values = values(&recorder);
    let calls = values.keys().filter(|name| name.starts_with("ringpost_client_calls_total{"));
    assert_eq!(calls.count(), MOST);
    assert_eq!(values["ringpost_left_out{what=\"clients\"}"], 20.0);
    let of =
        |name: &str| values.get(&format!("ringpost_client_in_bytes_total{{client=\"{name}\"}}")).copied();
    assert_eq!((of("c1019"), of("c20"), of("c19")), (Some(1019.0), Some(20.0), None));
}

/// Names come from strangers. Whatever they contain, each line has a name, labels between quotes, and a
/// number.
#[test]
fn names_cannot_forge_lines() {
    let names = ["a\"} 1", "back\\slash", "ends\\", "\\\"", "\\n", "{}", "a b=\"c\"", "\u{e9}\u{1f600}"];
    let clients = names.iter().zip(1..).map(|(name, key)| client(key, name, 1, 0)).collect();
    let recorder = recorder();
    metrics::with_local_recorder(&recorder, || record_clients(clients, &mut Others::default()));
    let text = recorder.handle().render();
    for line in text.lines().filter(|line| line.starts_with("ringpost_client_calls_total{")) {
        let value = line.strip_prefix("ringpost_client_calls_total{client=\"").unwrap();
        let value = value.strip_suffix("\"} 0").unwrap_or_else(|| panic!("{line}"));
        // No quote in it ends the value.
        let mut escaped = false;
        for character in value.chars() {
            assert!(character != '"' || escaped, "{line}");
            escaped = character == '\\' && !escaped;
        }
        assert!(!escaped, "the last quote is none: {line}");
    }
}
