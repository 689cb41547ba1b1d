//! Asking the server: is the access gone, and what bears our mark? Changes nothing.

use serde_json::json;
use sqlx::{Row, postgres::PgRow};

use super::{
    client::Client,
    config::{Settings, literal, mark_of},
    role::{Plan, facts_sql, read_facts, recipe, unreadable},
};
use crate::{
    domain::grant::grant_of_object,
    ports::{
        connector::{Fault, Found, Presence},
        entropy::Entropy,
    },
};

/// The server's clock, as it goes into evidence.
const NOW: &str = r#"to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// Ask for the role and for sessions, of the role and of roles that exist no more.
///
/// A role that somebody drops by hand leaves its sessions running, without a name. Sessions without a role that began
/// after the grant was made could be such, so they count as access that is still there. When a session began is shown
/// to members of `pg_read_all_stats` only; where it is not shown, the session counts.
///
/// The question bears a word that was never there before, and so must the answer: what somebody between here and the
/// server kept from an earlier one proves nothing.
pub(super) async fn verify(client: &Client, plan: &Plan, entropy: &dyn Entropy) -> Presence {
    let word = match entropy.text(16) {
        Ok(word) => word,
        Err(e) => return Presence::Unknown(format!("no question could be made: {e}")),
    };
    let (role, asked) = (literal(&plan.role), literal(word.expose()));
    // The grant's ULID says when it was made; a minute is left for clocks that differ.
    let made = plan.grant.ulid().timestamp_ms() / 1000;
    let sql = format!(
        "SELECT {asked} AS word, pg_is_in_recovery() AS standby, \
         (SELECT count(*) FROM pg_roles WHERE rolname = {role}) AS roles, \
         (SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = {role}) AS comment, \
         (SELECT count(*) FROM pg_stat_activity WHERE usename = {role}) AS sessions, \
         (SELECT coalesce(json_agg(json_build_object('pid', a.pid, 'role_oid', a.usesysid::int8, 'since', a.backend_start)), '[]')::text \
          FROM pg_stat_activity a WHERE a.usesysid IS NOT NULL AND a.usesysid <> 0 \
          AND coalesce(a.backend_start > to_timestamp({made}) - interval '1 minute', true) \
          AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)) AS nameless, \
         current_setting('server_version') AS version, \
         (SELECT system_identifier::text FROM pg_control_system()) AS system, {NOW} AS checked_at"
    );
    let rows = match client.batch(&sql).await {
        Ok(rows) => rows,
        Err(e) => return Presence::Unknown(e.fault.to_string()),
    };
    let Some(row) = rows.first() else { return Presence::Unknown("the server gave no answer".into()) };
    read(row, plan, word.expose())
        .unwrap_or_else(|e| Presence::Unknown(format!("the server's answer could not be read: {e}")))
}

fn read(row: &PgRow, plan: &Plan, word: &str) -> Result<Presence, sqlx::Error> {
    if row.try_get::<String, _>("word")? != word {
        let why = "the answer is to another question: somebody between here and the server repeats what it said before";
        return Ok(Presence::Unknown(why.into()));
    }
    if row.try_get::<bool, _>("standby")? {
        return Ok(Presence::Unknown("a standby answered, which may lag behind; point `host` to the primary".into()));
    }
    let (roles, sessions) = (row.try_get::<i64, _>("roles")?, row.try_get::<i64, _>("sessions")?);
    let comment: Option<String> = row.try_get("comment")?;
    let nameless: String = row.try_get("nameless")?;
    let nameless: serde_json::Value = serde_json::from_str(&nameless).unwrap_or_default();
    let alone = nameless.as_array().is_some_and(Vec::is_empty);
    let mut evidence = json!({
        "asked": "pg_roles and pg_stat_activity",
        "role": plan.role,
        "roles": roles,
        "sessions": sessions,
        "sessions_without_role": nameless,
        "server_version": row.try_get::<String, _>("version")?,
        "system_identifier": row.try_get::<Option<String>, _>("system")?,
        "checked_at": row.try_get::<String, _>("checked_at")?,
    });
    if roles == 0 && sessions == 0 && alone {
        return Ok(Presence::Absent(evidence));
    }
    if let Some(map) = evidence.as_object_mut() {
        if roles > 0 {
            map.insert("comment".into(), comment.into());
        }
        if !alone {
            let todo = "sessions whose role was dropped cannot be told apart; end them with pg_terminate_backend(pid)";
            map.insert("to_do".into(), todo.into());
        }
    }
    Ok(Presence::Present(evidence))
}

/// All roles of ours: named like a grant, and with the comment of that very grant.
pub(super) async fn sweep(client: &Client, settings: &Settings) -> Result<Vec<Found>, Fault> {
    let all = facts_sql(&format!("r.rolname LIKE {}", literal(r"tg\_%")));
    let rows = client.batch(&format!("SELECT pg_is_in_recovery() AS standby; {all}")).await?;
    let Some((first, rows)) = rows.split_first() else {
        return Err(Fault::Unavailable("the server gave no answer".into()));
    };
    if first.try_get("standby").map_err(unreadable)? {
        return Err(Fault::Unavailable("a standby answered, which may lag behind; point `host` to the primary".into()));
    }
    let mut found = Vec::new();
    for (name, facts) in read_facts(rows)? {
        let Some(grant) = grant_of_object(&name) else { continue };
        if facts.ours(&mark_of(&settings.mark, grant)) {
            let recipe = recipe(grant, settings)?;
            found.push(Found { object: name, grant, native_expiry: facts.valid_until, data: recipe.data });
        }
    }
    Ok(found)
}
