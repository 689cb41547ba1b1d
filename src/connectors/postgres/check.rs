//! Is the server there, and are the broker's rights enough? Every finding that is not as it should be comes with the
//! statement to copy. Changes nothing.

use std::{collections::BTreeSet, fmt::Write as _};

use sqlx::{Row, postgres::PgRow};

use super::{
    client::{Client, code},
    config::{Settings, Tls, ident, literal},
    role::unreadable,
};
use crate::{
    domain::capability::Rights,
    ports::connector::{Fault, Finding},
};

/// The broker's own login, as the server sees it.
struct Me {
    superuser: bool,
    /// Since PostgreSQL 16, `CREATEROLE` is not enough to give a role away.
    needs_admin: bool,
}

/// Look at everything that activation and revocation will need. `roles` are the fixed roles of the catalog.
pub(super) async fn check(client: &Client, settings: &Settings, roles: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(fault) = look(client, settings, roles, &mut findings).await {
        let name = if findings.is_empty() { "reachable" } else { "can be looked at" };
        let fix = "check `host`, `port`, `tls`, `user` and `password_file` of the target, and that the server runs";
        findings.push(bad(name, fault.to_string(), fix.into()));
    }
    findings
}

fn good(name: &str, detail: String) -> Finding {
    Finding { name: name.into(), ok: true, detail, fix: None }
}

fn bad(name: &str, detail: String, fix: String) -> Finding {
    Finding { name: name.into(), ok: false, detail, fix: Some(fix) }
}

fn either(ok: bool, name: &str, yes: String, no: String, fix: String) -> Finding {
    if ok { good(name, yes) } else { bad(name, no, fix) }
}

async fn look(
    client: &Client,
    settings: &Settings,
    roles: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let me = look_at_myself(client, settings, findings).await?;
    for role in roles {
        look_at_role(client, settings, &me, role, findings).await?;
    }
    if let Some(heir) = &settings.reassign_to {
        look_at_heir(client, settings, heir, findings).await?;
    }
    for database in &settings.databases {
        findings.push(look_at_database(client, settings, database).await?);
    }
    Ok(())
}

async fn one(client: &Client, sql: &str) -> Result<Option<PgRow>, Fault> {
    Ok(client.batch(sql).await?.pop())
}

fn flag(row: &PgRow, column: &str) -> Result<bool, Fault> {
    row.try_get::<Option<bool>, _>(column).map(Option::unwrap_or_default).map_err(unreadable)
}

async fn look_at_myself(client: &Client, settings: &Settings, findings: &mut Vec<Finding>) -> Result<Me, Fault> {
    let sql = "SELECT current_setting('server_version') AS version, \
               current_setting('server_version_num')::int >= 160000 AS needs_admin, \
               pg_is_in_recovery() AS standby, r.rolsuper AS superuser, \
               r.rolcreaterole OR r.rolsuper AS creator, r.rolinherit OR r.rolsuper AS inherits, \
               pg_has_role('pg_signal_backend', 'USAGE') AS signals, \
               pg_has_role('pg_read_all_stats', 'USAGE') AS sees, \
               coalesce((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false) AS encrypted \
               FROM pg_roles r WHERE r.rolname = current_user";
    let row = one(client, sql).await?.ok_or_else(|| Fault::Unavailable("the server gave no answer".into()))?;
    let version: String = row.try_get("version").map_err(unreadable)?;
    let user = ident(&settings.user);
    findings.push(good("reachable", format!("PostgreSQL {version}")));
    findings.push(either(
        !flag(&row, "standby")?,
        "is the primary",
        "it takes writes".into(),
        "a standby answers; roles cannot be made there".into(),
        "set `host` of the target to the primary server".into(),
    ));
    let local = ["localhost", "127.0.0.1", "::1"].contains(&settings.host.as_str()) || settings.host.starts_with('/');
    findings.push(either(
        flag(&row, "encrypted")? || local,
        "connection is private",
        if local { "on this machine".into() } else { format!("TLS, `{}`", Tls::as_str(settings.tls)) },
        "the connection is in clear text".into(),
        "switch TLS on at the server, and set `tls = \"verify-full\"` at the target".into(),
    ));
    findings.push(either(
        flag(&row, "creator")?,
        "may create roles",
        format!("{user} has CREATEROLE"),
        format!("{user} lacks CREATEROLE"),
        format!("ALTER ROLE {user} CREATEROLE;"),
    ));
    findings.push(either(
        flag(&row, "signals")?,
        "may cut sessions",
        format!("{user} is a member of pg_signal_backend"),
        format!("{user} is not a member of pg_signal_backend"),
        format!("GRANT pg_signal_backend TO {user};"),
    ));
    findings.push(either(
        flag(&row, "sees")?,
        "may see sessions",
        format!("{user} is a member of pg_read_all_stats"),
        format!("{user} is not a member of pg_read_all_stats, so it cannot see when a session began"),
        format!("GRANT pg_read_all_stats TO {user};"),
    ));
    findings.push(either(
        flag(&row, "inherits")?,
        "uses its memberships",
        format!("{user} has INHERIT"),
        format!("{user} has NOINHERIT, so it cannot clean what temporary roles own"),
        format!("ALTER ROLE {user} INHERIT;"),
    ));
    Ok(Me { superuser: flag(&row, "superuser")?, needs_admin: flag(&row, "needs_admin")? })
}

