//! Parses a quota, `NAME=VALUE`.

use ringpost::Quotas;

use ringpost::cli::args::bytes;

/// A quota from the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    Asking(u32),
    Clients(u32),
    RingBytes(u64),
    Spinning(u32),
    Registrations(u32),
    Links(u32),
    Topics(u32),
    Subscriptions(u32),
}

impl Quota {
    pub fn set(self, quotas: &mut Quotas) {
        match self {
            Quota::Asking(number) => quotas.asking = number,
            Quota::Clients(number) => quotas.clients = number,
            Quota::RingBytes(number) => quotas.ring_bytes = number,
            Quota::Spinning(number) => quotas.spinning = number,
            Quota::Registrations(number) => quotas.registrations = number,
            Quota::Links(number) => quotas.links = number,
            Quota::Topics(number) => quotas.topics = number,
            Quota::Subscriptions(number) => quotas.subscriptions = number,
        }
    }
}

/// The names of all quotas.
pub const NAMES: [&str; 8] =
    ["asking", "clients", "ring-bytes", "spinning", "registrations", "links", "topics", "subscriptions"];

pub fn quota(text: &str) -> Result<Quota, String> {
    const VALID: &str = "use asking=N, clients=N, ring-bytes=BYTES, spinning=N, registrations=N, links=N, topics=N or \
                         subscriptions=N";
    let (name, value) = text.split_once('=').ok_or_else(|| format!("the value is missing: {VALID}"))?;
    let number = || value.parse::<u32>().map_err(|_| format!("{value:?} is not a number: {VALID}"));
    match name {
        "asking" => number().map(Quota::Asking),
        "clients" => number().map(Quota::Clients),
        "ring-bytes" => Ok(Quota::RingBytes(bytes(value)? as u64)),
        "spinning" => number().map(Quota::Spinning),
        "registrations" => number().map(Quota::Registrations),
        "links" => number().map(Quota::Links),
        "topics" => number().map(Quota::Topics),
        "subscriptions" => number().map(Quota::Subscriptions),
        _ => Err(format!("there is no quota {name:?}: {VALID}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quota_is_set_by_its_name() {
        let mut quotas = Quotas::default();
        let texts = [
            "asking=1",
            "clients=2",
            "ring-bytes=3M",
            "spinning=0",
            "registrations=5",
            "links=6",
            "topics=7",
            "subscriptions=8",
        ];
        assert_eq!(texts.map(|text| text.split('=').next().unwrap()), NAMES);
        for text in texts {
            quota(text).unwrap().set(&mut quotas);
        }
        let Quotas {
            asking, clients, ring_bytes, spinning, registrations, links, topics, subscriptions, ..
        } = quotas;
        assert_eq!((asking, clients, ring_bytes, spinning, registrations), (1, 2, 3 << 20, 0, 5));
        assert_eq!((links, topics, subscriptions), (6, 7, 8));
    }

    #[test]
    fn an_invalid_quota_is_refused_with_the_valid_ones() {
        for wrong in ["", "clients", "clients=", "clients=-1", "clients=x", "names=3", "=3", "Clients=3"] {
            let why = quota(wrong).unwrap_err();
            assert!(why.contains("clients=N") && why.contains("ring-bytes=BYTES"), "{wrong:?}: {why}");
        }
        assert!(quota("ring-bytes=x").is_err());
    }
}
