-- Columns are TEXT, BIGINT and BYTEA only; instants are integer unix microseconds; JSON is TEXT.
-- SQLite and PostgreSQL have the same tables; this file differs from its twin only where the databases do.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

-- Directory -------------------------------------------------------------------------------------------------

CREATE TABLE identities (
  id           TEXT PRIMARY KEY,
  kind         TEXT NOT NULL CHECK (kind IN ('person', 'workload', 'agent')),
  name         TEXT NOT NULL,
  name_key     TEXT NOT NULL UNIQUE,            -- name, lower case
  display_name TEXT NOT NULL,
  email        TEXT,
  active       BIGINT NOT NULL,                 -- 1, or 0 once deactivated
  owner_id     TEXT REFERENCES identities (id),
  contract_end BIGINT,
  attributes   TEXT NOT NULL,                   -- flat JSON object of texts
  version      BIGINT NOT NULL,
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL
);
CREATE INDEX identities_owner ON identities (owner_id) WHERE owner_id IS NOT NULL;

CREATE TABLE groups (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  name_key   TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL
);

-- One row for the standing membership (grant_id = '') and one for each grant: the last one out ends it.
CREATE TABLE memberships (
  group_id    TEXT NOT NULL REFERENCES groups (id),
  identity_id TEXT NOT NULL REFERENCES identities (id),
  grant_id    TEXT NOT NULL,
  not_after   BIGINT,                           -- decisions ignore a row from this instant on
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (group_id, identity_id, grant_id)
);
CREATE INDEX memberships_identity ON memberships (identity_id, group_id);
CREATE INDEX memberships_temporary ON memberships (grant_id) WHERE grant_id <> '';

-- Personal tokens and client secrets, as hashes.
CREATE TABLE tokens (
  id          TEXT PRIMARY KEY,
  identity_id TEXT NOT NULL REFERENCES identities (id),
  kind        TEXT NOT NULL CHECK (kind IN ('personal', 'client_secret')),
  label       TEXT NOT NULL,
  hash        BYTEA NOT NULL UNIQUE,           -- SHA-256 of the whole token
  created_at  BIGINT NOT NULL,
  expires_at  BIGINT NOT NULL,
  revoked_at  BIGINT
);
CREATE INDEX tokens_identity ON tokens (identity_id);

-- Access tokens that were revoked before their expiry (RFC 7009).
CREATE TABLE revoked_tokens (
  jti        TEXT PRIMARY KEY,
  expires_at BIGINT NOT NULL
);

-- Requests and approvals ------------------------------------------------------------------------------------

