//! The look-ups that the hot paths make: shared among those who make them at the same time.

use std::sync::Arc;

use super::{
    grants,
    identities::{SEPARATOR, subject_columns},
    requests,
    shared::{Readers, SharedRead},
    tokens::TokenKind,
};
use crate::domain::{
    id::{GrantId, IdentityId, RequestId},
    time::Timestamp,
};

/// Which stored token, at which instant.
pub(super) struct TokenKey {
    pub(super) hash: Vec<u8>,
    pub(super) kind: TokenKind,
    pub(super) now: Timestamp,
}

/// Which token of a source, at which instant.
pub(super) struct SourceKey {
    pub(super) hash: Vec<u8>,
    pub(super) now: Timestamp,
}

/// Whom, with their groups at which instant.
pub(super) struct SubjectKey {
    pub(super) id: IdentityId,
    pub(super) now: Timestamp,
}

/// Whose live grants, counted how far.
pub(super) struct HolderKey {
    pub(super) holder: IdentityId,
    pub(super) most: u32,
}

/// Who in which group, and by which grant.
pub(super) struct MemberKey {
    pub(super) group: String,
    pub(super) identity: IdentityId,
    pub(super) grant: GrantId,
}

/// What somebody asked for since then, as far as so many newest requests.
pub(super) struct AskedKey {
    pub(super) requester: IdentityId,
    pub(super) since: String,
    pub(super) most: u32,
}

/// Who looks at a request since then.
pub(super) struct TakerKey {
    pub(super) request: RequestId,
    pub(super) since: Timestamp,
}

/// One for each look-up.
pub(super) struct Reads {
    pub(super) tokens: Arc<SharedRead<TokenKey>>,
    pub(super) sources: Arc<SharedRead<SourceKey>>,
    pub(super) live_grants: Arc<SharedRead<HolderKey>>,
    pub(super) grants: Arc<SharedRead<GrantId>>,
    pub(super) requests: Arc<SharedRead<RequestId>>,
    pub(super) last_expiry: Arc<SharedRead<GrantId>>,
    pub(super) memberships: Arc<SharedRead<MemberKey>>,
    pub(super) subjects: Arc<SharedRead<SubjectKey>>,
    pub(super) approvals: Arc<SharedRead<RequestId>>,
    pub(super) grants_of: Arc<SharedRead<RequestId>>,
    pub(super) asked: Arc<SharedRead<AskedKey>>,
    pub(super) takers: Arc<SharedRead<TakerKey>>,
}

