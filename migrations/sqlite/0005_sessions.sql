-- People who have signed in, in a browser or on the command line. Secrets are kept as hashes.

CREATE TABLE sessions (
  id             TEXT PRIMARY KEY,
  identity_id    TEXT NOT NULL REFERENCES identities (id),
  hash           BLOB NOT NULL UNIQUE,          -- SHA-256 of the secret in the cookie
  method         TEXT NOT NULL,                 -- how the person signed in: oidc, dev
  user_agent     TEXT NOT NULL,
  address        TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  seen_at        BIGINT NOT NULL,
  idle_at        BIGINT NOT NULL,               -- ends then, unless it is used before
  expires_at     BIGINT NOT NULL,               -- ends then, whatever happens
  ended_at       BIGINT                         -- signed out, replaced, or ended by somebody
);
CREATE INDEX sessions_live ON sessions (identity_id, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_age ON sessions (expires_at);

-- Sign-in on the command line: a code that is exchanged for a token once a person has said yes in the portal.
CREATE TABLE sign_in_codes (
  id           TEXT PRIMARY KEY,
  hash         BLOB NOT NULL UNIQUE,            -- SHA-256 of the code that the client holds
  user_code    TEXT UNIQUE,                     -- what a person types, in the device flow
  challenge    TEXT,                            -- PKCE (S256), in the loopback flow
  redirect_uri TEXT,
  client       TEXT NOT NULL,                   -- what the client says about itself
  address      TEXT NOT NULL,                   -- where it asked from
  identity_id  TEXT REFERENCES identities (id), -- who said yes
  until        BIGINT,                          -- end of the session that said yes
  state        TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used')),
  polled_at    BIGINT,
  created_at   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL
);
CREATE INDEX sign_in_codes_age ON sign_in_codes (expires_at);

-- Lists of what is live or pending, newest first, however long the history is.
CREATE INDEX grants_live_newest ON grants (id) WHERE state NOT IN ('ended', 'failed');
