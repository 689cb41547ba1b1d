//! Requests, their approvals and idempotency keys.

use sqlx::{any::AnyRow, query};

use super::{
    IdempotencyKey, Page, Store, StoreError, Tx,
    row::{Reader, readable, to_json},
    scim_sql::Sql,
};
use crate::domain::{
    id::{IdentityId, RequestId},
    request::{Approval, Request, RequestState},
    time::{Timestamp, Ttl},
};

macro_rules! request_columns {
    () => {
        "r.id, r.requester_id, r.subject_id, r.entitlements, r.ttl, r.reason, r.ticket, r.emergency, r.start_at, \
         r.state, r.policy_version, r.needs, r.trace, r.lapses_at, r.created_at, r.decided_at, r.correlation_id"
    };
}
pub(super) use request_columns;

pub(super) fn request(row: &AnyRow) -> Result<Request, StoreError> {
    let r = Reader::new("requests", row);
    Ok(Request {
        id: r.parsed("id")?,
        requester: r.parsed("requester_id")?,
        subject: r.parsed("subject_id")?,
        entitlements: r.json("entitlements")?,
        ttl: Ttl::seconds_or_one(r.number("ttl")?),
        reason: r.text("reason")?,
        ticket: r.optional_text("ticket")?,
        emergency: r.flag("emergency")?,
        start_at: r.optional_instant("start_at")?,
        state: r.named("state", RequestState::parse)?,
        policy_version: r.text("policy_version")?,
        needs: r.json("needs")?,
        trace: r.json("trace")?,
        lapses_at: r.instant("lapses_at")?,
        created_at: r.instant("created_at")?,
        decided_at: r.optional_instant("decided_at")?,
        correlation: r.parsed("correlation_id")?,
    })
}

fn approval(row: &AnyRow) -> Result<Approval, StoreError> {
    let r = Reader::new("approvals", row);
    Ok(Approval {
        id: r.parsed("id")?,
        request: r.parsed("request_id")?,
        approver: r.parsed("approver_id")?,
        groups: r.json("groups")?,
        approve: r.flag("approve")?,
        comment: r.text("comment")?,
        ttl: r.optional_integer("ttl")?.and_then(|s| u32::try_from(s).ok()).and_then(Ttl::from_seconds),
        at: r.instant("at")?,
        via: r.text("via")?,
    })
}

/// Which requests to list. Newest first.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Only in this state.
    pub state: Option<RequestState>,
    /// Only asked by, or for, this identity.
    pub party: Option<IdentityId>,
    /// Only pending ones put before any of these groups.
    pub approver_groups: Option<Vec<String>>,
}

macro_rules! approval_columns {
    () => {
        "a.id, a.request_id, a.approver_id, a.groups, a.approve, a.comment, a.ttl, a.at, a.via"
    };
}
pub(super) use approval_columns;

const APPROVALS: &str =
    concat!("SELECT ", approval_columns!(), " FROM approvals a WHERE a.request_id = $1 ORDER BY a.at, a.id");

impl Store {
    /// One request.
    pub async fn request(&self, id: RequestId) -> Result<Option<Request>, StoreError> {
        self.inner.reads.requests.rows(id).await?.first().map(request).transpose()
    }

    /// The decisions on a request, in order.
    pub async fn approvals(&self, id: RequestId) -> Result<Vec<Approval>, StoreError> {
        self.inner.reads.approvals.rows(id).await?.iter().map(approval).collect()
    }

