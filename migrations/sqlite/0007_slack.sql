-- Slack: who acts there as whom, what hangs there and how current it is, which clicks were taken up.

-- One account, one identity; one identity may have several accounts.
CREATE TABLE slack_links (
  enterprise_id TEXT NOT NULL,                  -- '' outside of Enterprise Grid
  team_id       TEXT NOT NULL,
  user_id       TEXT NOT NULL,
  identity_id   TEXT NOT NULL REFERENCES identities (id),
  linked_at     BIGINT NOT NULL,
  PRIMARY KEY (enterprise_id, team_id, user_id)
) WITHOUT ROWID;
CREATE INDEX slack_links_identity ON slack_links (identity_id, linked_at);

-- Single-use codes that an account shows to a signed-in person's browser, as hashes.
CREATE TABLE slack_link_codes (
  hash          BLOB PRIMARY KEY,               -- SHA-256 of the code
  enterprise_id TEXT NOT NULL,
  team_id       TEXT NOT NULL,
  user_id       TEXT NOT NULL,
  shown_name    TEXT NOT NULL,
  avatar        TEXT NOT NULL,
  expires_at    BIGINT NOT NULL,
  used_at       BIGINT
);
CREATE INDEX slack_link_codes_age ON slack_link_codes (expires_at);

-- What hangs in Slack, or is to. Content is never kept here: it is rendered from the ledger when it is sent.
CREATE TABLE slack_messages (
  id          TEXT PRIMARY KEY,                 -- follows from what it is about: a repeat finds the same row
  kind        TEXT NOT NULL,
  request_id  TEXT NOT NULL,                    -- '' if it is about none
  grant_id    TEXT NOT NULL,                    -- likewise
  identity_id TEXT NOT NULL,                    -- whose direct message; '' for the channel
  channel     TEXT,                             -- where it hangs
  ts          TEXT,
  posted_at   BIGINT,
  wanted      BIGINT NOT NULL,                  -- version of the state that is to be shown
  rendered    BIGINT NOT NULL,                  -- version that is shown
  due_at      BIGINT,                           -- when somebody must look; doubles as the lease
  attempts    BIGINT NOT NULL,
  epoch       BIGINT NOT NULL,
  last_error  TEXT
);
CREATE INDEX slack_messages_due ON slack_messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX slack_messages_place ON slack_messages (channel, ts) WHERE ts IS NOT NULL;
CREATE INDEX slack_messages_request ON slack_messages (request_id);
CREATE INDEX slack_messages_identity ON slack_messages (identity_id, kind);

-- What people did in Slack, durable before it is carried out.
CREATE TABLE slack_commands (
  id          TEXT PRIMARY KEY,                 -- what it is about, who, and Slack's instant: a repeat finds the same row
  command     TEXT NOT NULL,                    -- JSON
  received_at BIGINT NOT NULL,
  due_at      BIGINT,
  epoch       BIGINT NOT NULL
);
CREATE INDEX slack_commands_due ON slack_commands (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX slack_commands_age ON slack_commands (received_at);
