//! Changes as rows: what a verb wants to write, handed to the writer, which writes many of them in few statements.
//!
//! A row with a condition (a fence, a kill switch, a key) is answered by the statement that writes it. A change whose
//! condition does not hold leaves nothing behind and is told [`StoreError::Conflict`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use sqlx::{AnyConnection, any::AnyRow};

use super::{
    StoreError,
    identities::Recheck,
    joiners::{self, Joiner},
    locks::lock_falls_on,
    row::{Reader, to_json},
    rows::{Bound, RowsSql},
    slack::SlackWish,
};
use crate::{
    domain::{
        audit::Event,
        grant::{Grant, GrantState, Recipe},
        id::{GrantId, IdentityId, RequestId},
        request::{Request, RequestState},
        time::Timestamp,
    },
    ports::notifier::Message,
};

/// What a change writes. All of it or nothing.
#[derive(Debug, Default)]
pub struct Change {
    /// A repeat of the same call finds what this one made.
    pub key: Option<IdempotencyKey>,
    /// A new request, and whom it is put before.
    pub request: Option<Request>,
    /// Somebody new whom nobody here could be.
    pub joiner: Option<Joiner>,
    /// Requests that whoever asks may have pending, with this one.
    pub most_pending: Option<u32>,
    /// For whom and by whom it was decided, on facts of a moment ago.
    pub decided_on: Vec<DecidedOn>,
    /// New grants. A kill switch on any part of one refuses it.
    pub grants: Vec<NewGrant>,
    /// `activating → active`, unless an end was asked for or a kill switch fell meanwhile.
    pub opened: Option<Opened>,
    /// A claim of an active grant, with its event, which gets the serial.
    pub claim: Option<(NewClaim, Event)>,
    /// `revoking → ended | failed`: verified absent, with evidence.
    pub ended: Option<Ended>,
    /// A temporary membership that goes; none there is done.
    pub left: Option<Left>,
    /// Messages that Slack is to show, made or shown anew.
    pub slack: Vec<SlackWish>,
    /// For the outbox: which notifier, and what it delivers.
    pub messages: Vec<(String, Message)>,
    /// One for each state change; they get their places in the log at commit.
    pub events: Vec<Event>,
}

/// A grant to be kept.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// As it begins.
    pub grant: Grant,
    /// Who asked for it.
    pub requester: IdentityId,
    /// Grants that its holder may have, with this one.
    pub most: Option<u32>,
}

/// A key that a caller gave to a request.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// The caller.
    pub identity: IdentityId,
    /// In the caller's words.
    pub key: String,
    /// Hash of what was asked.
    pub body_hash: Vec<u8>,
    /// What it made.
    pub request: RequestId,
    /// When.
    pub at: Timestamp,
}

/// The facts that a decision rests on. If they changed meanwhile, what came of it is decided again.
#[derive(Debug, Clone, Copy)]
pub struct DecidedOn {
    /// Whose.
    pub identity: IdentityId,
    /// As they were read.
    pub version: i64,
    /// The call that decided.
    pub recheck: Recheck,
}

/// The target has opened a grant.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Which one.
    pub grant: GrantId,
    /// Fencing token.
    pub epoch: i64,
    /// What the target reported.
    pub applied: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

/// A credential is about to be minted.
#[derive(Debug, Clone)]
pub struct NewClaim {
    /// For which grant.
    pub grant: GrantId,
    /// Count within the grant, from 1; the former one must have been the last.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// When the credential stops working.
    pub expires_at: Timestamp,
}

/// A grant was verified absent.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Which one.
    pub grant: GrantId,
    /// Fencing token.
    pub epoch: i64,
    /// `ended` or `failed`.
    pub state: GrantState,
    /// What the target answered.
    pub evidence: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

/// A temporary membership that goes.
#[derive(Debug, Clone)]
pub struct Left {
    /// Name of the group.
    pub group: String,
    /// Who.
    pub identity: IdentityId,
    /// By which grant.
    pub grant: GrantId,
}

/// What the ledger answers to a change that was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Of a claim.
    pub serial: Option<u64>,
}

