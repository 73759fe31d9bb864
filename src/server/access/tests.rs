//! What an `Access` decides, against a plain reading of its rules.

use super::checked::{CheckedAccess, MOST_IDS, MOST_PATTERNS, MOST_RULES, Who};
use super::error::AccessError;
use super::rules::{Access, Act, Rule};
use crate::wire::{Name, Pattern, Topic};
use proptest::collection::vec;
use proptest::prelude::*;

const ACTS: [Act; 7] =
    [Act::Register, Act::Serve, Act::Call, Act::Send, Act::Publish, Act::Subscribe, Act::Relay];

fn access(rules: Vec<Rule>) -> Result<CheckedAccess, AccessError> {
    CheckedAccess::new(Access { rules, ..Access::default() })
}

fn rule(acts: &[Act], what: &[&str]) -> Rule {
    let what = what.iter().map(|pattern| (*pattern).to_owned()).collect();
    Rule { acts: acts.to_vec(), what, ..Rule::default() }
}

// ---- a plain reading

/// One of a few short names, which patterns of topics can have as levels, too.
fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["a", "b", "ab", "ba", "c"][..])
}

fn any_pattern() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "ab", "*", "**"][..]).prop_map(str::to_owned)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let ids = || vec(1_u32..4, 0..2);
    let (acts, what) = (vec(prop::sample::select(&ACTS[..]), 1..4), vec(any_pattern(), 1..3));
    (acts, what, ids(), ids(), vec(any_pattern(), 0..2)).prop_map(|(acts, what, users, groups, names)| Rule {
        acts,
        what,
        users,
        groups,
        names,
    })
}

/// Names and topics here have one level of at most two characters, so a pattern of either means the same.
fn fits(pattern: &str, text: &str) -> bool {
    pattern.starts_with('*') || pattern == text
}

fn is_named(rule: &Rule, (name, uid, groups): (&str, u32, &[u32])) -> bool {
    let by_id = rule.users.contains(&uid) || rule.groups.iter().any(|group| groups.contains(group));
    let by_name = rule.names.iter().any(|pattern| fits(pattern, name));
    match (rule.users.is_empty() && rule.groups.is_empty(), rule.names.is_empty()) {
        (true, true) => false,
        (true, false) => by_name,
        (false, true) => by_id,
        (false, false) => by_id && by_name,
    }
}

fn is_allowed(rules: &[Rule], act: Act, object: &str, who: (&str, u32, &[u32])) -> bool {
    let about: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.acts.contains(&act) && rule.what.iter().any(|pattern| fits(pattern, object)))
        .collect();
    about.is_empty() || about.iter().any(|rule| is_named(rule, who))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn decisions_are_those_of_a_plain_reading(
        rules in vec(any_rule(), 0..4),
        act in prop::sample::select(&ACTS[..]),
        object in any_name(),
        name in any_name(),
        uid in 1_u32..4,
        groups in vec(1_u32..4, 1..3),
    ) {
        let access = access(rules.clone()).unwrap();
        let own = Name::new(name).unwrap();
        let who = Who { name: &own, uid, gid: groups[0], groups: &groups[1..] };
        let expected = is_allowed(&rules, act, object, (name, uid, &groups));
        if matches!(act, Act::Publish | Act::Subscribe) {
            let topic = Topic::new(object).unwrap();
            prop_assert_eq!(access.allows_topic(act, &topic, &who), expected);
            prop_assert_eq!(access.may_allow_some(act, &Pattern::from(topic), &who), expected);
        } else {
            let object_name = Name::new(object).unwrap();
            prop_assert_eq!(access.allows_name(act, &object_name, &who), expected);
            // Only where no rule is about it, nothing is decided.
            let is_about = rules.iter().any(|rule| {
                rule.acts.contains(&act) && rule.what.iter().any(|pattern| fits(pattern, object))
            });
            let decided = access.decides_on_name(act, &object_name, &who);
            prop_assert_eq!(decided, is_about.then_some(expected));
        }
        let is_about = rules.iter().any(|rule| rule.acts.contains(&act));
        prop_assert_eq!(access.acts() & act.bit() != 0, is_about);
    }

    /// A subscription is refused only if no topic of it is open.
    #[test]
    fn a_pattern_is_refused_only_if_all_its_topics_are(
        patterns in vec((vec(prop::sample::select(&["a", "b", "*", "**", "@a"][..]), 1..4), any::<bool>()), 1..4),
        wanted in vec(prop::sample::select(&["a", "b", "*", "**", "@a"][..]), 1..4),
        topics in vec(vec(prop::sample::select(&["a", "b", "@a"][..]), 1..4), 1..20),
    ) {
        let rules = patterns.iter().map(|(levels, names_alice)| {
            let mut rule = rule(&[Act::Subscribe], &[&levels.join("/")]);
            rule.names = vec![if *names_alice { "alice" } else { "bob" }.to_owned()];
            rule
        });
        let access = access(rules.collect()).unwrap();
        let name = Name::new("alice").unwrap();
        let who = Who { name: &name, uid: 1, gid: 1, groups: &[] };
        let wanted = Pattern::new(&wanted.join("/")).unwrap();
        if !access.may_allow_some(Act::Subscribe, &wanted, &who) {
            for topic in topics {
                let topic = Topic::new(&topic.join("/")).unwrap();
                prop_assert!(!wanted.matches(&topic) || !access.allows_topic(Act::Subscribe, &topic, &who));
            }
        }
    }
}

