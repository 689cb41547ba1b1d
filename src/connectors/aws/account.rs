//! How the broker comes into AWS, and one call with its retries.
//!
//! Credentials are AWS's own affair: a credentials file, or whatever the default chain of the SDK finds (environment,
//! web identity, container, instance). They are fetched once, and again shortly before their end or as soon as AWS
//! refuses them.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    retry::RetryConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_sts::operation::assume_role::{AssumeRoleOutput, builders::AssumeRoleFluentBuilder};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::{ApiError, Arn};
use crate::{
    connectors::{Parts, call::limit},
    domain::catalog::TargetConfig,
    ports::{clock::Clock, connector::Fault, entropy::Entropy},
};

/// Tries of one call that AWS is too busy for.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(80);
/// Credentials that end sooner are fetched anew.
const NEAR_END: Duration = Duration::from_mins(2);

/// How the broker itself comes in: `[target.settings.broker]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// A shared credentials file of AWS; the SDK's default chain without it.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Profile in that file.
    #[serde(default)]
    pub profile: Option<String>,
    /// Region whose STS is asked; the environment's without it.
    #[serde(default)]
    pub region: Option<String>,
    /// Another endpoint for STS and IAM: `https`, or `http` on this machine.
    #[serde(default)]
    pub endpoint_url: Option<Url>,
}

impl Broker {
    /// Read and check; the text names the field.
    pub fn checked(&self) -> Result<(), String> {
        if self.profile.is_some() && self.credentials_file.is_none() {
            return Err("settings.broker: `profile` needs `credentials_file`".into());
        }
        if let Some(url) = &self.endpoint_url {
            let here = url.host_str().is_some_and(|h| matches!(h, "127.0.0.1" | "[::1]" | "localhost"));
            if url.scheme() != "https" && !(url.scheme() == "http" && here) {
                return Err("settings.broker: `endpoint_url` must be https, or http on this machine".into());
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(
                    "settings.broker: `endpoint_url` holds no name and no password: see `credentials_file`".into()
                );
            }
        }
        Ok(())
    }
}

/// Who the broker is, as AWS sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `arn:aws:iam::…:user/…`, `arn:aws:sts::…:assumed-role/…`.
    pub arn: String,
    /// Twelve digits.
    pub account: String,
}

impl Caller {
    /// Is the broker in a role itself? A role that it assumes then is chained, and lasts an hour at most.
    pub fn is_in_a_role(&self) -> bool {
        self.arn.contains(":assumed-role/")
    }
}

/// One AWS account (STS and IAM) as the broker comes into it.
pub struct Account {
    broker: Broker,
    partition: String,
    number: String,
    limit: Duration,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(super) http: reqwest::Client,
    session: Mutex<Option<Arc<Session>>>,
}

/// What lasts as long as one set of credentials.
pub struct Session {
    credentials: Credentials,
    sts: aws_sdk_sts::Client,
    caller: OnceCell<Caller>,
}

/// The broker's clock, for signatures.
struct BrokerTime(Arc<dyn Clock>);

impl fmt::Debug for BrokerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrokerTime")
    }
}

impl TimeSource for BrokerTime {
    fn now(&self) -> SystemTime {
        let micros = u64::try_from(self.0.now().micros()).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }
}