CREATE TABLE requests (
  id             TEXT PRIMARY KEY,
  requester_id   TEXT NOT NULL,
  subject_id     TEXT NOT NULL,
  entitlements   TEXT NOT NULL,                 -- JSON array of names
  ttl            BIGINT NOT NULL,               -- seconds
  reason         TEXT NOT NULL,
  ticket         TEXT,
  emergency      BIGINT NOT NULL,
  start_at       BIGINT,
  state          TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'cancelled', 'lapsed')),
  policy_version TEXT NOT NULL,
  needs          TEXT NOT NULL,                 -- JSON
  trace          TEXT NOT NULL,                 -- JSON
  lapses_at      BIGINT NOT NULL,
  due_at         BIGINT,                        -- lapses_at while pending
  created_at     BIGINT NOT NULL,
  decided_at     BIGINT,
  correlation_id TEXT NOT NULL
);
CREATE INDEX requests_due ON requests (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX requests_requester ON requests (requester_id, id);
CREATE INDEX requests_subject ON requests (subject_id, id) WHERE subject_id <> requester_id;
CREATE INDEX requests_pending ON requests (id) WHERE state = 'pending';

-- Whom a request was put before; written only for requests that need approval.
CREATE TABLE request_approvers (
  group_name TEXT NOT NULL,
  request_id TEXT NOT NULL REFERENCES requests (id),
  PRIMARY KEY (group_name, request_id)
);

CREATE TABLE approvals (
  id          TEXT PRIMARY KEY,
  request_id  TEXT NOT NULL REFERENCES requests (id),
  approver_id TEXT NOT NULL,
  groups      TEXT NOT NULL,                    -- JSON array: groups of the approver that count here
  approve     BIGINT NOT NULL,
  comment     TEXT NOT NULL,
  ttl         BIGINT,
  at          BIGINT NOT NULL,
  via         TEXT NOT NULL,
  UNIQUE (request_id, approver_id)
);

CREATE TABLE idempotency_keys (
  identity_id TEXT NOT NULL,
  key         TEXT NOT NULL,
  body_hash   BYTEA NOT NULL,
  request_id  TEXT NOT NULL,
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (identity_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- Grants ----------------------------------------------------------------------------------------------------

CREATE TABLE grants (
  id             TEXT PRIMARY KEY,
  request_id     TEXT NOT NULL,
  holder_id      TEXT NOT NULL,
  entitlement    TEXT NOT NULL,
  target         TEXT NOT NULL,
  previous_state TEXT,                          -- before the last claim by a worker
  state          TEXT NOT NULL CHECK (state IN
                   ('scheduled', 'activating', 'active', 'revoking', 'quarantined', 'ended', 'failed')),
  ttl            BIGINT NOT NULL,               -- seconds
  start_at       BIGINT,
  not_after      BIGINT,
  parameters     TEXT NOT NULL,                 -- JSON
  recipe         TEXT,                          -- JSON, fixed at intent
  activated_at   BIGINT,
  applied        TEXT,                          -- JSON, what the target reported
  end_reason     TEXT,
  revoking_at    BIGINT,
  ended_at       BIGINT,
  evidence       TEXT,                          -- JSON
  attempts       BIGINT NOT NULL,
  last_error     TEXT,
  claims         BIGINT NOT NULL,
  max_claims     BIGINT,
  due_at         BIGINT,                        -- when somebody must look again; doubles as the lease
  epoch          BIGINT NOT NULL,               -- fencing token
  correlation_id TEXT NOT NULL,
  created_at     BIGINT NOT NULL
);
CREATE INDEX grants_due ON grants (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX grants_request ON grants (request_id);
CREATE INDEX grants_live_holder ON grants (holder_id) WHERE state NOT IN ('ended', 'failed');
CREATE INDEX grants_holder ON grants (holder_id, id);
CREATE INDEX grants_live ON grants (target, entitlement, id) WHERE state NOT IN ('ended', 'failed');
CREATE INDEX grants_ending ON grants (revoking_at, state) WHERE state IN ('revoking', 'quarantined');

-- Credentials minted: the serial is recorded before anything is signed.
CREATE TABLE claims (
  serial     BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  grant_id   TEXT NOT NULL REFERENCES grants (id),
  number     BIGINT NOT NULL,
  at         BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  UNIQUE (grant_id, number)
);

CREATE TABLE locks (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL CHECK (kind IN ('identity', 'target', 'entitlement')),
  value      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  actor_id   TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  lifted_at  BIGINT,
  lifted_by  TEXT
);
CREATE INDEX claims_live ON claims (expires_at);
CREATE UNIQUE INDEX locks_active ON locks (kind, value) WHERE lifted_at IS NULL;

-- Audit -----------------------------------------------------------------------------------------------------

CREATE TABLE audit_events (
  seq            BIGINT PRIMARY KEY,            -- dense, in commit order: the leaf index
  id             TEXT NOT NULL UNIQUE,
  at             BIGINT NOT NULL,
  action         TEXT NOT NULL,
  request_id     TEXT,
  grant_id       TEXT,
  correlation_id TEXT NOT NULL,
  leaf           TEXT NOT NULL,                 -- the bytes that are hashed
  hash           BYTEA NOT NULL                -- RFC 6962 leaf hash
);
CREATE INDEX audit_events_request ON audit_events (request_id, seq) WHERE request_id IS NOT NULL;
CREATE INDEX audit_events_grant ON audit_events (grant_id, seq) WHERE grant_id IS NOT NULL;
CREATE INDEX audit_events_correlation ON audit_events (correlation_id, seq);

-- One row: how many events there are. Locked from the last statement of a commit to its end.
CREATE TABLE audit_head (
  one  BIGINT PRIMARY KEY CHECK (one = 1),
  size BIGINT NOT NULL
);
INSERT INTO audit_head (one, size) VALUES (1, 0);

-- Hashes of complete subtrees of 256, 65536, … leaves.
CREATE TABLE audit_nodes (
  level BIGINT NOT NULL,
  idx   BIGINT NOT NULL,
  hash  BYTEA NOT NULL,
  PRIMARY KEY (level, idx)
);

CREATE TABLE audit_checkpoints (
  size     BIGINT PRIMARY KEY,
  root     BYTEA NOT NULL,
  frontier BYTEA NOT NULL,
  note     TEXT NOT NULL,
  at       BIGINT NOT NULL
);

-- The log is append-only, also for somebody at the SQL prompt.
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
  FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

-- Outbox and leases -----------------------------------------------------------------------------------------

CREATE TABLE outbox (
  id           TEXT PRIMARY KEY,
  notifier     TEXT NOT NULL,
  kind         TEXT NOT NULL,
  at           BIGINT NOT NULL,
  data         TEXT NOT NULL,
  due_at       BIGINT,                          -- NULL once delivered or given up
  attempts     BIGINT NOT NULL,
  epoch        BIGINT NOT NULL,
  last_error   TEXT,
  delivered_at BIGINT
);
CREATE INDEX outbox_due ON outbox (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE leases (
  name   TEXT PRIMARY KEY,
  owner  TEXT NOT NULL,
  until  BIGINT NOT NULL,
  epoch  BIGINT NOT NULL
);
