-- What hangs on a session, on a sign-in, and on a message that may or may not have gone out.

-- When the person last showed the identity provider who they are, as far as it said so.
ALTER TABLE sessions ADD COLUMN proved_at BIGINT;

-- In which session somebody said yes to a client: its token ends with it.
ALTER TABLE sign_in_codes ADD COLUMN session_id TEXT;
CREATE INDEX sign_in_codes_session ON sign_in_codes (session_id) WHERE session_id IS NOT NULL AND state = 'approved';
ALTER TABLE tokens ADD COLUMN session_id TEXT;
CREATE INDEX tokens_session ON tokens (session_id) WHERE session_id IS NOT NULL AND revoked_at IS NULL;

-- One person is one subject of a provider: of several, the one that was seen first.
DELETE FROM logins WHERE EXISTS (
  SELECT 1 FROM logins AS first WHERE first.identity_id = logins.identity_id AND first.issuer = logins.issuer
  AND (first.created_at < logins.created_at OR (first.created_at = logins.created_at AND first.subject < logins.subject)));
CREATE UNIQUE INDEX logins_one ON logins (identity_id, issuer);

-- Leases of a message since it was last known whether it went out: above one, it is looked for before it is posted.
ALTER TABLE slack_messages ADD COLUMN unsure BIGINT NOT NULL DEFAULT 0;

-- The most urgent first, however long the history is.
CREATE INDEX requests_urgent ON requests (emergency DESC, lapses_at, id) WHERE state = 'pending';
CREATE INDEX grants_over_newest ON grants (id) WHERE state IN ('ended', 'failed');
CREATE INDEX identities_machines ON identities (id) WHERE kind IN ('workload', 'agent');

-- A receiver never waits for another one; one that answered 410 hears nothing more until somebody tells it again.
CREATE INDEX outbox_notifier_due ON outbox (notifier, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE notifiers_gone (
  name TEXT PRIMARY KEY,
  at   BIGINT NOT NULL,
  why  TEXT NOT NULL
);