impl Account {
    /// The account that `of` is in, from configuration. Calls nobody yet.
    pub fn new(broker: &Broker, of: &Arn, config: &TargetConfig, parts: &Parts) -> Result<Self, String> {
        broker.checked()?;
        let limit = limit(config);
        #[allow(
            clippy::disallowed_methods,
            reason = "the connector's own client: with time-outs and without redirects"
        )]
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limit)
            .timeout(limit)
            .build()
            .map_err(|e| format!("no HTTP client: {e}"))?;
        Ok(Self {
            broker: broker.clone(),
            partition: of.partition().to_owned(),
            number: of.account().to_owned(),
            limit,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            http,
            session: Mutex::default(),
        })
    }

    /// Who the broker is; asked once for each set of credentials.
    pub async fn caller(&self) -> Result<Caller, Fault> {
        Ok(self.call("STS", |session| Box::pin(async move { session.caller().await })).await?)
    }

    /// The account's number.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// IAM's calls name no account: with keys of another one they would be answered, and answer for that one.
    pub(super) async fn must_be_ours(&self, session: &Session) -> Result<(), ApiError> {
        let caller = session.caller().await?;
        if caller.account == self.number {
            return Ok(());
        }
        Err(ApiError::unreachable(format!(
            "the broker's credentials are of account {}, and the target is in account {}: nothing is asked or believed \
             with them",
            caller.account, self.number
        )))
    }

    /// Assume a role.
    pub async fn assume_role(
        &self,
        with: impl Fn(AssumeRoleFluentBuilder) -> AssumeRoleFluentBuilder + Sync + Send,
    ) -> Result<AssumeRoleOutput, ApiError> {
        let call = |session: Arc<Session>| -> BoxFuture<'_, Result<AssumeRoleOutput, ApiError>> {
            let call = with(session.sts.assume_role());
            Box::pin(async move { call.send().await.map_err(|e| ApiError::of_sdk(&e)) })
        };
        self.call("STS", call).await
    }

    /// One call: again if AWS is busy, and once with fresh credentials if it refuses those that we have.
    pub(super) async fn call<'a, T: Send>(
        &'a self,
        what: &str,
        call: impl Fn(Arc<Session>) -> BoxFuture<'a, Result<T, ApiError>> + Send + Sync,
    ) -> Result<T, ApiError> {
        let tries = async {
            let mut renewed = false;
            let mut tried = 0;
            loop {
                let session = self.session().await?;
                match call(Arc::clone(&session)).await {
                    Err(e) if e.is_about_credentials() && !renewed => {
                        renewed = true;
                        self.forget(&session).await;
                    }
                    Err(e) if e.is_busy() && tried < TRIES => {
                        tried += 1;
                        tokio::time::sleep(self.pause(tried)).await;
                    }
                    answer => return answer,
                }
            }
        };
        match tokio::time::timeout(self.limit, tries).await {
            Ok(answer) => answer,
            Err(_) => Err(ApiError::unreachable(format!("{what} did not answer within {} s", self.limit.as_secs()))),
        }
    }

    /// Up to twice as long each time, at random, so that many do not come back together.
    fn pause(&self, tried: u32) -> Duration {
        let mut random = [0_u8; 1];
        // Without randomness the pause is only less even.
        let _ = self.entropy.fill(&mut random);
        PAUSE.saturating_mul(1 << tried.min(4)).mul_f64(0.25 + f64::from(random[0]) / 340.0)
    }

    async fn forget(&self, old: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|now| Arc::ptr_eq(now, old)) {
            *session = None;
        }
    }

    /// What the credentials of now opened. Credentials that end soon are left in time, and a session with them.
    async fn session(&self) -> Result<Arc<Session>, ApiError> {
        let mut session = self.session.lock().await;
        let soon = self.time() + NEAR_END;
        if let Some(session) = session.as_ref()
            && session.credentials.expiry().is_none_or(|end| end > soon)
        {
            return Ok(Arc::clone(session));
        }
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .time_source(SharedTimeSource::new(BrokerTime(Arc::clone(&self.clock))))
            // The tries are counted in one place, for STS and IAM alike.
            .retry_config(RetryConfig::disabled());
        if let Some(file) = &self.broker.credentials_file {
            let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file).build();
            let config = ProviderConfig::without_region().with_http_client(http);
            let mut provider = ProfileFileCredentialsProvider::builder().configure(&config).profile_files(files);
            if let Some(profile) = &self.broker.profile {
                provider = provider.profile_name(profile);
            }
            loader = loader.credentials_provider(provider.build());
        }
        if let Some(region) = &self.broker.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &self.broker.endpoint_url {
            loader = loader.endpoint_url(url.as_str());
        }
        let config = loader.load().await;
        let credentials = obtained(&config).await?;
        // STS and IAM are asked with the same ones: who the broker is holds for both.
        let config =
            config.to_builder().credentials_provider(SharedCredentialsProvider::new(credentials.clone())).build();
        let made = Session { credentials, sts: aws_sdk_sts::Client::new(&config), caller: OnceCell::new() };
        Ok(Arc::clone(session.insert(Arc::new(made))))
    }

    /// Where IAM is, and the region that its signatures name.
    pub(super) fn iam_endpoint(&self) -> (String, &'static str) {
        let (url, region) = match self.partition.as_str() {
            "aws-cn" => ("https://iam.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
            "aws-us-gov" => ("https://iam.us-gov.amazonaws.com/", "us-gov-west-1"),
            _ => ("https://iam.amazonaws.com/", "us-east-1"),
        };
        (self.broker.endpoint_url.as_ref().map_or_else(|| url.to_owned(), ToString::to_string), region)
    }

    pub(super) fn time(&self) -> SystemTime {
        BrokerTime(Arc::clone(&self.clock)).now()
    }
}

impl Session {
    /// The credentials that it is made with.
    pub(super) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Who they are of.
    async fn caller(&self) -> Result<Caller, ApiError> {
        let ask = || async {
            let said = self.sts.get_caller_identity().send().await.map_err(|e| ApiError::of_sdk(&e))?;
            let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
            Ok(Caller { arn: text(said.arn()), account: text(said.account()) })
        };
        self.caller.get_or_try_init(ask).await.cloned()
    }
}

async fn obtained(config: &SdkConfig) -> Result<Credentials, ApiError> {
    let none = || ApiError::unreachable("the broker has no AWS credentials: see `settings.broker`");
    let provider = config.credentials_provider().ok_or_else(none)?;
    provider.provide_credentials().await.map_err(|e| {
        let mut cause: &dyn std::error::Error = &e;
        while let Some(next) = cause.source() {
            cause = next;
        }
        ApiError::unreachable(format!("the broker's AWS credentials cannot be had: {cause}"))
    })
}