impl Change {
    /// Leave an audit event; it gets its place in the log at commit.
    pub fn audit(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Put a message into the outbox of a notifier.
    pub fn message(&mut self, notifier: &str, message: Message) {
        self.messages.push((notifier.to_owned(), message));
    }

    /// Events and messages of another one, after the own.
    pub(super) fn take_over(&mut self, other: Self) {
        self.slack.extend(other.slack);
        self.messages.extend(other.messages);
        self.events.extend(other.events);
    }

    /// What no two changes of one commit may both write under a condition: a statement must see each row once.
    pub(super) fn conditional_rows(&self) -> impl Iterator<Item = String> {
        let grants = self.opened.iter().map(|o| o.grant).chain(self.claim.iter().map(|(c, _)| c.grant));
        let grants = grants.chain(self.ended.iter().map(|e| e.grant)).map(|grant| grant.to_string());
        let grants = grants.chain(self.key.iter().map(|k| format!("{} {}", k.identity, k.key)));
        grants.chain(self.joiner.iter().flat_map(Joiner::marks))
    }

    /// State changes: one audit event each.
    pub(super) fn event_count(&self) -> usize {
        self.events.len() + usize::from(self.claim.is_some())
    }
}

impl AsMut<Self> for Change {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Why some changes could not be written together.
pub(super) enum Refusal {
    /// The conditions of these do not hold.
    Conflicts(BTreeSet<usize>),
    /// A statement failed.
    Failed(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

macro_rules! rows_sql {
    ($name:ident, $columns:literal, $before:expr, $after:expr) => {
        static $name: LazyLock<RowsSql> = LazyLock::new(|| RowsSql::new(0, $before, $columns, $after));
    };
}

rows_sql!(
    KEYS,
    5,
    "INSERT INTO idempotency_keys (identity_id, key, body_hash, request_id, created_at) VALUES ",
    " ON CONFLICT (identity_id, key) DO NOTHING RETURNING request_id AS id"
);
rows_sql!(
    REQUESTS,
    19,
    "WITH v (id, requester_id, subject_id, entitlements, ttl, reason, ticket, emergency, start_at, state, \
     policy_version, needs, trace, lapses_at, due_at, created_at, decided_at, correlation_id, most) AS (VALUES ",
    ") INSERT INTO requests (id, requester_id, subject_id, entitlements, ttl, reason, ticket, emergency, start_at, state, \
     policy_version, needs, trace, lapses_at, due_at, created_at, decided_at, correlation_id) \
     SELECT id, requester_id, subject_id, entitlements, ttl, reason, ticket, emergency, start_at, state, \
     policy_version, needs, trace, lapses_at, due_at, created_at, decided_at, correlation_id \
     FROM (SELECT v.*, row_number() OVER (PARTITION BY requester_id, state ORDER BY id) AS nth FROM v) AS v \
     WHERE v.state <> 'pending' OR v.most IS NULL OR (SELECT count(*) FROM requests r \
     WHERE r.requester_id = v.requester_id AND r.state = 'pending') + v.nth <= v.most RETURNING id"
);
rows_sql!(APPROVERS, 4, "INSERT INTO request_approvers (group_name, request_id, lapses_at, emergency) VALUES ", "");
// The bound is counted where it is written; `nth` is the place among the rows of this statement, which it does not see.
rows_sql!(
    GRANTS,
    19,
    "WITH v (id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, parameters, recipe, \
     max_claims, due_at, epoch, correlation_id, created_at, requester, shared_key, most) AS (VALUES ",
    concat!(
        ") INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, \
         parameters, recipe, max_claims, due_at, epoch, correlation_id, created_at, shared_key, attempts, claims) \
         SELECT id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, parameters, recipe, \
         max_claims, due_at, epoch, correlation_id, created_at, shared_key, 0, 0 \
         FROM (SELECT v.*, row_number() OVER (PARTITION BY holder_id ORDER BY id) AS nth FROM v) AS v \
         WHERE NOT EXISTS (SELECT 1 FROM locks WHERE ",
        lock_falls_on!("v.holder_id", "v.requester", "v.target", "v.entitlement"),
        ") AND EXISTS (SELECT 1 FROM identities WHERE id = v.holder_id AND active = 1) \
         AND (v.most IS NULL OR (SELECT count(*) FROM grants g WHERE g.holder_id = v.holder_id \
         AND g.state NOT IN ('ended', 'failed')) + v.nth <= v.most) RETURNING id"
    )
);
rows_sql!(
    OPENED,
    4,
    "WITH v (id, epoch, applied, at) AS (VALUES ",
    concat!(
        ") UPDATE grants SET state = 'active', applied = v.applied, activated_at = v.at, due_at = not_after, \
         last_error = NULL FROM v WHERE grants.id = v.id AND grants.epoch = v.epoch AND grants.state = 'activating' \
         AND grants.end_reason IS NULL AND NOT EXISTS (SELECT 1 FROM locks WHERE ",
        lock_falls_on!(
            "grants.holder_id",
            "(SELECT requester_id FROM requests WHERE requests.id = grants.request_id)",
            "grants.target",
            "grants.entitlement"
        ),
        ") AND EXISTS (SELECT 1 FROM identities WHERE id = grants.holder_id AND active = 1) RETURNING grants.id AS id"
    )
);
rows_sql!(
    COUNTED,
    3,
    "WITH v (id, number, at) AS (VALUES ",
    concat!(
        ") UPDATE grants SET claims = v.number FROM v WHERE grants.id = v.id AND grants.claims = v.number - 1 \
         AND grants.state = 'active' AND grants.not_after > v.at AND grants.end_reason IS NULL \
         AND (grants.max_claims IS NULL OR grants.claims < grants.max_claims) \
         AND NOT EXISTS (SELECT 1 FROM locks WHERE ",
        lock_falls_on!(
            "grants.holder_id",
            "(SELECT requester_id FROM requests WHERE requests.id = grants.request_id)",
            "grants.target",
            "grants.entitlement"
        ),
        ") RETURNING grants.id AS id"
    )
);
rows_sql!(
    CLAIMS,
    4,
    "INSERT INTO claims (grant_id, number, at, expires_at) VALUES ",
    " RETURNING grant_id AS id, serial"
);
rows_sql!(
    ENDED,
    5,
    "WITH v (id, epoch, state, evidence, at) AS (VALUES ",
    ") UPDATE grants SET state = v.state, evidence = v.evidence, ended_at = v.at, due_at = NULL FROM v \
     WHERE grants.id = v.id AND grants.epoch = v.epoch AND grants.state = 'revoking' RETURNING grants.id AS id"
);
rows_sql!(
    LEFT,
    3,
    "WITH v (group_key, identity_id, grant_id) AS (VALUES ",
    ") DELETE FROM memberships WHERE (group_id, identity_id, grant_id) IN \
     (SELECT g.id, v.identity_id, v.grant_id FROM v JOIN groups g ON g.name_key = v.group_key) \
     RETURNING identity_id AS id, grant_id, group_id"
);
// With several writers the row is taken although nothing changes in it: whoever is changing it is waited for, and who
// comes later finds what was decided. That also keeps the bounds of one holder from being counted twice at once.
rows_sql!(
    DECIDED_ON,
    5,
    "WITH v (id, version, recheck, at, taken) AS (VALUES ",
    ") UPDATE identities SET \
     recheck = CASE WHEN identities.version <> v.version THEN v.recheck ELSE identities.recheck END, \
     due_at = CASE WHEN identities.version <> v.version THEN v.at ELSE identities.due_at END FROM v \
     WHERE identities.id = v.id AND (identities.version <> v.version OR v.taken = 1)"
);
// Whoever takes two memberships of one person in one group at the same time takes them one after the other, so that the
// second sees that none is left.
rows_sql!(
    ONE_BY_ONE,
    1,
    "WITH v (id) AS (VALUES ",
    ") UPDATE identities SET version = version FROM v WHERE identities.id = v.id"
);
// As long as another membership in the group is left, nothing has changed about the person.
rows_sql!(
    WITHOUT,
    3,
    "WITH v (id, grant_id, group_id) AS (VALUES ",
    ") UPDATE identities SET version = version + 1, recheck = coalesce(g.ended_by, g.correlation_id), \
     due_at = coalesce(g.revoking_at, g.created_at) FROM v JOIN grants g ON g.id = v.grant_id WHERE identities.id = v.id \
     AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.group_id = v.group_id AND m.identity_id = v.id)"
);
rows_sql!(
    MESSAGES,
    5,
    "WITH v (id, notifier, kind, at, data) AS (VALUES ",
    ") INSERT INTO outbox (id, notifier, kind, at, data, due_at, attempts, epoch) \
     SELECT id, notifier, kind, at, data, at, 0, 0 FROM v"
);

fn bind_request(query: Bound, r: &Request, most: Option<u32>) -> Bound {
    query
        .bind(r.id.to_string())
        .bind(r.requester.to_string())
        .bind(r.subject.to_string())
        .bind(to_json(&r.entitlements))
        .bind(i64::from(r.ttl.seconds()))
        .bind(r.reason.clone())
        .bind(r.ticket.clone())
        .bind(i64::from(r.emergency))
        .bind(r.start_at.map(Timestamp::micros))
        .bind(r.state.as_str())
        .bind(r.policy_version.clone())
        .bind(to_json(&r.needs))
        .bind(to_json(&r.trace))
        .bind(r.lapses_at.micros())
        .bind((r.state == RequestState::Pending).then_some(r.lapses_at.micros()))
        .bind(r.created_at.micros())
        .bind(r.decided_at.map(Timestamp::micros))
        .bind(r.correlation.to_string())
        .bind(most.map(i64::from))
}

fn bind_grant(query: Bound, new: &NewGrant) -> Bound {
    let g = &new.grant;
    query
        .bind(g.id.to_string())
        .bind(g.request.to_string())
        .bind(g.holder.to_string())
        .bind(g.entitlement.to_string())
        .bind(g.target.to_string())
        .bind(g.state.as_str())
        .bind(i64::from(g.ttl.seconds()))
        .bind(g.start_at.map(Timestamp::micros))
        .bind(g.not_after.map(Timestamp::micros))
        .bind(g.parameters.to_string())
        .bind(g.recipe.as_ref().map(to_json))
        .bind(g.max_claims.map(i64::from))
        .bind(g.due_at.map(Timestamp::micros))
        .bind(g.epoch)
        .bind(g.correlation.to_string())
        .bind(g.created_at.micros())
        .bind(new.requester.to_string())
        .bind(g.recipe.as_ref().and_then(Recipe::shared).map(|shared| shared.key))
        .bind(new.most.map(i64::from))
}

/// Whom a pending request is put before.
fn approvers_of(request: &Request) -> impl Iterator<Item = (&String, &Request)> {
    let needs = request.needs.iter().filter(|_| request.state == RequestState::Pending);
    let groups: BTreeSet<&String> = needs.flat_map(|need| &need.groups).collect();
    groups.into_iter().map(move |group| (group, request))
}

/// Keep new grants, except those that a kill switch falls on or that are too many; answers those that were kept.
pub(super) async fn insert_grants(
    connection: &mut AnyConnection,
    rows: &[&NewGrant],
) -> Result<Vec<AnyRow>, sqlx::Error> {
    GRANTS.answers(connection, rows, |q, new| bind_grant(q, new)).await
}

/// SQLite has one: what a statement reads there, nobody changes before the commit.
pub(super) fn has_several_writers(db: &AnyConnection) -> bool {
    db.backend_name() == "PostgreSQL"
}

/// Ask for the facts that decisions rest on. Of several decisions on one identity the one on the oldest facts counts.
async fn write_decided_on(db: &mut AnyConnection, changes: &[&Change]) -> Result<(), sqlx::Error> {
    let mut decided_on: BTreeMap<IdentityId, DecidedOn> = BTreeMap::new();
    for d in changes.iter().flat_map(|c| &c.decided_on) {
        let oldest = decided_on.entry(d.identity).or_insert(*d);
        if d.version < oldest.version {
            *oldest = *d;
        }
    }
    let decided_on: Vec<DecidedOn> = decided_on.into_values().collect();
    let taken = i64::from(has_several_writers(db));
    DECIDED_ON
        .run(db, &decided_on, |q, d| {
            let q = q.bind(d.identity.to_string()).bind(d.version);
            q.bind(d.recheck.cause.to_string()).bind(d.recheck.at.micros()).bind(taken)
        })
        .await
}

/// Put messages into the outbox.
pub(super) async fn insert_messages(
    connection: &mut AnyConnection,
    rows: &[&(String, Message)],
) -> Result<(), sqlx::Error> {
    MESSAGES
        .run(connection, rows, |q, (notifier, m)| {
            let q = q.bind(m.id.to_string()).bind(notifier.clone()).bind(m.kind.clone());
            q.bind(m.at.micros()).bind(m.data.to_string())
        })
        .await
}

/// Write many changes in few statements; answers one by one. The audit events are left to the committer.
pub(super) async fn write(db: &mut AnyConnection, changes: &[&Change]) -> Result<Vec<Written>, Refusal> {
    let of = Rows { changes };
    let keys = of.rows(|c| &c.key);
    let kept = KEYS.answers(db, &keys, |q, (_, k)| {
        let q = q.bind(k.identity.to_string()).bind(k.key.clone()).bind(k.body_hash.clone());
        q.bind(k.request.to_string()).bind(k.at.micros())
    });
    all_there(&keys, &kept.await?, |k| k.request.to_string())?;

    let joiners = of.rows(|c| &c.joiner);
    let rows: Vec<_> = joiners.iter().map(|(_, joiner)| *joiner).collect();
    all_there(&joiners, &joiners::insert_identities(db, &rows).await?, |j| j.id().to_string())?;
    joiners::describe(db, &rows).await?;

    write_decided_on(db, changes).await?;

    let requests: Vec<(usize, (&Request, Option<u32>))> = (0..)
        .zip(changes)
        .filter_map(|(n, c)| c.request.as_ref().map(|request| (n, (request, c.most_pending))))
        .collect();
    let kept = REQUESTS.answers(db, &requests, |q, (_, (request, most))| bind_request(q, request, *most)).await?;
    let asked: Vec<(usize, &Request)> = requests.iter().map(|(n, (request, _))| (*n, *request)).collect();
    all_there(&asked, &kept, |r| r.id.to_string())?;
    let approvers: Vec<_> = asked.iter().flat_map(|(_, r)| approvers_of(r)).collect();
    APPROVERS
        .run(db, &approvers, |q, (group, r)| {
            let q = q.bind((*group).clone()).bind(r.id.to_string());
            q.bind(r.lapses_at.micros()).bind(i64::from(r.emergency))
        })
        .await?;

    let grants = of.rows(|c| &c.grants);
    let rows: Vec<_> = grants.iter().map(|(_, grant)| *grant).collect();
    all_there(&grants, &insert_grants(db, &rows).await?, |new| new.grant.id.to_string())?;

    let opened = of.rows(|c| &c.opened);
    let done = OPENED.answers(db, &opened, |q, (_, o)| {
        q.bind(o.grant.to_string()).bind(o.epoch).bind(o.applied.to_string()).bind(o.at.micros())
    });
    all_there(&opened, &done.await?, |o| o.grant.to_string())?;

    let written = write_claims(db, &of).await?;

    let ended = of.rows(|c| &c.ended);
    let done = ENDED.answers(db, &ended, |q, (_, e)| {
        let q = q.bind(e.grant.to_string()).bind(e.epoch).bind(e.state.as_str());
        q.bind(e.evidence.to_string()).bind(e.at.micros())
    });
    all_there(&ended, &done.await?, |e| e.grant.to_string())?;

    let left = of.rows(|c| &c.left);
    let gone = LEFT.answers(db, &left, |q, (_, m)| {
        q.bind(m.group.to_lowercase()).bind(m.identity.to_string()).bind(m.grant.to_string())
    });
    let mut without = BTreeMap::new();
    for row in &gone.await? {
        let r = Reader::new("memberships", row);
        without.insert((r.text("id")?, r.text("group_id")?), r.text("grant_id")?);
    }
    if has_several_writers(db) {
        let who: BTreeSet<&String> = without.keys().map(|(id, _)| id).collect();
        let who: Vec<_> = who.into_iter().collect();
        ONE_BY_ONE.run(db, &who, |q, id| q.bind((*id).clone())).await?;
    }
    let without: Vec<_> = without.iter().collect();
    WITHOUT
        .run(db, &without, |q, ((id, group), grant)| q.bind(id.clone()).bind((*grant).clone()).bind(group.clone()))
        .await?;

    let messages: Vec<_> = changes.iter().flat_map(|c| &c.messages).collect();
    insert_messages(db, &messages).await?;
    for wish in changes.iter().flat_map(|c| &c.slack) {
        wish.statement().execute(&mut *db).await?;
    }
    Ok(written)
}

async fn write_claims(db: &mut AnyConnection, of: &Rows<'_>) -> Result<Vec<Written>, Refusal> {
    let mut written = vec![Written::default(); of.changes.len()];
    let claims = of.rows(|c| &c.claim);
    if claims.is_empty() {
        return Ok(written);
    }
    let counted = COUNTED.answers(db, &claims, |q, (_, (c, _))| {
        q.bind(c.grant.to_string()).bind(i64::from(c.number)).bind(c.at.micros())
    });
    all_there(&claims, &counted.await?, |(c, _)| c.grant.to_string())?;
    let rows = CLAIMS.answers(db, &claims, |q, (_, (c, _))| {
        let q = q.bind(c.grant.to_string()).bind(i64::from(c.number));
        q.bind(c.at.micros()).bind(c.expires_at.micros())
    });
    let mut serials = BTreeMap::new();
    for row in &rows.await? {
        let r = Reader::new("claims", row);
        serials.insert(r.text("id")?, r.number("serial")?);
    }
    for (change, (claim, _)) in &claims {
        let serial = serials.get(&claim.grant.to_string()).copied();
        if let Some(written) = written.get_mut(*change) {
            written.serial = serial;
        }
    }
    Ok(written)
}

/// The events of changes that were written, in order.
pub(super) fn events_of(changes: &[&Change], written: &[Written]) -> Vec<Event> {
    let mut events = Vec::with_capacity(changes.iter().map(|c| c.event_count()).sum());
    for (change, written) in changes.iter().zip(written) {
        events.extend_from_slice(&change.events);
        if let Some((_, event)) = &change.claim {
            let mut event = event.clone();
            if let Some(details) = event.details.as_object_mut() {
                details.insert("serial".to_owned(), written.serial.into());
            }
            events.push(event);
        }
    }
    events
}

/// Rows of one kind, each with the number of its change.
struct Rows<'c> {
    changes: &'c [&'c Change],
}

impl<'c> Rows<'c> {
    fn rows<T: 'c, I: IntoIterator<Item = &'c T>>(&self, part: impl Fn(&'c Change) -> I) -> Vec<(usize, &'c T)> {
        let numbered = self.changes.iter().enumerate();
        numbered.flat_map(|(n, change)| part(change).into_iter().map(move |row| (n, row))).collect()
    }
}

fn ids(answers: &[AnyRow]) -> Result<BTreeSet<String>, StoreError> {
    answers.iter().map(|row| Reader::new("changes", row).text("id")).collect()
}

/// Each row must have been answered; those that were not are conflicts.
fn all_there<T>(rows: &[(usize, &T)], answers: &[AnyRow], id: impl Fn(&T) -> String) -> Result<(), Refusal> {
    if rows.len() == answers.len() {
        return Ok(());
    }
    let there = ids(answers)?;
    Err(Refusal::Conflicts(rows.iter().filter(|(_, row)| !there.contains(&id(row))).map(|(n, _)| *n).collect()))
}