impl Reads {
    #[allow(clippy::too_many_lines, reason = "one statement after the other, and nothing else")]
    pub(super) fn new(readers: &Readers) -> Self {
        Self {
            tokens: SharedRead::new(
                readers,
                &["hash", "kind", "now", "separator"],
                concat!(
                    "SELECT v.n, t.id AS token_id, t.expires_at, ",
                    subject_columns!("v.now", "v.separator"),
                    " FROM v JOIN tokens t ON t.hash = v.hash JOIN identities i ON i.id = t.identity_id \
                     WHERE t.kind = v.kind AND t.revoked_at IS NULL AND t.expires_at > v.now"
                ),
                |q, k| q.bind(k.hash.clone()).bind(k.kind.as_str()).bind(k.now.micros()).bind(SEPARATOR),
            ),
            sources: SharedRead::new(
                readers,
                &["hash", "now"],
                "SELECT v.n, s.id, s.name, s.kind FROM v JOIN source_tokens t ON t.hash = v.hash \
                 JOIN sources s ON s.id = t.source_id WHERE t.revoked_at IS NULL AND t.expires_at > v.now",
                |q, k| q.bind(k.hash.clone()).bind(k.now.micros()),
            ),
            live_grants: SharedRead::with_limit(
                readers,
                &["holder"],
                "SELECT v.n, (SELECT count(*) FROM (SELECT 1 FROM grants WHERE holder_id = v.holder \
                 AND state NOT IN ('ended', 'failed') LIMIT $1) AS counted) AS live FROM v",
                |q, k| q.bind(k.holder.to_string()),
                Some(|k| i64::from(k.most)),
            ),
            grants: SharedRead::new(
                readers,
                &["wanted"],
                concat!("SELECT v.n, ", grants::grant_columns!(), " FROM v JOIN grants ON grants.id = v.wanted"),
                |q, k| q.bind(k.to_string()),
            ),
            requests: SharedRead::new(
                readers,
                &["wanted"],
                concat!("SELECT v.n, ", requests::request_columns!(), " FROM v JOIN requests r ON r.id = v.wanted"),
                |q, k| q.bind(k.to_string()),
            ),
            last_expiry: SharedRead::new(
                readers,
                &["wanted"],
                "SELECT v.n, (SELECT max(expires_at) FROM claims WHERE grant_id = v.wanted) AS last FROM v",
                |q, k| q.bind(k.to_string()),
            ),
            memberships: SharedRead::new(
                readers,
                &["group_key", "identity_id", "grant_id"],
                "SELECT v.n, (SELECT count(*) FROM memberships m WHERE m.group_id = g.id \
                 AND m.identity_id = v.identity_id AND m.grant_id = '') AS standing, \
                 (SELECT count(*) FROM memberships m WHERE m.group_id = g.id \
                 AND m.identity_id = v.identity_id AND m.grant_id > '') AS temporary, \
                 (SELECT count(*) FROM memberships m WHERE m.group_id = g.id \
                 AND m.identity_id = v.identity_id AND m.grant_id = v.grant_id) AS by_this_grant \
                 FROM v JOIN groups g ON g.name_key = v.group_key",
                |q, k| q.bind(k.group.to_lowercase()).bind(k.identity.to_string()).bind(k.grant.to_string()),
            ),
            subjects: SharedRead::new(
                readers,
                &["wanted", "now", "separator"],
                concat!(
                    "SELECT v.n, ",
                    subject_columns!("v.now", "v.separator"),
                    " FROM v JOIN identities i ON i.id = v.wanted"
                ),
                |q, k| q.bind(k.id.to_string()).bind(k.now.micros()).bind(SEPARATOR),
            ),
            approvals: SharedRead::new(
                readers,
                &["wanted"],
                concat!(
                    "SELECT v.n, ",
                    requests::approval_columns!(),
                    " FROM v JOIN approvals a ON a.request_id = v.wanted ORDER BY a.at, a.id"
                ),
                |q, k| q.bind(k.to_string()),
            ),
            grants_of: SharedRead::new(
                readers,
                &["wanted"],
                concat!(
                    "SELECT v.n, ",
                    grants::grant_columns!(),
                    " FROM v JOIN grants ON grants.request_id = v.wanted ORDER BY grants.id"
                ),
                |q, k| q.bind(k.to_string()),
            ),
            // One text for each requester: state, space, entitlements; a line for each request.
            asked: SharedRead::with_limit(
                readers,
                &["requester", "since", "separator"],
                "SELECT v.n, (SELECT string_agg(c.line, v.separator) FROM (SELECT r.state || ' ' || r.entitlements AS line \
                 FROM requests r WHERE r.requester_id = v.requester AND r.id >= v.since ORDER BY r.id DESC LIMIT $1) \
                 AS c) AS lines FROM v",
                |q, k| q.bind(k.requester.to_string()).bind(k.since.clone()).bind(SEPARATOR),
                Some(|k| i64::from(k.most)),
            ),
            takers: SharedRead::new(
                readers,
                &["wanted", "since"],
                "SELECT v.n, t.identity_id, t.at FROM v JOIN request_takers t ON t.request_id = v.wanted AND t.at > v.since",
                |q, k| q.bind(k.request.to_string()).bind(k.since.micros()),
            ),
        }
    }
}
