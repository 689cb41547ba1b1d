//! The targets of the crash matrix that are no part of the broker.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    connectors_aws::credentials,
    connectors_ldap::{self, World as Ldap},
    connectors_postgres::World as Postgres,
    connectors_vault::World as Vault,
    crash_matrix::Kind,
    servers::{moto, openbao, postgres::shared, scim::ScimServer},
};

/// Servers of one run of the matrix, started when first asked for.
#[derive(Default)]
pub struct Servers {
    scim: OnceCell<ScimServer>,
}

/// Two groups of one application, with the way there.
pub struct Scim {
    servers: Arc<Servers>,
    /// Names and ids.
    pub groups: Vec<(String, String)>,
    account: String,
}

impl Scim {
    async fn new(servers: &Arc<Servers>) -> Self {
        let start = || async {
            let server = ScimServer::start().await;
            server.plant(json!({"userName": "ana", "active": true})).await;
            server
        };
        let server = servers.scim.get_or_init(start).await;
        let mut groups = Vec::new();
        for what in ["editors", "admins"] {
            let name = moto::unique(what);
            let id = server.make_group(&name).await;
            groups.push((name, id));
        }
        let account = server.user("ana").await.expect("ana")["id"].as_str().unwrap().to_owned();
        Self { servers: Arc::clone(servers), groups, account }
    }

    fn server(&self) -> &ScimServer {
        self.servers.scim.get().expect("it was started")
    }

    pub async fn is_in(&self, group: &str) -> bool {
        self.server().members(group).await.contains(&self.account)
    }
}

/// A target that is no part of the broker.
pub enum Far {
    Postgres(Postgres<'static>),
    Vault(Vault<'static>),
    Ldap(Ldap),
    Aws(Aws),
    Scim(Scim),
}

impl Far {
    pub async fn new(kind: Kind, servers: &Arc<Servers>) -> Option<Self> {
        match kind {
            Kind::Token | Kind::Ssh | Kind::Directory => None,
            Kind::Postgres => Some(Self::Postgres(Postgres::new(shared()).await)),
            Kind::Vault => Some(Self::Vault(Vault::new(openbao::shared().await, shared()).await)),
            Kind::Ldap => Some(Self::Ldap(Ldap::new())),
            Kind::AwsSts | Kind::AwsIamGroup => Some(Self::Aws(Aws::new(kind).await)),
            Kind::ScimGroup => Some(Self::Scim(Scim::new(servers).await)),
        }
    }

    /// Kind of connector, settings of the target, parameters of the two entitlements.
    pub fn described(&self, mark: &str) -> (&'static str, Value, [Value; 2]) {
        let twice = |parameters: Value| [parameters.clone(), parameters];
        match self {
            Self::Postgres(world) => {
                let settings = world.settings(&json!({"mark": mark, "pool_size": 3}));
                ("postgres", Value::Object(settings), twice(json!({"roles": [world.name("app")]})))
            }
            Self::Vault(world) => ("vault", world.settings(), twice(world.parameters())),
            Self::Ldap(world) => {
                let settings = world.settings(&json!({"connections": 2}));
                ("ldap", settings, [json!({"group": connectors_ldap::OPS}), json!({"group": connectors_ldap::ODD})])
            }
            Self::Scim(world) => {
                let parameters = [0, 1].map(|n: usize| json!({"group": world.groups[n].0}));
                ("scim_group", world.server().settings(), parameters)
            }
            Self::Aws(world) => (world.kind, world.settings.clone(), world.parameters.clone()),
        }
    }
}

/// What a case of AWS is about: the role, or the two groups; and who ana is there.
pub struct Aws {
    kind: &'static str,
    settings: Value,
    parameters: [Value; 2],
    pub names: Vec<String>,
    pub user: String,
    _keys: tempfile::TempDir,
}

impl Aws {
    async fn new(kind: Kind) -> Self {
        let (account, keys, user) = (moto::shared(), tempfile::tempdir().unwrap(), moto::unique("user"));
        let broker = json!({
            "credentials_file": credentials(keys.path(), "AKIABROKER", "secret"),
            "region": "us-east-1",
            "endpoint_url": account.url(),
        });
        let (settings, names, parameters) = if kind == Kind::AwsSts {
            let role = account.role().await;
            let parameters = json!({"role": role});
            (json!({"roles": [role], "broker": broker}), vec![role], [parameters.clone(), parameters])
        } else {
            account.iam(&[("Action", "CreateUser"), ("UserName", &user)]).await;
            let mut names = Vec::new();
            for _ in 0..2 {
                let name = moto::unique("group");
                account.iam(&[("Action", "CreateGroup"), ("GroupName", &name)]).await;
                names.push(format!("arn:aws:iam::{}:group/{name}", moto::ACCOUNT));
            }
            let settings =
                json!({"groups": names, "users": {"ana": user}, "between_looks_seconds": 0, "broker": broker});
            let parameters = [0, 1].map(|i: usize| json!({"group": names[i]}));
            (settings, names, parameters)
        };
        let kind = if kind == Kind::AwsSts { "aws_sts" } else { "aws_iam_group" };
        Self { kind, settings, parameters, names, user, _keys: keys }
    }
}