    /// Requests, newest first, before the cursor.
    pub async fn requests(
        &self,
        filter: &RequestFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Request>, StoreError> {
        const ALL: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests r WHERE r.id < $1 AND ($2 = '' OR r.state = $2) ORDER BY r.id DESC LIMIT $3"
        );
        const ASKED_BY: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests r WHERE r.requester_id = $4 AND r.id < $1 AND ($2 = '' OR r.state = $2) \
             ORDER BY r.id DESC LIMIT $3"
        );
        const ASKED_FOR: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests r WHERE r.subject_id = $4 AND r.subject_id <> r.requester_id AND r.id < $1 \
             AND ($2 = '' OR r.state = $2) ORDER BY r.id DESC LIMIT $3"
        );
        const PUT_BEFORE: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM request_approvers a JOIN requests r ON r.id = a.request_id WHERE a.group_name = $4 \
             AND a.request_id < $1 AND ($2 = '' OR r.state = $2) ORDER BY a.request_id DESC LIMIT $3"
        );
        // What is pending is found by its own index, however long the history is.
        const PENDING: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests r WHERE r.state = 'pending' AND r.id < $1 AND $2 = 'pending' ORDER BY r.id DESC LIMIT $3"
        );
        // What waits is told from the history first: SQLite would walk through all of the group's otherwise.
        const PENDING_BEFORE: &str = concat!(
            "WITH w AS MATERIALIZED (SELECT request_id FROM request_approvers WHERE group_name = $4 \
             AND lapses_at IS NOT NULL AND request_id < $1) SELECT ",
            request_columns!(),
            " FROM w JOIN requests r ON r.id = w.request_id WHERE r.state = 'pending' AND $2 = 'pending' \
             ORDER BY r.id DESC LIMIT $3"
        );
        // Sorts after every id.
        let before = after.unwrap_or("~");
        let state = filter.state.map_or("", RequestState::as_str);
        let read = async |sql: &'static str, who: Option<String>| -> Result<(Vec<Request>, bool), StoreError> {
            let mut q = query(sql).bind(before).bind(state).bind(i64::from(limit) + 1);
            if let Some(who) = who {
                q = q.bind(who);
            }
            let rows = q.fetch_all(&self.inner.readers).await?;
            Ok((readable(&rows, request), rows.len() > limit as usize))
        };
        let pending = filter.state == Some(RequestState::Pending);
        let reads: Vec<(&'static str, Option<String>)> = match (&filter.party, &filter.approver_groups) {
            (None, None) if pending => vec![(PENDING, None)],
            (None, Some(groups)) if pending => {
                self.waited_for(groups).await?.into_iter().map(|g| (PENDING_BEFORE, Some(g))).collect()
            }
            (None, None) => vec![(ALL, None)],
            (Some(party), _) => vec![(ASKED_BY, Some(party.to_string())), (ASKED_FOR, Some(party.to_string()))],
            (None, Some(groups)) => groups.iter().map(|g| (PUT_BEFORE, Some(g.clone()))).collect(),
        };
        let (mut items, mut more) = (Vec::new(), false);
        for (sql, who) in reads {
            let (found, goes_on) = read(sql, who).await?;
            items.extend(found);
            more |= goes_on;
        }
        items.sort_by_key(|r| std::cmp::Reverse(r.id));
        items.dedup_by_key(|r| r.id);
        let mut page = Page::cut(items, limit, |r| r.id.to_string());
        // Rows that do not decode are left out, and the page may be short of them.
        page.next = page.next.or_else(|| page.items.last().filter(|_| more).map(|r| r.id.to_string()));
        Ok(page)
    }

    /// Pending requests before any of these groups: emergencies first, then what lapses first.
    pub async fn urgent_requests(
        &self,
        groups: &std::collections::BTreeSet<String>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Request>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM request_approvers a JOIN requests r ON r.id = a.request_id WHERE a.group_name = $4 \
             AND a.lapses_at IS NOT NULL AND r.state = 'pending' AND (a.emergency < $1 OR (a.emergency = $1 AND \
             (a.lapses_at > $2 OR (a.lapses_at = $2 AND a.request_id > $3)))) \
             ORDER BY a.emergency DESC, a.lapses_at, a.request_id LIMIT $5"
        );
        let place = |r: &Request| (u8::from(!r.emergency), r.lapses_at, r.id);
        let cursor = |r: &Request| format!("{}.{}.{}", u8::from(r.emergency), r.lapses_at.micros(), r.id);
        let mut parts = after.unwrap_or_default().splitn(3, '.');
        let mut number = |missing: i64| parts.next().and_then(|p| p.parse().ok()).unwrap_or(missing);
        let (emergency, lapses) = (number(2), number(i64::MIN));
        let id = parts.next().unwrap_or_default();
        let (mut items, mut more) = (Vec::new(), false);
        for group in self.waited_for(groups).await? {
            let rows = query(SQL)
                .bind(emergency)
                .bind(lapses)
                .bind(id)
                .bind(group)
                .bind(i64::from(limit) + 1)
                .fetch_all(&self.inner.readers)
                .await?;
            more |= rows.len() > limit as usize;
            items.extend(readable(&rows, request));
        }
        items.sort_by_key(place);
        items.dedup_by_key(|r| r.id);
        let mut page = Page::cut(items, limit, cursor);
        page.next = page.next.or_else(|| page.items.last().filter(|_| more).map(cursor));
        Ok(page)
    }

    /// How many requests are pending before any of these groups and were not asked by, or for, that identity; counted
    /// up to `most`.
    pub async fn pending_before(
        &self,
        groups: &std::collections::BTreeSet<String>,
        not_of: IdentityId,
        most: u32,
    ) -> Result<u32, StoreError> {
        let mut sql = Sql::new(
            "SELECT DISTINCT a.request_id FROM request_approvers a JOIN requests r ON r.id = a.request_id \
             WHERE a.lapses_at IS NOT NULL AND r.state = 'pending' AND a.group_name IN (",
        );
        let groups: Vec<&String> = groups.iter().collect();
        if groups.is_empty() {
            return Ok(0);
        }
        sql.list(&groups, |sql, group| {
            sql.text((*group).clone());
        });
        sql.push(") AND r.requester_id <> ")
            .text(not_of.to_string())
            .push(" AND r.subject_id <> ")
            .text(not_of.to_string());
        sql.push(" AND NOT EXISTS (SELECT 1 FROM approvals v WHERE v.request_id = r.id AND v.approver_id = ");
        sql.text(not_of.to_string()).push(") LIMIT ").integer(i64::from(most));
        let rows = sql.query().fetch_all(&self.inner.readers).await?;
        Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
    }

    /// Which of these groups something waits for.
    async fn waited_for(&self, groups: impl IntoIterator<Item = &String>) -> Result<Vec<String>, StoreError> {
        let groups: Vec<&String> = groups.into_iter().collect();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new("WITH v (name) AS (VALUES ");
        sql.list(&groups, |sql, group| {
            sql.push("(").text((*group).clone()).push(")");
        });
        sql.push(
            ") SELECT v.name FROM v WHERE EXISTS (SELECT 1 FROM request_approvers a WHERE a.group_name = v.name \
             AND a.lapses_at IS NOT NULL)",
        );
        let rows = sql.query().fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Reader::new("request_approvers", row).text("name")).collect()
    }

    /// How many requests somebody has pending.
    pub async fn pending_of(&self, requester: IdentityId) -> Result<u32, StoreError> {
        let row = query("SELECT count(*) AS n FROM requests WHERE requester_id = $1 AND state = 'pending'")
            .bind(requester.to_string())
            .fetch_one(&self.inner.readers)
            .await?;
        Reader::new("requests", &row).number("n")
    }

    /// What an idempotency key was used for.
    pub async fn idempotency_key(
        &self,
        identity: IdentityId,
        key: &str,
    ) -> Result<Option<(Vec<u8>, RequestId)>, StoreError> {
        let row = query("SELECT body_hash, request_id FROM idempotency_keys WHERE identity_id = $1 AND key = $2")
            .bind(identity.to_string())
            .bind(key)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| {
            let r = Reader::new("idempotency_keys", &row);
            Ok((r.bytes("body_hash")?, r.parsed("request_id")?))
        })
        .transpose()
    }

    /// Pending requests whose time has run out, oldest first.
    pub async fn lapsed_requests(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError> {
        let rows = query("SELECT id FROM requests WHERE due_at <= $1 ORDER BY due_at LIMIT $2")
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(|row| Reader::new("requests", row).parsed("id")).collect()
    }
}

