//! A policy decision against Cedar's own `is_authorized` on prepared input: 50 policies, a principal in 50 groups.
//! Prints median and p99 of both and their ratio; fails if a decision's p99 is more than twice Cedar's.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at what it cannot do")]
#![allow(clippy::disallowed_methods, reason = "a bench measures with the machine's clock")]

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    hint::black_box,
    str::FromStr,
    time::Instant,
};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityUid, PolicySet as CedarSet, Request, RestrictedExpression as E,
};
use tidegate::{
    domain::{
        decision::{Inputs, Verdict},
        id::IdentityId,
        identity::{Identity, IdentityKind, Subject},
        time::{Timestamp, Ttl},
    },
    policy::{Files, NamedTargets, PolicySet},
};

const GROUPS: usize = 50;
const POLICIES: usize = 50;
const BLOCKS: usize = 20;
const ROUNDS: usize = 1_000;
const CATALOG: &str = r#"
[[entitlement]]
id = "db:read"
target = "db"
title = "Read"
default_ttl = "30m"
max_ttl = "4h"
sensitivity = 1
approvers = ["owners"]
"#;

/// Half of the policies are about `Request`, most of the rest about `AutoApprove`.
fn policies() -> String {
    let mut text = String::new();
    for n in 0..POLICIES {
        let action = match n % 5 {
            0 | 2 => "Request",
            1 | 3 => "AutoApprove",
            _ => "Mint",
        };
        let group = format!("Tidegate::Group::\"g{}\"", if n % 2 == 0 { n } else { n + 1_000 });
        let _ = write!(
            text,
            "@id(\"p{n}\") @reason(\"r\")\npermit (principal in {group}, action == Tidegate::Action::\"{action}\", resource)\n\
             when {{ principal.active && resource.sensitivity <= 2 && context.ttl <= resource.max_ttl }};\n"
        );
    }
    text
}

fn main() {
    let cedar = policies();
    let set = PolicySet::build(
        Files::from_texts([
            ("catalog.toml", CATALOG),
            ("schema.cedarschema", include_str!("../policies/schema.cedarschema")),
            ("a.cedar", &cedar),
        ]),
        &NamedTargets::default().with("db", "postgres", true),
    )
    .unwrap();
    let id = IdentityId::from_str("idn_00000000000000000000000001").unwrap();
    let identity = Identity::new(id, IdentityKind::Person, "ana");
    let subject = Subject { identity, groups: (0..GROUPS).map(|n| format!("g{n}")).collect() };
    let now = Timestamp::from_seconds(1_767_787_200);
    let ttl = Ttl::seconds_or_one(1_800);
    let inputs = Inputs {
        ttl,
        now,
        start_at: now,
        has_reason: true,
        ticket: None,
        emergency: false,
        on_behalf: false,
        live_grants: 0,
    };
    let entitlement = set.catalog().get("db:read").unwrap();
    assert_eq!(set.decide(&subject, entitlement, &inputs).verdict, Verdict::Auto);

    let (plain, request, entities) = prepared(&cedar, &subject);
    let authorizer = Authorizer::new();
    assert_eq!(authorizer.is_authorized(&request, &plain, &entities).decision(), cedar_policy::Decision::Allow);

    let mut blocks = Vec::with_capacity(BLOCKS);
    for block in 0..=BLOCKS {
        let (mut own, mut ours) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
        for _ in 0..ROUNDS {
            // Taken in turns, so that a busy machine slows both.
            let start = Instant::now();
            black_box(authorizer.is_authorized(black_box(&request), &plain, &entities));
            let middle = Instant::now();
            black_box(set.decide(black_box(&subject), entitlement, &inputs));
            let end = Instant::now();
            own.push((middle - start).as_secs_f64());
            ours.push((end - middle).as_secs_f64());
        }
        // The first block warms up.
        if block > 0 {
            blocks.push([at(&mut own, 50), at(&mut own, 99), at(&mut ours, 50), at(&mut ours, 99)]);
        }
    }
    // The median over blocks: what another process did in one of them is not ours.
    let over = |f: fn(&[f64; 4]) -> f64| at(&mut blocks.iter().map(f).collect::<Vec<_>>(), 50);
    let micros = |f: fn(&[f64; 4]) -> f64| over(f) * 1e6;
    println!("Cedar is_authorized  median {:8.1} us  p99 {:8.1} us", micros(|b| b[0]), micros(|b| b[1]));
    println!("policy decision      median {:8.1} us  p99 {:8.1} us", micros(|b| b[2]), micros(|b| b[3]));
    let ratio = over(|b| b[3] / b[1]);
    println!("ratio                median {:8.2}     p99 {ratio:8.2}", over(|b| b[2] / b[0]));
    assert!(ratio <= 2.0, "a decision costs more than twice Cedar's own");
}

/// The value that `percent` of the others are below.
fn at(values: &mut [f64], percent: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

fn prepared(cedar: &str, subject: &Subject) -> (CedarSet, Request, Entities) {
    let uid = |text: &str| EntityUid::from_str(text).unwrap();
    let (ana, entitlement, target) = (
        uid(&format!("Tidegate::Identity::\"{}\"", subject.identity.id)),
        uid("Tidegate::Entitlement::\"db:read\""),
        uid("Tidegate::Target::\"db\""),
    );
    let groups: HashSet<EntityUid> = subject.groups.iter().map(|g| uid(&format!("Tidegate::Group::\"{g}\""))).collect();
    let entities = Entities::from_entities(
        [
            Entity::new(ana.clone(), HashMap::from([("active".to_owned(), E::new_bool(true))]), groups).unwrap(),
            Entity::new(
                entitlement.clone(),
                HashMap::from([
                    ("sensitivity".to_owned(), E::new_long(1)),
                    ("max_ttl".to_owned(), E::new_long(14_400)),
                ]),
                HashSet::from([target.clone()]),
            )
            .unwrap(),
            Entity::with_uid(target),
        ],
        None,
    )
    .unwrap();
    let context = Context::from_pairs([("ttl".to_owned(), E::new_long(1_800))]).unwrap();
    let request = Request::new(ana, uid("Tidegate::Action::\"Request\""), entitlement, context, None).unwrap();
    (CedarSet::from_str(cedar).unwrap(), request, entities)
}
