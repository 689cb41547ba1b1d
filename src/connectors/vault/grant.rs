//! A grant at the server: a token role of its own, named after it. Every token that is made through the role has the
//! role's name and our mark in its path, so that the grant's tokens, and with them all leases that they hold, are found
//! and ended by name, whether the ledger heard of them or not.
//!
//! Never touches a role without our mark, and never keeps a token: it is used for one read and forgotten.

use std::{collections::HashMap, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vaultrs::api::token::requests::{CreateRoleTokenRequest, SetTokenRoleRequest};

use super::{
    client::{Client, Failure, Lease},
    config::{Data, Parameters, Plan, Settings, is_mark, is_path},
};
use crate::{
    domain::{
        grant::{Claim, Intent, Recipe, grant_of_object, object_name},
        id::GrantId,
        secret::{Minted, Secret},
        time::Timestamp,
    },
    failpoint,
    ports::connector::{Fault, Found, Presence},
};

/// Look-ups at once.
const WIDTH: usize = 8;
/// How long the server is given to end what it knows to have expired.
const PATIENCE: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// Clocks may differ by this many seconds.
const SKEW: i64 = 60;

/// What the server says of a token role.
#[derive(Debug, Deserialize)]
struct Role {
    #[serde(default)]
    path_suffix: String,
    #[serde(default)]
    token_explicit_max_ttl: i64,
}

/// The recipe of a grant.
pub(super) fn recipe(grant: GrantId, settings: &Settings, parameters: &Parameters) -> Result<Recipe, Fault> {
    let data = Data { mark: settings.mark.clone(), paths: vec![parameters.path.clone()] };
    let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
    Ok(Recipe { grant, object: object_name(grant), data })
}

impl Plan {
    pub(super) fn read(recipe: &Recipe) -> Result<Self, Fault> {
        let wrong = |what: &str| Fault::Refused(format!("the recipe of {} {what}", recipe.grant));
        if recipe.object != object_name(recipe.grant) {
            return Err(wrong("does not name its token role"));
        }
        let data = Data::deserialize(&recipe.data).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
        if !is_mark(&data.mark) || !data.paths.iter().all(|path| is_path(path)) {
            return Err(wrong("has a mark or a path that cannot be"));
        }
        Ok(Self { role: recipe.object.clone(), grant: recipe.grant, data })
    }

    /// Where the leases of the grant's tokens are.
    pub(super) fn tokens(&self) -> String {
        format!("auth/token/create/{}/{}", self.role, self.data.mark)
    }

    fn role_path(&self) -> String {
        format!("auth/token/roles/{}", self.role)
    }

    /// When the grant was made, by its ULID, with some room for clocks.
    fn made(&self) -> i64 {
        i64::try_from(self.grant.ulid().timestamp_ms() / 1000).unwrap_or(0) - SKEW
    }
}

/// The role of that name: none, ours, or [`Fault::Foreign`].
async fn find(client: &Client, plan: &Plan) -> Result<Option<Role>, Failure> {
    match client.call::<Role>(reqwest::Method::GET, &plan.role_path(), None).await {
        Ok(role) if role.path_suffix == plan.data.mark => Ok(Some(role)),
        Ok(role) => Err(Failure {
            status: 0,
            fault: Fault::Foreign(format!(
                "token role `{}` exists, and its path_suffix is `{}`, not `{}`; delete it if it is not needed",
                plan.role, role.path_suffix, plan.data.mark
            )),
        }),
        Err(e) if e.status == 404 => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whole seconds that are left. The server takes none at all for no limit.
fn left(intent: &Intent, now: Timestamp) -> Result<u32, Fault> {
    match intent.not_after.seconds_since(now).seconds() {
        0 => Err(Fault::Refused("less than a second is left of the grant".into())),
        seconds => Ok(seconds),
    }
}

/// Make the role, or move its limit. It opens nothing before [`mint`].
pub(super) async fn activate(client: &Client, intent: &Intent, now: Timestamp) -> Result<Value, Fault> {
    let plan = Plan::read(&intent.recipe)?;
    find(client, &plan).await?;
    let seconds = left(intent, now)?;
    client
        .vaultrs(|vault| {
            let (name, mark) = (plan.role.clone(), plan.data.mark.clone());
            // Tokens without a parent outlive the broker's own token, which is replaced from time to time.
            let mut role = SetTokenRoleRequest::builder();
            role.orphan(true)
                .path_suffix(mark)
                .renewable(false)
                .token_explicit_max_ttl(format!("{seconds}s"))
                .token_no_default_policy(true)
                .token_type("service");
            async move { vaultrs::token::role::set(&vault, &name, Some(&mut role)).await }.boxed()
        })
        .await?;
    failpoint::hit("vault.activate.called");
    match find(client, &plan).await? {
        Some(role) => Ok(json!({
            "token_role": plan.role,
            "token_max_ttl": role.token_explicit_max_ttl,
            "path": plan.data.paths.first(),
        })),
        None => Err(Fault::Unavailable(format!("the server made token role `{}` and does not show it", plan.role))),
    }
}

/// End earlier copies, make a token that lasts to the end of the grant, and read the secret with it.
pub(super) async fn mint(
    client: &Client,
    intent: &Intent,
    claim: &Claim,
    settings: &Settings,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Minted, Fault> {
    let plan = Plan::read(&intent.recipe)?;
    if find(client, &plan).await?.is_none() {
        let text = format!("token role `{}` is not there; its grant was ended or never opened", plan.role);
        return Err(Fault::Refused(text));
    }
    if claim.number > 1 {
        end_tokens(client, &plan).await?;
        end_waiting(client, &plan).await?;
    }
    let seconds = left(intent, now)?;
    let token = client
        .vaultrs(|vault| {
            let name = plan.role.clone();
            let meta = [
                ("tidegate_grant", plan.grant.to_string()),
                ("tidegate_holder", intent.holder_name.clone()),
                ("tidegate_claim", claim.number.to_string()),
            ];
            let mut token = CreateRoleTokenRequest::builder();
            token
                .policies(parameters.policies.clone())
                .no_default_policy(true)
                .renewable(false)
                .ttl(format!("{seconds}s"))
                .explicit_max_ttl(format!("{seconds}s"))
                .display_name(settings.mark.as_str())
                .meta(meta.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<HashMap<_, _>>());
            async move { vaultrs::token::new_role(&vault, &name, Some(&mut token)).await }.boxed()
        })
        .await?;
    let token = Secret::new(token.client_token);
    failpoint::hit("vault.mint.token");
    let leased = client.secret(&parameters.path, parameters.data.as_ref(), token.expose()).await?;
    drop(token);
    failpoint::hit("vault.mint.read");
    if leased.lease_id.is_empty() {
        end_tokens(client, &plan).await?;
        return Err(Fault::Refused(format!(
            "`{}` gives a secret without a lease, which nobody can end; name a path of a dynamic secrets engine",
            parameters.path
        )));
    }
    client.remember(&leased.lease_id, plan.grant);
    // As long as the grant and no longer, as far as the engine lets a lease be moved.
    let mut lasts = leased.lease_duration;
    if leased.renewable && lasts != seconds {
        lasts = client.renew(&leased.lease_id, seconds).await?;
    }
    let lasts = Duration::from_secs(u64::from(lasts));
    let expires_at = now.plus_std(lasts).min(intent.not_after);
    Ok(handover(leased.lease_id, leased.data.unwrap_or_default(), settings, parameters, expires_at))
}

fn handover(
    lease_id: String,
    data: Map<String, Value>,
    settings: &Settings,
    parameters: &Parameters,
    expires_at: Timestamp,
) -> Minted {
    let address = settings.holder_address.as_ref().unwrap_or(&settings.address);
    let mut public = Map::new();
    public.insert("address".into(), address.as_str().trim_end_matches('/').into());
    public.insert("path".into(), parameters.path.as_str().into());
    public.insert("lease_id".into(), lease_id.into());
    let mut secrets = Vec::new();
    for (name, value) in data {
        match value {
            value if parameters.public.contains(&name) => {
                public.insert(name, value);
            }
            Value::Null => {}
            Value::String(text) => secrets.push((name.into(), Secret::new(text))),
            other => secrets.push((name.into(), Secret::new(other.to_string()))),
        }
    }
    Minted { public, secrets, expires_at }
}

/// Take the grant away: its tokens, its role, tokens that were made meanwhile, leases that still wait for their end.
pub(super) async fn revoke(client: &Client, plan: &Plan) -> Result<(), Fault> {
    end_tokens(client, plan).await?;
    failpoint::hit("vault.revoke.tokens");
    // A foreign role stays; only what bears our mark was ended.
    if find(client, plan).await?.is_some() {
        let delete = |vault, name: String| async move { vaultrs::token::role::delete(&vault, &name).await }.boxed();
        client.vaultrs(|vault| delete(vault, plan.role.clone())).await?;
        failpoint::hit("vault.revoke.role");
        end_tokens(client, plan).await?;
    }
    end_waiting(client, plan).await?;
    failpoint::hit("vault.revoke.leases");
    Ok(())
}

/// End every token of the grant. The server ends their leases afterwards, in its own time.
async fn end_tokens(client: &Client, plan: &Plan) -> Result<(), Fault> {
    let path = format!("sys/leases/revoke-prefix/{}", plan.tokens());
    Ok(client.put(&path, &json!({"sync": true})).await?)
}

/// Leases at the grant's path that have expired and are still there, and how many there are beside them. The leases of
/// an ended token are among the expired from the very moment of its end. Issued before the grant was made, or minted
/// here for another grant, they are not its own.
async fn expired(client: &Client, plan: &Plan) -> Result<(Vec<Lease>, usize), Fault> {
    let mut ids = Vec::new();
    for path in &plan.data.paths {
        let names = client.list(&format!("sys/leases/lookup/{path}")).await?;
        ids.extend(names.iter().filter(|name| !name.ends_with('/')).map(|name| format!("{path}/{name}")));
    }
    let all = ids.len();
    ids.retain(|id| !client.is_anothers(id, plan.grant));
    let expired = look_up(client, ids).await?;
    let ours = |lease: &Lease| instant(lease.issue_time.as_deref()).is_none_or(|at| at.seconds() >= plan.made());
    let expired: Vec<Lease> = expired.into_iter().filter(ours).collect();
    let others = all.saturating_sub(expired.len());
    Ok((expired, others))
}

/// Those of these leases that have expired and are still there.
async fn look_up(client: &Client, ids: Vec<String>) -> Result<Vec<Lease>, Fault> {
    let looked = stream::iter(ids).map(|id| async move { client.lease(&id).await }).buffer_unordered(WIDTH);
    let found: Vec<Option<Lease>> = looked.try_collect().await?;
    Ok(found.into_iter().flatten().filter(|lease| lease.ttl <= 0).collect())
}

/// Give the server a moment to end what has expired; what it had not ended by then, and how many are beside them.
async fn waiting(client: &Client, plan: &Plan) -> Result<(Vec<Lease>, usize), Fault> {
    let (mut left, others) = expired(client, plan).await?;
    for pause in PATIENCE {
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        left = look_up(client, left.into_iter().map(|lease| lease.id).collect()).await?;
    }
    Ok((left, others))
}

/// What the server has not ended by itself is ended now. It gives up after some tries of its own; we do not.
async fn end_waiting(client: &Client, plan: &Plan) -> Result<(), Fault> {
    for lease in waiting(client, plan).await?.0 {
        let body = json!({"lease_id": lease.id, "sync": true});
        match client.put("sys/leases/revoke", &body).await {
            Ok(()) => {}
            // Whatever the engine says about the system behind it may be otherwise next time.
            Err(e) => return Err(Fault::Unavailable(format!("a lease could not be ended: {}", e.fault))),
        }
    }
    Ok(())
}

fn instant(text: Option<&str>) -> Option<Timestamp> {
    let at: jiff::Timestamp = text?.parse().ok()?;
    Some(Timestamp::from_micros(at.as_microsecond()))
}

/// Ask the server for the role, the tokens, and leases that wait for their end.
pub(super) async fn verify(client: &Client, plan: &Plan) -> Presence {
    match ask(client, plan).await {
        Ok(presence) => presence,
        Err(fault) => Presence::Unknown(fault.to_string()),
    }
}

async fn ask(client: &Client, plan: &Plan) -> Result<Presence, Fault> {
    let health = client.health().await?;
    let role = match find(client, plan).await {
        Ok(Some(_)) => "ours",
        Ok(None) => "absent",
        // Access through a role that is not ours is not the grant's.
        Err(Failure { fault: Fault::Foreign(_), .. }) => "not ours",
        Err(other) => return Err(other.fault),
    };
    let tokens = client.list(&format!("sys/leases/lookup/{}", plan.tokens())).await?;
    let (waiting, others) = waiting(client, plan).await?;
    let waiting: Vec<String> = waiting.into_iter().map(|lease| lease.id).collect();
    let evidence = json!({
        "asked": "token role, leases of its tokens, leases of the path",
        "token_role": plan.role,
        "role": role,
        "tokens": tokens.len(),
        "paths": plan.data.paths,
        "leases_waiting_for_their_end": waiting,
        "leases_of_others": others,
        "server_version": health.version,
        "cluster_id": health.cluster_id,
        "checked_at": Timestamp::from_seconds(health.server_time_utc),
    });
    Ok(if role == "ours" || !tokens.is_empty() || !waiting.is_empty() {
        Presence::Present(evidence)
    } else {
        Presence::Absent(evidence)
    })
}

/// All grants of ours: roles with our mark, and tokens of ours whose role is gone. `paths` are those of the catalog.
pub(super) async fn sweep(client: &Client, settings: &Settings, paths: &[String]) -> Result<Vec<Found>, Fault> {
    let mut names = client.list("auth/token/roles").await?;
    // With a live token below it, a role's name ends in `/` here.
    names.extend(client.list("sys/leases/lookup/auth/token/create").await?);
    let mut grants: Vec<GrantId> =
        names.iter().filter_map(|name| grant_of_object(name.trim_end_matches('/'))).collect();
    grants.sort_unstable();
    grants.dedup();
    let data = Data { mark: settings.mark.clone(), paths: paths.to_vec() };
    let mut looked = stream::iter(grants).map(|grant| look(client, grant, &data)).buffer_unordered(WIDTH);
    let mut found = Vec::new();
    while let Some(one) = looked.next().await {
        found.extend(one?);
    }
    found.sort_by_key(|one: &Found| one.grant);
    Ok(found)
}

async fn look(client: &Client, grant: GrantId, data: &Data) -> Result<Option<Found>, Fault> {
    let plan = Plan { role: object_name(grant), grant, data: data.clone() };
    let ours = match find(client, &plan).await {
        Ok(role) => role.is_some(),
        Err(Failure { fault: Fault::Foreign(_), .. }) => false,
        Err(other) => return Err(other.fault),
    };
    let prefix = plan.tokens();
    let tokens = client.list(&format!("sys/leases/lookup/{prefix}")).await?;
    let mut native_expiry = None;
    for token in &tokens {
        if let Some(lease) = client.lease(&format!("{prefix}/{token}")).await? {
            native_expiry = native_expiry.max(instant(lease.expire_time.as_deref()));
        }
    }
    if !ours && tokens.is_empty() {
        return Ok(None);
    }
    let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
    Ok(Some(Found { object: plan.role, grant, native_expiry, data }))
}
