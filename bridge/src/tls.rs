//! Who may say what on a connection: Zenoh's configuration, made of the settings.
//!
//! With certificates, the node at the other end is the common name (CN) of the subject of its certificate,
//! which our authority has signed: Zenoh takes no other name from a certificate. So a node's name is the CN
//! and not one of the alternative names, which say at which address a node is; that is not looked at. A
//! connection to whom does not matter, because what may be said on it follows from who is there. Zenoh's
//! access control has one rule set for each allowed node, and denies the rest: what comes from the node `b`
//! must have `b` at the sender's place of its key, and `b` is told nothing that is meant for others. A node
//! that is not allowed, or has no certificate of the authority, gets nothing. Without certificates the same
//! rules hold for the allowed nodes together, on each connection: they keep order, but prove nothing.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use x509_parser::pem::Pem;

use crate::cli::{Settings, Tls};
use crate::node::LEASE;
use crate::topics;
use crate::wire::{NodeName, OVERHEAD, PREFIX, link_key};

/// The largest block that crosses.
pub const MOST_PAYLOAD: usize = 16 << 20;

/// The configuration of the session.
pub fn configuration(settings: &Settings) -> Result<zenoh::Config, String> {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: Value| {
        config.insert_json5(key, &value.to_string()).map_err(|error| format!("Zenoh's {key}: {error}"))
    };
    set("mode", json!("peer"))?;
    set("listen/endpoints", json!(settings.listen))?;
    set("connect/endpoints", json!(settings.connect))?;
    set("connect/timeout_ms", json!(-1))?;
    set("connect/exit_on_failure", json!(false))?;
    set("connect/retry", json!({"period_init_ms": 250, "period_max_ms": 2000, "period_increase_factor": 2}))?;
    set("scouting/multicast/enabled", json!(settings.scout))?;
    // Nodes connect to whom they were told to, not to whom another node tells them to.
    set("scouting/gossip/enabled", json!(false))?;
    set("open/return_conditions", json!({"connect_scouted": false, "declares": false}))?;
    // A node that is silent for so long is gone.
    set("transport/link/tx/lease", json!(LEASE.as_millis() as u64))?;
    set("transport/link/rx/max_message_size", json!(MOST_PAYLOAD + 2 * OVERHEAD))?;
    let patience = topics::PATIENCE.as_micros() as u64;
    set("transport/link/tx/queue/congestion_control/drop/wait_before_drop", json!(patience))?;
    set("transport/unicast/max_sessions", json!(settings.allow.len() + 16))?;
    if let Some(tls) = &settings.tls {
        check(tls, &settings.node)?;
        let (certificate, key) = (text(&tls.certificate)?, text(&tls.key)?);
        set(
            "transport/link/tls",
            json!({
                "root_ca_certificate": text(&tls.ca)?,
                "enable_mtls": true,
                "listen_certificate": certificate,
                "listen_private_key": key,
                "connect_certificate": certificate,
                "connect_private_key": key,
                "verify_name_on_connect": false,
                "close_link_on_expiration": true,
            }),
        )?;
    }
    set("access_control", access(settings))?;
    Ok(config)
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{}: the path is not UTF-8", path.display()))
}

/// Fails early and clearly for what Zenoh would say late, or the other nodes never.
fn check(tls: &Tls, node: &NodeName) -> Result<(), String> {
    for path in [&tls.ca, &tls.key] {
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    }
    let shown = tls.certificate.display();
    let bytes = fs::read(&tls.certificate).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let pem = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok);
    let pem = pem.ok_or_else(|| format!("{shown} is no certificate in PEM"))?;
    let certificate = pem.parse_x509().map_err(|error| format!("{shown} is no certificate: {error}"))?;
    let mut names = certificate.subject().iter_common_name().map(|name| name.as_str().unwrap_or_default());
    match (names.next(), names.next()) {
        (Some(name), None) if name == node.as_str() => Ok(()),
        (Some(name), None) => Err(format!("{shown} is for the node {name:?}, and this is {node}")),
        _ => Err(format!("{shown} must have one common name: the name of the node")),
    }
}

/// The rules: for each node what it may say to us, and what we say to it.
fn access(settings: &Settings) -> Value {
    let own = &settings.node;
    let (mut rules, mut subjects, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    // Zenoh does not know who is at the other end: one subject stands for all.
    let anonymous = settings.tls.is_none();
    if anonymous {
        subjects.push(json!({"id": "anybody"}));
    }
    let mut policy = |node: &NodeName, of_node: Vec<Value>| {
        let subject = match anonymous {
            true => "anybody".to_owned(),
            false => {
                let id = format!("node {node}");
                subjects.push(json!({"id": id, "cert_common_names": [node.as_str()]}));
                id
            }
        };
        let ids: Vec<Value> = of_node.iter().map(|rule| rule["id"].clone()).collect();
        policies.push(json!({"rules": ids, "subjects": [subject]}));
        rules.extend(of_node);
    };
    for node in &settings.allow {
        let rules = [("ingress", node, own), ("egress", own, node)].map(|(flow, from, to)| {
            let rule = |what: &str, messages: Value, key: String| {
                let id = format!("{flow} {what} {node}");
                let flows = [flow];
                json!({"id": id, "permission": "allow", "flows": flows, "messages": messages, "key_exprs": [key]})
            };
            [
                rule(
                    "says",
                    json!(["liveliness_token", "put", "reply", "declare_queryable"]),
                    format!("{PREFIX}/{from}/**"),
                ),
                rule("asks", json!(["query"]), format!("{PREFIX}/{to}/from/{from}/*")),
                rule("calls", json!(["put"]), link_key(to, from)),
                rule("is called", json!(["declare_subscriber"]), link_key(from, to)),
                rule(
                    "listens",
                    json!(["declare_subscriber", "declare_liveliness_subscriber", "liveliness_query"]),
                    format!("{PREFIX}/{to}/**"),
                ),
            ]
        });
        policy(node, rules.concat());
    }
    // Another bridge with our name may tell us so, and we it; nothing else.
    let messages = ["liveliness_token", "declare_liveliness_subscriber", "liveliness_query"];
    let key = format!("{PREFIX}/{own}/*/node");
    let flows = ["ingress", "egress"];
    let rule = json!({"id": "same", "permission": "allow", "flows": flows, "messages": messages, "key_exprs": [key]});
    policy(own, vec![rule]);
    json!({
        "enabled": true,
        "default_permission": "deny",
        "rules": rules,
        "subjects": subjects,
        "policies": policies,
    })
}