// ---- what is refused

#[test]
fn a_rule_that_can_mean_nothing_is_refused() {
    let one_more = || rule(&[Act::Send], &["a"]);
    let found = |rule: Rule| access(vec![one_more(), rule]);
    assert!(matches!(found(rule(&[], &["a"])), Err(AccessError::NoActs { rule: 2 })));
    assert!(matches!(found(rule(&[Act::Call], &[])), Err(AccessError::NoPatterns { rule: 2 })));
    let topic = found(rule(&[Act::Publish], &["a", "b*"]));
    assert!(matches!(topic, Err(AccessError::Topic { rule: 2, pattern, .. }) if pattern == "b*"));
    let name = found(rule(&[Act::Register], &["b*", " a"]));
    assert!(matches!(name, Err(AccessError::Name { rule: 2, pattern, .. }) if pattern == " a"));
    let of_client = Rule { names: vec!["a\n".into()], ..rule(&[Act::Publish], &["a"]) };
    assert!(matches!(found(of_client), Err(AccessError::Name { rule: 2, .. })));
    // What is a pattern for one act of a rule must be one for each of them.
    assert!(found(rule(&[Act::Register, Act::Publish], &["b*"])).is_err());
    assert!(found(rule(&[Act::Register, Act::Publish], &["b", "*", "**"])).is_ok());
    let users = Rule { users: vec![u32::MAX], ..rule(&[Act::Send], &["a"]) };
    assert!(matches!(found(users), Err(AccessError::NobodyAllowed(u32::MAX))));
    let groups = Rule { groups: vec![u32::MAX], ..rule(&[Act::Send], &["a"]) };
    assert!(matches!(found(groups), Err(AccessError::NobodyAllowed(u32::MAX))));
    let text = found(rule(&[Act::Publish], &["b*"])).unwrap_err().to_string();
    assert!(text.starts_with("rule 2: \"b*\" is not a pattern of topics"), "{text}");
}

#[test]
fn rules_patterns_and_ids_are_bounded() {
    let one = || rule(&[Act::Send], &["a"]);
    assert!(access(vec![one(); MOST_RULES]).is_ok());
    assert!(matches!(access(vec![one(); MOST_RULES + 1]), Err(AccessError::TooMany { what: "rules", .. })));
    let patterns = |what, names| {
        let many = |count| vec!["a".to_owned(); count];
        access(vec![Rule { what: many(what), names: many(names), ..one() }])
    };
    assert!(patterns(MOST_PATTERNS - 1, 1).is_ok());
    assert!(matches!(patterns(MOST_PATTERNS, 1), Err(AccessError::TooMany { what: "patterns", .. })));
    let ids = |users, groups, of_rule| {
        let rule = Rule { users: vec![1; of_rule], groups: vec![1; of_rule], ..one() };
        let (users, groups, rules) = (vec![1; users], vec![1; groups], vec![rule]);
        CheckedAccess::new(Access { users, groups, rules, ..Access::default() })
    };
    assert!(ids(MOST_IDS - 3, 1, 1).is_ok());
    assert!(matches!(ids(MOST_IDS - 3, 2, 1), Err(AccessError::TooMany { what: "users and groups", .. })));
    assert!(ids(0, 0, MOST_IDS).is_err());
}
