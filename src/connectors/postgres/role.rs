//! The temporary role: how it is found, opened, and given a password.
//!
//! Never touches a role whose comment does not say that it is ours, and never puts a password into a statement:
//! the server gets a SCRAM verifier.

use serde::{Deserialize, Serialize};
use sqlx::{Row, postgres::PgRow};

use super::{
    client::{Client, code},
    config::{Parameters, Settings, Tls, ident, literal, mark_of},
    revoke, scram,
};
use crate::{
    domain::{
        grant::{Intent, Recipe, grant_of_object, object_name},
        id::GrantId,
        secret::Minted,
        time::Timestamp,
    },
    failpoint,
    ports::{connector::Fault, entropy::Entropy},
};

/// What a recipe holds beside the role's name: the settings that decide how the role ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    /// What the role's comment begins with.
    pub mark: String,
    /// Who receives what the role owns.
    pub reassign_to: Option<String>,
    /// Or it is dropped.
    pub drop_owned: bool,
}

/// A recipe, read back and checked: everything in it goes into SQL.
pub(super) struct Plan {
    /// The role's name: `tg_<ulid>`.
    pub role: String,
    /// The grant.
    pub grant: GrantId,
    /// The role's comment.
    pub mark: String,
    /// How the role ends.
    pub data: Data,
}

/// The recipe of a grant under these settings.
pub(super) fn recipe(grant: GrantId, settings: &Settings) -> Result<Recipe, Fault> {
    let data = Data {
        mark: settings.mark.clone(),
        reassign_to: settings.reassign_to.clone(),
        drop_owned: settings.drop_owned,
    };
    let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
    Ok(Recipe { grant, object: role_of(grant), data })
}

fn role_of(grant: GrantId) -> String {
    object_name(grant).replace('-', "_")
}

impl Plan {
    pub(super) fn read(recipe: &Recipe) -> Result<Self, Fault> {
        if !recipe.object.starts_with("tg_") || grant_of_object(&recipe.object) != Some(recipe.grant) {
            return Err(Fault::Refused(format!("the recipe of {} does not name its role", recipe.grant)));
        }
        let data = Data::deserialize(&recipe.data)
            .map_err(|e| Fault::Refused(format!("the recipe of {} cannot be read: {e}", recipe.grant)))?;
        Ok(Self { role: recipe.object.clone(), grant: recipe.grant, mark: mark_of(&data.mark, recipe.grant), data })
    }
}

/// What `pg_roles` and its comment say of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub oid: i64,
    pub comment: Option<String>,
    pub valid_until: Option<Timestamp>,
    pub connection_limit: i32,
    pub member_of: Vec<String>,
}

impl Facts {
    /// Ours, or somebody else's?
    pub(super) fn ours(&self, mark: &str) -> bool {
        self.comment.as_deref().is_some_and(|c| c == mark || c.strip_prefix(mark).is_some_and(|r| r.starts_with(' ')))
    }

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let member_of: String = row.try_get("member_of")?;
        Ok(Self {
            oid: row.try_get("oid")?,
            comment: row.try_get("comment")?,
            valid_until: row.try_get::<Option<i64>, _>("valid_until")?.map(Timestamp::from_micros),
            connection_limit: row.try_get("connection_limit")?,
            member_of: serde_json::from_str(&member_of).unwrap_or_default(),
        })
    }

    fn report(&self, role: &str) -> serde_json::Value {
        serde_json::json!({
            "role": role,
            "valid_until": self.valid_until,
            "member_of": self.member_of,
            "connection_limit": (self.connection_limit >= 0).then_some(self.connection_limit),
        })
    }
}

/// Facts of the roles that a condition on `r` selects; the condition is ours and quoted.
pub(super) fn facts_sql(condition: &str) -> String {
    format!(
        "SELECT r.rolname::text AS name, r.oid::int8 AS oid, shobj_description(r.oid, 'pg_authid') AS comment, \
         CASE WHEN isfinite(r.rolvaliduntil) THEN (extract(epoch FROM r.rolvaliduntil) * 1000000)::int8 END AS valid_until, \
         r.rolconnlimit AS connection_limit, \
         (SELECT coalesce(json_agg(g.rolname ORDER BY g.rolname), '[]')::text FROM pg_auth_members m \
          JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid) AS member_of \
         FROM pg_roles r WHERE {condition}"
    )
}

