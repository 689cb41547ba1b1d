//! Taking a role away in small steps that can each be repeated: no new logins → cut sessions → clean what it owns →
//! drop. Each step is one round trip; cleaning is skipped where the server says that nothing depends on the role.
//!
//! Never stops at an object that the role owns: `DROP ROLE` alone would, and dead roles would pile up.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};

use super::{
    client::{Client, Failure, Session, code},
    config::{ident, literal},
    role::{Plan, find, unreadable},
};
use crate::{failpoint, ports::connector::Fault};

/// How long sessions may take to end once they are told to.
const CUT_WITHIN: Duration = Duration::from_secs(5);

/// Take the role away; one that is not there is done.
pub(super) async fn revoke(client: &Client, plan: &Plan) -> Result<(), Fault> {
    let mut last = Fault::Unavailable(format!("role `{}` changed under our hands", plan.role));
    // Somebody else (another broker, an administrator) may drop or change the role between two of our steps, and
    // something may come to depend on it: look again.
    for _ in 0..4 {
        match once(client, plan).await {
            Ok(()) => return Ok(()),
            Err(e) if [code::UNDEFINED_OBJECT, code::INTERNAL, code::DEPENDENT_OBJECTS].contains(&e.code.as_str()) => {
                last = if e.code == code::DEPENDENT_OBJECTS { in_the_way(plan, &e.fault) } else { e.fault };
            }
            Err(e) => return Err(e.fault),
        }
    }
    Err(last)
}

/// Only who gave a right, or stands above, can take it back: a superuser gave the role rights of its own, or others
/// built on what it made.
fn in_the_way(plan: &Plan, fault: &Fault) -> Fault {
    let role = ident(&plan.role);
    Fault::Refused(format!(
        "{fault}; {role} cannot log in any more, and its sessions are cut; what is in the way needs somebody with more \
         rights: in each database named, run DROP OWNED BY {role};"
    ))
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { code: String::new(), fault }
    }
}

async fn once(client: &Client, plan: &Plan) -> Result<(), Failure> {
    let Some(facts) = find(client, plan).await? else { return Ok(()) };
    let role = ident(&plan.role);

    // Deny new logins, durably, before sessions are cut: otherwise a client that reconnects would win.
    let rows = client
        .batch(&format!(
            "BEGIN; ALTER ROLE {role} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'; COMMIT; {}",
            cut_sql(facts.oid)
        ))
        .await?;
    failpoint::hit("postgres.revoke.nologin");
    let cut = wait_until_cut(client, facts.oid, &rows).await?;
    failpoint::hit("postgres.revoke.cut");

    // What sessions left is known only now that they have ended.
    let left = if cut == 0 { rows } else { client.batch(&cut_sql(facts.oid)).await? };
    for database in databases(&left)? {
        clean(client, plan, database.as_deref()).await?;
    }
    failpoint::hit("postgres.revoke.cleaned");

    // A login that was being let in when logins were denied shows itself by the role's number, also after the drop.
    let rows = client.batch(&format!("BEGIN; DROP ROLE IF EXISTS {role}; COMMIT; {}", cut_sql(facts.oid))).await?;
    failpoint::hit("postgres.revoke.dropped");
    wait_until_cut(client, facts.oid, &rows).await?;
    Ok(())
}

/// End the role's sessions, count them, and list the databases in which something depends on the role.
pub(super) fn cut_sql(oid: i64) -> String {
    format!(
        "SELECT (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a WHERE a.usesysid = {oid}) AS cut, \
         (SELECT coalesce(json_agg(x.datname), '[]')::text FROM (\
           SELECT d.datname FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid \
           WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = {oid} \
           UNION SELECT p.database FROM pg_prepared_xacts p JOIN pg_roles r ON r.rolname = p.owner \
           WHERE r.oid = {oid}) x) AS databases"
    )
}

