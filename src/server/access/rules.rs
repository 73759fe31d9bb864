//! `Access`, `Rule` and `Act`: what a program says about who may use its server.

#![forbid(unsafe_code)]

use crate::connect::Quotas;

/// Who may use a server, and for what. A server is started with it
/// ([`ServerBuilder::access`](crate::ServerBuilder::access)), and can get another one while it runs
/// ([`AccessControl::replace`](crate::AccessControl::replace)).
///
/// `users` and `groups` say who may connect, besides the server's own user and root. Without a rule, whoever
/// may connect may do everything. [`Rule`] says how the rules are read.
///
/// There can be 256 rules with 1024 patterns in all, and 4096 users and groups in all.
///
/// # Examples
///
/// Only the client `ticker` publishes prices, and nobody takes its name but user 1000:
///
/// ```
/// use ringpost::{Access, Act, Client, PublishError, Rule, Server};
///
/// # let path = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/path.rs"));
/// let mut prices = Rule::default();
/// prices.acts = vec![Act::Publish];
/// prices.what = vec!["prices/**".into()];
/// prices.names = vec!["ticker".into()];
/// let mut ticker = Rule::default();
/// ticker.acts = vec![Act::Register];
/// ticker.what = vec!["ticker".into()];
/// ticker.users = vec![1000];
/// let mut access = Access::default();
/// access.users = vec![1000];
/// access.rules = vec![prices, ticker];
/// let _server = Server::builder(&path).access(access).start()?;
/// let mut alice = Client::register(&path, "alice")?;
/// assert!(matches!(alice.publish("prices/AAPL"), Err(PublishError::NotAllowed(_))));
/// let _news = alice.publish("news")?; // no rule is about it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Users that may connect, by user id.
    pub users: Vec<u32>,
    /// Groups whose members may connect, by group id.
    pub groups: Vec<u32>,
    /// What each user may have of the server.
    pub quotas: Quotas,
    /// What is open to some clients only.
    pub rules: Vec<Rule>,
}

/// Closes something to all clients but those that it names.
///
/// A client wants to do an *act* to an *object*: publish a topic, for example. The server looks at the rules
/// that list the act in `acts` and whose `what` matches the object. If there is none, the client may do it.
/// If there are some, one of them must name the client.
///
/// A rule names a client that fits both parts of it:
///
/// - its user is in `users`, or one of its groups is in `groups`; or both lists are empty;
/// - its name matches one of `names`; or `names` is empty.
///
/// A rule in which all three lists are empty names nobody. So the rule with `acts` =
/// [`Publish`](Act::Publish) and `what` = `**` closes publishing for all whom no other rule names.
///
/// `what` has patterns. For topics they are [`Pattern`](crate::Pattern)s, in which `**` does not stand for
/// levels that begin with `@`: a rule has to name those. For clients they are names in which `*` stands for
/// any characters, and so are `names`.
///
/// Rules hold for the server's own user and root, too. A name alone says little about who a client is, as
/// long as anybody may register it: name its users as well, or close the name with a rule for
/// [`Register`](Act::Register).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// What the rule is about. At least one act.
    pub acts: Vec<Act>,
    /// Patterns of the names or topics that it is about. At least one.
    pub what: Vec<String>,
    /// Users that it names, by user id.
    pub users: Vec<u32>,
    /// Groups whose members it names, by group id.
    pub groups: Vec<u32>,
    /// Patterns of the names of the clients that it names.
    pub names: Vec<String>,
}

/// What a client does that a [`Rule`] can be about.
///
/// | act | operation | object | error |
/// | --- | --- | --- | --- |
/// | `Register` | [`register`] | the name asked for | [`RegisterError`] |
/// | `Serve` | [`listen`] | the client's own name | [`ServeError`] |
/// | `Call` | [`connect`] | the other client's name | [`ConnectError`] |
/// | `Send` | [`send`] | the receiver's name, also if its key is given | [`SendError`] |
/// | `Publish` | [`publish`] | the topic | [`PublishError`] |
/// | `Subscribe` | [`subscribe`] | each topic that matches the pattern | [`SubscribeError`] |
/// | `Relay` | [`register`](crate::ClientBuilder::relay) as a relay | the name asked for | [`RegisterError`] |
///
/// The operation fails with the variant `NotAllowed` of its error.
///
/// `Relay` is closed without a rule, too: where no rule is about a name, only the server's own user and root
/// may be a relay under it. A relay also needs what rules for `Register` ask.
///
/// A subscription whose pattern is closed in part gets the topics that are open, and does not hear of the
/// others. It is refused only if all of them are certainly closed. Calls of the server's own service are not
/// covered: the service sees who calls, and decides itself.
///
/// [`register`]: crate::Client::register
/// [`listen`]: crate::Client::listen
/// [`connect`]: crate::Client::connect
/// [`send`]: crate::Client::send
/// [`publish`]: crate::Client::publish
/// [`subscribe`]: crate::Client::subscribe
/// [`RegisterError`]: crate::RegisterError
/// [`ServeError`]: crate::ServeError
/// [`ConnectError`]: crate::ConnectError
/// [`SendError`]: crate::SendError
/// [`PublishError`]: crate::PublishError
/// [`SubscribeError`]: crate::SubscribeError
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Act {
    /// To take a name.
    Register,
    /// To serve calls of other clients.
    Serve,
    /// To open a link to a client, in order to call it.
    Call,
    /// To send messages to a client.
    Send,
    /// To publish a topic.
    Publish,
    /// To subscribe to a topic.
    Subscribe,
    /// To be a relay: [`ClientBuilder::relay`](crate::ClientBuilder::relay).
    Relay,
}

impl Act {
    /// Its bit in a set of acts.
    #[inline]
    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether topics are its objects. Those of the others are names.
    pub(super) fn is_on_topics(self) -> bool {
        matches!(self, Act::Publish | Act::Subscribe)
    }

    /// What it is called in the text of a refusal, before its object.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Act::Register => "register as",
            Act::Serve => "serve calls as",
            Act::Call => "call",
            Act::Send => "send messages to",
            Act::Publish => "publish",
            Act::Subscribe => "subscribe to",
            Act::Relay => "be a relay as",
        }
    }
}