async fn look_at_role(
    client: &Client,
    settings: &Settings,
    me: &Me,
    role: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let (name, quoted, user) = (literal(role), ident(role), ident(&settings.user));
    let sql = format!(
        "SELECT pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION') AS admin, \
         pg_has_role({user_text}, r.oid, 'MEMBER') AS mine, \
         pg_has_role(r.rolname, {user_text}, 'MEMBER') AS above, \
         (SELECT string_agg(p.rolname, ', ' ORDER BY p.rolname) FROM pg_roles p \
          WHERE (p.rolsuper OR p.rolcreaterole OR p.rolreplication \
          OR p.rolname IN ('pg_execute_server_program', 'pg_write_server_files')) AND pg_has_role(r.rolname, p.oid, 'MEMBER')) AS powers \
         FROM pg_roles r WHERE r.rolname = {name}",
        user_text = literal(&settings.user)
    );
    let title = format!("may give role {role}");
    let Some(row) = one(client, &sql).await? else {
        findings.push(bad(&title, format!("role {quoted} does not exist"), format!("CREATE ROLE {quoted} NOLOGIN;")));
        return Ok(());
    };
    let may = me.superuser || !me.needs_admin || flag(&row, "admin")?;
    findings.push(either(
        may,
        &title,
        format!("{user} can make others members of {quoted}"),
        format!("{user} has no ADMIN OPTION on {quoted}"),
        format!("GRANT {quoted} TO {user} WITH ADMIN OPTION;"),
    ));
    // Whoever is a superuser, can make logins, or can become one through the server's files, could outlive the grant.
    let powers: Option<String> = row.try_get("powers").map_err(unreadable)?;
    let ok = powers.is_none() && !flag(&row, "above")?;
    findings.push(either(
        ok,
        &format!("role {role} cannot outlive its grant"),
        format!("a member of {quoted} cannot make logins"),
        format!(
            "a member of {quoted} can become {}, and make logins that nobody takes back",
            powers.clone().unwrap_or_else(|| settings.user.clone())
        ),
        format!(
            "REVOKE {} FROM {quoted};  -- or ALTER ROLE {quoted} NOSUPERUSER NOCREATEROLE NOREPLICATION;",
            powers.unwrap_or_else(|| user.clone())
        ),
    ));
    Ok(())
}

async fn look_at_heir(
    client: &Client,
    settings: &Settings,
    heir: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let (quoted, user) = (ident(heir), ident(&settings.user));
    let sql = format!(
        "SELECT pg_has_role(r.oid, 'USAGE') AS member, r.rolsuper OR r.rolcreaterole AS powerful \
         FROM pg_roles r WHERE r.rolname = {}",
        literal(heir)
    );
    let title = format!("can hand objects to {heir}");
    let Some(row) = one(client, &sql).await? else {
        let fix = format!("CREATE ROLE {quoted} NOLOGIN; GRANT {quoted} TO {user};");
        findings.push(bad(&title, format!("role {quoted} does not exist"), fix));
        return Ok(());
    };
    findings.push(either(
        flag(&row, "member")?,
        &title,
        format!("{user} is a member of {quoted}"),
        format!("{user} is not a member of {quoted}"),
        format!("GRANT {quoted} TO {user};"),
    ));
    findings.push(either(
        !flag(&row, "powerful")?,
        &format!("{heir} is harmless"),
        format!("{quoted} cannot make roles"),
        format!("a view or trigger that a holder leaves behind would run with the rights of {quoted}"),
        "create a role of its own for left-over objects (NOLOGIN, no rights) and name it in `reassign_to`".into(),
    ));
    Ok(())
}

/// The statements that prepare a server, for these settings and the roles that the catalog names.
pub(super) fn rights(settings: &Settings, roles: &BTreeSet<String>) -> Rights {
    let user = ident(&settings.user);
    let mut sql = format!(
        "CREATE ROLE {user} LOGIN CREATEROLE PASSWORD '…';\n\
         GRANT pg_signal_backend, pg_read_all_stats TO {user};\n"
    );
    let example = BTreeSet::from(["app_rw".to_owned()]);
    for role in (if roles.is_empty() { &example } else { roles }).iter().map(|role| ident(role)) {
        let _ = write!(
            sql,
            "\nCREATE ROLE {role} NOLOGIN;  -- and give it the rights that its members are to have\n\
             GRANT {role} TO {user} WITH ADMIN OPTION;  -- needed since PostgreSQL 16\n"
        );
    }
    if let Some(heir) = settings.reassign_to.as_deref().map(ident) {
        let _ = write!(
            sql,
            "\nCREATE ROLE {heir} NOLOGIN;\nGRANT {heir} TO {user};\n\
             GRANT CREATE ON SCHEMA public TO {heir};  -- functions and types cannot change hands without it\n"
        );
    }
    Rights::statements("No superuser. Run this once, on the primary:", "sql", sql)
}

/// The only sure way to know whether the broker is let in is to go there.
async fn look_at_database(client: &Client, settings: &Settings, database: &str) -> Result<Finding, Fault> {
    let title = format!("may clean in database {database}");
    let (quoted, user) = (ident(database), ident(&settings.user));
    match client.open(Some(database)).await {
        Ok(session) => {
            session.close().await;
            Ok(good(&title, format!("{user} can connect to {quoted}")))
        }
        Err(e) if e.code == code::UNDEFINED_DATABASE => {
            let fix = format!("CREATE DATABASE {quoted};  -- or take it out of `databases`");
            Ok(bad(&title, format!("database {quoted} does not exist"), fix))
        }
        Err(e) if e.code.is_empty() => Err(e.fault),
        Err(e) => Ok(bad(&title, e.fault.to_string(), format!("GRANT CONNECT ON DATABASE {quoted} TO {user};"))),
    }
}
