-- What follows when somebody joins, moves, leaves or is never claimed by any source.

-- The call or clock event that made a grant end, if that was not the call that it began with.
ALTER TABLE grants ADD COLUMN ended_by TEXT;
ALTER TABLE audit_events ADD COLUMN cause_id TEXT;
CREATE INDEX audit_events_cause ON audit_events (cause_id, seq) WHERE cause_id IS NOT NULL;

ALTER TABLE identities ADD COLUMN answer_by BIGINT;                 -- deactivated then, unless somebody answers for it
ALTER TABLE identities ADD COLUMN team_key TEXT;                    -- name of the group that a workload or agent belongs to, lower case
ALTER TABLE identities ADD COLUMN credentials_from BIGINT;          -- access tokens from before this instant are refused
ALTER TABLE identities ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;  -- fencing token of the lifecycle
CREATE INDEX identities_team ON identities (team_key) WHERE team_key IS NOT NULL;
CREATE INDEX identities_source ON identities (source_id) WHERE source_id IS NOT NULL AND active = 1;
CREATE INDEX identities_seen ON identities ((coalesce(last_seen_at, created_at))) WHERE active = 1;
CREATE INDEX identities_orphaned ON identities (orphaned_at) WHERE orphaned_at IS NOT NULL AND active = 1;
CREATE INDEX requests_pending_requester ON requests (requester_id) WHERE state = 'pending';
CREATE INDEX requests_pending_subject ON requests (subject_id) WHERE state = 'pending';

ALTER TABLE tokens ADD COLUMN last_used_at BIGINT;                  -- to the hour
CREATE INDEX tokens_used ON tokens ((coalesce(last_used_at, created_at))) WHERE revoked_at IS NULL;

-- How somebody whom an identity provider vouches for is known here.
CREATE TABLE logins (
  issuer      TEXT NOT NULL,
  subject     TEXT NOT NULL,
  identity_id TEXT NOT NULL REFERENCES identities (id),
  email_key   TEXT,                             -- verified e-mail, lower case
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX logins_identity ON logins (identity_id);

-- How many people a source took away lately, and whether it was stopped.
CREATE TABLE departures (
  source_id      TEXT PRIMARY KEY REFERENCES sources (id),
  since          BIGINT NOT NULL,               -- the window began with the first to leave
  people         BIGINT NOT NULL,               -- active ones of the source at that instant
  gone           BIGINT NOT NULL,
  held_at        BIGINT,                        -- stopped since then, until an administrator accepts
  accepted_until BIGINT
);

-- Who would have left while the source was stopped.
CREATE TABLE held_departures (
  source_id      TEXT NOT NULL REFERENCES sources (id),
  identity_id    TEXT NOT NULL REFERENCES identities (id),
  at             BIGINT NOT NULL,
  correlation_id TEXT NOT NULL,
  PRIMARY KEY (source_id, identity_id)
);

-- A source spoke of somebody who is known here already, and is not its own: nothing is merged without people.
CREATE TABLE collisions (
  source_id   TEXT NOT NULL REFERENCES sources (id),
  identity_id TEXT NOT NULL REFERENCES identities (id),
  name        TEXT NOT NULL,                    -- in the source's words
  external_id TEXT,
  matched     TEXT NOT NULL,                    -- name, email, external_id
  at          BIGINT NOT NULL,
  resolved_at BIGINT,
  PRIMARY KEY (source_id, identity_id)
);