impl Tx {
    /// Keep an idempotency key; [`StoreError::Conflict`] if it is there already.
    pub async fn keep_key(&mut self, k: &IdempotencyKey) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "INSERT INTO idempotency_keys (identity_id, key, body_hash, request_id, created_at) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (identity_id, key) DO NOTHING",
            )
            .bind(k.identity.to_string())
            .bind(k.key.clone())
            .bind(k.body_hash.clone())
            .bind(k.request.to_string())
            .bind(k.at.micros()),
        )
        .await
    }

    /// What an idempotency key stood for did not come to be.
    pub async fn forget_key(&mut self, k: &IdempotencyKey) -> Result<(), StoreError> {
        let gone = query("DELETE FROM idempotency_keys WHERE identity_id = $1 AND key = $2");
        self.execute(gone.bind(k.identity.to_string()).bind(k.key.clone())).await?;
        Ok(())
    }

    /// A pending request reaches a terminal state; [`StoreError::Conflict`] if it is no longer pending.
    pub async fn decide_request(
        &mut self,
        id: RequestId,
        state: RequestState,
        ttl: Ttl,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE requests SET state = $1, ttl = $2, decided_at = $3, due_at = NULL \
                 WHERE id = $4 AND state = 'pending'",
            )
            .bind(state.as_str())
            .bind(i64::from(ttl.seconds()))
            .bind(at.micros())
            .bind(id.to_string()),
        )
        .await?;
        self.waits_no_more(id).await
    }

    /// It waits for nobody any more.
    async fn waits_no_more(&mut self, id: RequestId) -> Result<(), StoreError> {
        let sql = "UPDATE request_approvers SET lapses_at = NULL, emergency = NULL \
                   WHERE request_id = $1 AND lapses_at IS NOT NULL";
        self.execute(query(sql).bind(id.to_string())).await?;
        Ok(())
    }

    /// A pending request is cancelled; false if somebody decided first.
    pub async fn cancel_pending(&mut self, id: RequestId, at: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE requests SET state = 'cancelled', decided_at = $1, due_at = NULL \
                   WHERE id = $2 AND state = 'pending'";
        let cancelled = self.execute(query(sql).bind(at.micros()).bind(id.to_string())).await? == 1;
        self.waits_no_more(id).await?;
        Ok(cancelled)
    }

    /// A pending request that does not decode lapses all the same: nobody can decide on what nobody can read.
    pub async fn lapse_unreadable(&mut self, id: RequestId, at: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE requests SET state = 'lapsed', decided_at = $1, due_at = NULL \
                 WHERE id = $2 AND state = 'pending'",
            )
            .bind(at.micros())
            .bind(id.to_string()),
        )
        .await?;
        self.waits_no_more(id).await
    }

    /// A pending request, locked against other deciders for the rest of the transaction.
    pub async fn lock_pending_request(&mut self, id: RequestId, now: Timestamp) -> Result<bool, StoreError> {
        // Taking the row lock by an update that changes nothing works on both databases.
        let touched = self
            .execute(
                query("UPDATE requests SET due_at = due_at WHERE id = $1 AND state = 'pending' AND lapses_at > $2")
                    .bind(id.to_string())
                    .bind(now.micros()),
            )
            .await?;
        Ok(touched == 1)
    }

    /// The decisions on a request, seen from inside the transaction.
    pub async fn approvals(&mut self, id: RequestId) -> Result<Vec<Approval>, StoreError> {
        let rows = self.read_all(query(APPROVALS).bind(id.to_string())).await?;
        rows.iter().map(approval).collect()
    }

    /// Keep one person's decision; [`StoreError::Conflict`] if that person has decided already.
    pub async fn insert_approval(&mut self, a: &Approval) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO approvals (id, request_id, approver_id, groups, approve, comment, ttl, at, via) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (request_id, approver_id) DO NOTHING";
        self.execute_one(
            query(SQL)
                .bind(a.id.to_string())
                .bind(a.request.to_string())
                .bind(a.approver.to_string())
                .bind(to_json(&a.groups))
                .bind(i64::from(a.approve))
                .bind(a.comment.clone())
                .bind(a.ttl.map(|t| i64::from(t.seconds())))
                .bind(a.at.micros())
                .bind(a.via.clone()),
        )
        .await
    }
}