/// Rows of [`facts_sql`], with the roles' names.
pub(super) fn read_facts(rows: &[PgRow]) -> Result<Vec<(String, Facts)>, Fault> {
    let read = |row: &PgRow| Ok::<_, sqlx::Error>((row.try_get("name")?, Facts::read(row)?));
    rows.iter().map(|row| read(row).map_err(unreadable)).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
pub(super) fn unreadable(error: sqlx::Error) -> Fault {
    Fault::Unavailable(format!("the server's answer could not be read: {error}"))
}

/// The role of that name: none, ours, or [`Fault::Foreign`].
pub(super) async fn find(client: &Client, plan: &Plan) -> Result<Option<Facts>, Fault> {
    let rows = client.batch(&facts_sql(&format!("r.rolname = {}", literal(&plan.role)))).await?;
    match read_facts(&rows)?.pop() {
        Some((_, facts)) if !facts.ours(&plan.mark) => Err(Fault::Foreign(format!(
            "role `{}` exists, and its comment does not say `{}`; drop or rename it, or restore the comment",
            plan.role, plan.mark
        ))),
        other => Ok(other.map(|(_, facts)| facts)),
    }
}

/// Create the role, or make the one that is there what it should be. It cannot log in before [`mint`].
pub(super) async fn activate(
    client: &Client,
    intent: &Intent,
    parameters: &Parameters,
) -> Result<serde_json::Value, Fault> {
    let plan = Plan::read(&intent.recipe)?;
    let until = instant(intent.not_after)?;
    // Three tries: somebody may create or drop the role between our looking and our acting.
    let mut last = Fault::Unavailable("the role changed under our hands".into());
    for _ in 0..3 {
        let sql = match find_first(client, &plan, &until, parameters).await? {
            Step::Done(facts) => {
                failpoint::hit("postgres.activate.called");
                return Ok(facts.report(&plan.role));
            }
            Step::Adopt(facts) => adopt_sql(&plan, &until, parameters, &facts),
        };
        match client.batch(&sql).await {
            Ok(rows) => {
                failpoint::hit("postgres.activate.called");
                if let Some((_, facts)) = read_facts(&rows)?.pop() {
                    return Ok(facts.report(&plan.role));
                }
            }
            Err(e) if [code::UNDEFINED_OBJECT, code::INTERNAL].contains(&e.code.as_str()) => last = e.fault,
            Err(e) => return Err(e.fault),
        }
    }
    Err(last)
}

enum Step {
    Done(Facts),
    Adopt(Facts),
}

/// One round trip creates the role, and only if that fails because it is there, another one looks at it.
async fn find_first(client: &Client, plan: &Plan, until: &str, parameters: &Parameters) -> Result<Step, Fault> {
    match client.batch(&create_sql(plan, until, parameters)).await {
        Ok(rows) => match read_facts(&rows)?.pop() {
            Some((_, facts)) => Ok(Step::Done(facts)),
            None => Err(Fault::Unavailable(format!("the server made role `{}` and does not show it", plan.role))),
        },
        Err(e) if e.code == code::DUPLICATE_OBJECT => match find(client, plan).await? {
            Some(facts) => Ok(Step::Adopt(facts)),
            None => Err(Fault::Unavailable(format!("role `{}` came and went", plan.role))),
        },
        Err(e) => Err(e.fault),
    }
}

/// All or nothing: statements of one simple query are one transaction.
fn create_sql(plan: &Plan, until: &str, parameters: &Parameters) -> String {
    let role = ident(&plan.role);
    let limit = parameters.connection_limit.map_or(-1, i32::from);
    let roles = parameters.roles.iter().map(|r| ident(r)).collect::<Vec<_>>().join(", ");
    let timeout = timeout_sql(&role, parameters);
    format!(
        "CREATE ROLE {role} NOLOGIN CONNECTION LIMIT {limit} VALID UNTIL {until} IN ROLE {roles}; \
         COMMENT ON ROLE {role} IS {}; {timeout}{}",
        literal(&plan.mark),
        facts_sql(&format!("r.rolname = {}", literal(&plan.role)))
    )
}

fn adopt_sql(plan: &Plan, until: &str, parameters: &Parameters, facts: &Facts) -> String {
    let role = ident(&plan.role);
    let limit = parameters.connection_limit.map_or(-1, i32::from);
    let missing = parameters.roles.iter().filter(|r| !facts.member_of.contains(r));
    let surplus = facts.member_of.iter().filter(|r| !parameters.roles.contains(r));
    let grants = missing.map(|r| format!("GRANT {} TO {role}; ", ident(r))).collect::<Vec<_>>().concat();
    let revokes = surplus.map(|r| format!("REVOKE {} FROM {role}; ", ident(r))).collect::<Vec<_>>().concat();
    let timeout = timeout_sql(&role, parameters);
    format!(
        "ALTER ROLE {role} CONNECTION LIMIT {limit} VALID UNTIL {until}; {revokes}{grants}\
         ALTER ROLE {role} RESET ALL; {timeout}{}",
        facts_sql(&format!("r.rolname = {}", literal(&plan.role)))
    )
}

fn timeout_sql(role: &str, parameters: &Parameters) -> String {
    parameters
        .statement_timeout_ms()
        .map(|ms| format!("ALTER ROLE {role} SET statement_timeout = {ms}; "))
        .unwrap_or_default()
}

/// An instant as PostgreSQL reads it, quoted.
fn instant(at: Timestamp) -> Result<String, Fault> {
    let text = at.to_string();
    if text.ends_with('Z') && text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(literal(&text));
    }
    Err(Fault::Refused(format!("PostgreSQL cannot keep the instant {text}")))
}