fn cut(rows: &[PgRow]) -> Result<i64, Fault> {
    rows.last().map_or(Ok(0), |row| row.try_get("cut").map_err(unreadable))
}

/// `None` is for objects that belong to no database: tablespaces, databases, rights on them.
fn databases(rows: &[PgRow]) -> Result<Vec<Option<String>>, Fault> {
    let text: String =
        rows.last().map_or_else(|| Ok("[]".into()), |row| row.try_get("databases").map_err(unreadable))?;
    serde_json::from_str(&text).map_err(|e| Fault::Unavailable(format!("the server's answer could not be read: {e}")))
}

/// Go on ending sessions until the server shows none; `rows` is the first answer. Says how many there were at first.
pub(super) async fn wait_until_cut(client: &Client, oid: i64, rows: &[PgRow]) -> Result<i64, Fault> {
    let first = cut(rows)?;
    let mut left = first;
    let (mut pause, mut waited) = (Duration::from_millis(5), Duration::ZERO);
    while left > 0 {
        if waited >= CUT_WITHIN {
            return Err(Fault::Unavailable(format!("{left} sessions were told to end and are still there")));
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(250));
        left = cut(&client.batch(&cut_sql(oid)).await?)?;
    }
    Ok(first)
}

/// Hand over or drop what the role owns in one database, and take back every right that it was given there.
async fn clean(client: &Client, plan: &Plan, database: Option<&str>) -> Result<(), Failure> {
    let mut session = match client.open(database).await {
        // Dropped since we asked, and everything in it.
        Err(e) if database.is_some() && e.code == code::UNDEFINED_DATABASE => return Ok(()),
        other => other?,
    };
    let cleaned = clean_in(&mut session, plan).await;
    session.close().await;
    cleaned
}

async fn clean_in(session: &mut Session<'_>, plan: &Plan) -> Result<(), Failure> {
    let (role, name) = (ident(&plan.role), literal(&plan.role));
    let rows = session
        .batch(&format!(
            "SELECT pg_has_role({name}, 'USAGE') AS able, \
             (SELECT coalesce(json_agg(quote_literal(gid)), '[]')::text FROM pg_prepared_xacts \
              WHERE owner = {name} AND database = current_database()) AS prepared, \
             (SELECT coalesce(string_agg(format('ALTER ROUTINE %s SECURITY INVOKER; ', p.oid::regprocedure), ''), '') \
              FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner \
              WHERE r.rolname = {name} AND p.prosecdef AND p.prokind IN ('f', 'p')) AS harmless"
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let able: bool = row.try_get("able").map_err(unreadable)?;
    let prepared: String = row.try_get("prepared").map_err(unreadable)?;
    // A function that runs with its owner's rights must not become one that runs with the next owner's.
    let harmless: String = row.try_get("harmless").map_err(unreadable)?;

    // Only a member may hand over; the membership goes with the role.
    let join = if able { String::new() } else { format!("GRANT {role} TO CURRENT_USER; ") };
    let prepared: Vec<String> = serde_json::from_str(&prepared).unwrap_or_default();
    if !prepared.is_empty() {
        session.batch(&format!("{join}SET ROLE {role}")).await?;
        for gid in prepared {
            session.batch(&format!("ROLLBACK PREPARED {gid}")).await?;
        }
        session.batch("RESET ROLE").await?;
    }
    let clean = match &plan.data.reassign_to {
        Some(heir) if !plan.data.drop_owned => {
            format!("{harmless}REASSIGN OWNED BY {role} TO {}; DROP OWNED BY {role}", ident(heir))
        }
        // Databases and tablespaces are not dropped by `DROP OWNED`; nobody's data is destroyed that way.
        _ => format!("DROP OWNED BY {role}; REASSIGN OWNED BY {role} TO CURRENT_USER"),
    };
    session.batch(&format!("BEGIN; {join}{clean}; COMMIT")).await?;
    Ok(())
}
