//! The fake beside `tidegate dev`: an account for everybody of the seed.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{APP, CHANNEL, FakeSlack, TEAM};
use crate::{
    app::{compose::Setup, dev::write_private},
    broker::{Arrival, Broker},
    config::SlackConfig,
    domain::{id::CorrelationId, slack::SlackUser},
};

/// Start it, and let the broker reach it over a socket, with fresh tokens in files.
pub async fn beside(setup: &mut Setup) -> anyhow::Result<Arc<FakeSlack>> {
    let fake = FakeSlack::start(0, Arc::clone(&setup.clock), setup.entropy.as_ref()).await?;
    let folder = setup.data_dir.join("fake-slack");
    std::fs::create_dir_all(&folder)?;
    let (bot_token_file, app_token_file) = (folder.join("bot.token"), folder.join("app.token"));
    write_private(&bot_token_file, &fake.bot_token)?;
    write_private(&app_token_file, &fake.app_token)?;
    setup.slack = Some(SlackConfig {
        app_id: APP.to_owned(),
        channel: CHANNEL.to_owned(),
        bot_token_file,
        app_token_file: Some(app_token_file),
        signing_secret_file: None,
        api: Some(fake.api().parse()?),
        allow_loopback: true,
        on_call_group: Some("oncall".to_owned()),
        escalate_after: None,
        remind_every: None,
        quiet: BTreeSet::new(),
    });
    Ok(fake)
}

impl FakeSlack {
    /// An account for each person of the seed, linked as people do it.
    pub async fn populate(&self, broker: &Arc<Broker>, access: &Value) -> anyhow::Result<()> {
        for (name, person) in access.get("people").and_then(Value::as_object).into_iter().flatten() {
            let user = format!("U0{}", name.to_ascii_uppercase());
            self.join(&user, name, &json!({}));
            let account = SlackUser { enterprise: String::new(), team: TEAM.to_owned(), user };
            if person.get("token").is_none() {
                continue;
            }
            let who = broker.person_of_dev(name).await?;
            let arrival = Arrival {
                method: "dev",
                user_agent: String::new(),
                address: String::new(),
                correlation: CorrelationId::new(broker.entropy().ulid(broker.now())?),
                proved_at: None,
            };
            let session = broker.begin_session(&who, &arrival, None).await?;
            let visit = broker.authenticate_session(session.secret.expose()).await?;
            let code = broker.offer_slack_link(&account, name, "").await?;
            broker.link_slack(&visit.ctx, code.expose()).await?;
            broker.end_session(&visit.ctx, visit.session).await?;
        }
        Ok(())
    }
}
