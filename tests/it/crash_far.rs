//! The targets of the crash matrix that are no part of the broker.

use serde_json::{Value, json};

use crate::{
    connectors_aws::credentials,
    connectors_ldap::{self, World as Ldap},
    connectors_postgres::World as Postgres,
    connectors_vault::World as Vault,
    crash_matrix::Kind,
    servers::{moto, openbao, postgres::shared},
};

/// A target that is no part of the broker.
pub enum Far {
    Postgres(Postgres<'static>),
    Vault(Vault<'static>),
    Ldap(Ldap),
    Aws(Aws),
}

impl Far {
    pub async fn new(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Token | Kind::Ssh | Kind::Directory => None,
            Kind::Postgres => Some(Self::Postgres(Postgres::new(shared()).await)),
            Kind::Vault => Some(Self::Vault(Vault::new(openbao::shared().await, shared()).await)),
            Kind::Ldap => Some(Self::Ldap(Ldap::new())),
            Kind::AwsSts | Kind::AwsIamGroup => Some(Self::Aws(Aws::new(kind).await)),
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