/// Let the role log in with a new password, and end the sessions that were opened with an earlier one.
pub(super) async fn mint(
    client: &Client,
    entropy: &dyn Entropy,
    intent: &Intent,
    settings: &Settings,
    parameters: &Parameters,
) -> Result<Minted, Fault> {
    let plan = Plan::read(&intent.recipe)?;
    let until = instant(intent.not_after)?;
    let Some(facts) = find(client, &plan).await? else {
        return Err(Fault::Refused(format!("role `{}` is not there; its grant was ended or never opened", plan.role)));
    };
    let random = |e| Fault::Unavailable(format!("no password could be made: {e}"));
    let mut salt = [0_u8; 16];
    entropy.fill(&mut salt).map_err(random)?;
    let password = entropy.text(32).map_err(random)?;
    let (password, verifier) = tokio::task::spawn_blocking(move || {
        let verifier = scram::verifier(password.expose(), &salt);
        (password, verifier)
    })
    .await
    .map_err(|_| Fault::Unavailable("no password could be made".into()))?;
    let sql = format!(
        "BEGIN; ALTER ROLE {} LOGIN VALID UNTIL {until} PASSWORD {}; COMMIT; \
         SELECT rolcanlogin AS login FROM pg_roles WHERE rolname = {}; {}",
        ident(&plan.role),
        literal(&verifier),
        literal(&plan.role),
        revoke::cut_sql(facts.oid)
    );
    let rows = client.batch(&sql).await?;
    failpoint::hit("postgres.mint.called");
    // A server that says "done" and does nothing has given nobody a login.
    if rows.first().and_then(|row| row.try_get("login").ok()) != Some(true) {
        return Err(Fault::Unavailable(format!("the server gave role `{}` a password and lets nobody in", plan.role)));
    }
    revoke::wait_until_cut(client, facts.oid, &rows).await?;
    let mut public = public(&plan, settings, parameters);
    if let Some(file) = settings.tls_root_cert.as_ref().filter(|_| settings.tls == Tls::VerifyFull)
        && let Ok(authority) = tokio::fs::read_to_string(file).await
    {
        // Without it the holder's libpq would not know the server.
        public.insert("tls_root_cert".into(), authority.into());
    }
    Ok(Minted { public, secrets: vec![("password".into(), password)], expires_at: intent.not_after })
}

fn public(plan: &Plan, settings: &Settings, parameters: &Parameters) -> serde_json::Map<String, serde_json::Value> {
    let databases = parameters.databases.as_deref().unwrap_or(&settings.databases);
    let mut it = serde_json::Map::new();
    it.insert("host".into(), settings.holder_host().into());
    it.insert("port".into(), settings.holder_port().into());
    it.insert("database".into(), databases.first().map_or(settings.database.as_str(), String::as_str).into());
    it.insert("databases".into(), databases.into());
    it.insert("username".into(), plan.role.as_str().into());
    it.insert("sslmode".into(), settings.tls.as_str().into());
    it
}
