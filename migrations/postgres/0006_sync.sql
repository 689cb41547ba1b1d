-- Accounts in downstream applications, what people are to do by hand there, and the runs that compare.

-- `account_key` is the identity's id, or `remote:<id>` for an account that is nobody's. What an account should be is
-- found out when it is worked on, from the directory as it is then; nothing of it is queued here.
CREATE TABLE accounts (
  application    TEXT NOT NULL,
  account_key    TEXT NOT NULL,
  identity_id    TEXT REFERENCES identities (id),
  remote_id      TEXT,                          -- the application's name for it
  pushed         TEXT,                          -- hash of what was last read back there as it should be
  state          TEXT NOT NULL,
  deactivated_at BIGINT,                        -- since when it is known to be inactive: deletion counts from here
  verified_at    BIGINT,                        -- when it was last read back as it should be
  attempts       BIGINT NOT NULL,
  changes        BIGINT NOT NULL,               -- grows with every event that concerns it
  due_at         BIGINT,
  leased         BIGINT NOT NULL,               -- 1 while somebody works on it: due_at is the end of the lease then
  epoch          BIGINT NOT NULL,
  last_error     TEXT,
  correlation_id TEXT NOT NULL,                 -- the call that it follows from
  PRIMARY KEY (application, account_key)
);
CREATE INDEX accounts_due ON accounts (application, due_at) WHERE due_at IS NOT NULL;
CREATE UNIQUE INDEX accounts_remote ON accounts (application, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX accounts_identity ON accounts (identity_id);
CREATE INDEX accounts_state ON accounts (application, state, account_key);

-- What somebody is to do by hand. At most one is open for an account.
CREATE TABLE account_tasks (
  id             TEXT PRIMARY KEY,
  application    TEXT NOT NULL,
  account_key    TEXT NOT NULL,
  identity_id    TEXT NOT NULL REFERENCES identities (id),
  what           TEXT NOT NULL,
  details        TEXT NOT NULL,                 -- JSON: what the account should be
  pushed         TEXT NOT NULL,                 -- hash of that
  owner          TEXT NOT NULL,
  deadline       BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  closed_at      BIGINT,
  closed_by      TEXT,                          -- NULL if it was closed because something else is to be done now
  evidence       TEXT,
  correlation_id TEXT NOT NULL
);
CREATE UNIQUE INDEX account_tasks_open ON account_tasks (application, account_key) WHERE closed_at IS NULL;

-- One comparison of an application, or one reading of a source. Taken up again by whoever finds its lease run out.
CREATE TABLE sync_runs (
  id             TEXT PRIMARY KEY,
  name           TEXT NOT NULL,                 -- of the application or source
  verb           TEXT NOT NULL,
  accept         BIGINT NOT NULL,               -- 1: also if a great many would go
  actor_id       TEXT REFERENCES identities (id),
  started_at     BIGINT NOT NULL,
  finished_at    BIGINT,
  due_at         BIGINT,
  epoch          BIGINT NOT NULL,
  report         TEXT,                          -- JSON
  error          TEXT,
  correlation_id TEXT NOT NULL
);
CREATE INDEX sync_runs_due ON sync_runs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sync_runs_name ON sync_runs (name, id);
