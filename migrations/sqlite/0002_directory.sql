-- Where identities come from, and what the clock and changed facts still ask of them.

-- One source, one writer: what a source owns, only it changes.
CREATE TABLE sources (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  name_key     TEXT NOT NULL UNIQUE,            -- name, lower case
  kind         TEXT NOT NULL CHECK (kind IN ('scim', 'scim_pull', 'feed')),
  created_at   BIGINT NOT NULL,
  last_seen_at BIGINT                           -- of its last call or run that went through
);

-- Bearer tokens of sources that push, as hashes.
CREATE TABLE source_tokens (
  id         TEXT PRIMARY KEY,
  source_id  TEXT NOT NULL REFERENCES sources (id),
  label      TEXT NOT NULL,
  hash       BLOB NOT NULL UNIQUE,              -- SHA-256 of the whole token
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX source_tokens_source ON source_tokens (source_id);

ALTER TABLE identities ADD COLUMN source_id TEXT REFERENCES sources (id);   -- NULL: nobody outside owns it
ALTER TABLE identities ADD COLUMN origin TEXT NOT NULL DEFAULT 'console';   -- console, scim, feed, jit
ALTER TABLE identities ADD COLUMN external_id TEXT;                         -- the source's own name for it
ALTER TABLE identities ADD COLUMN email_key TEXT;                           -- e-mail, lower case
ALTER TABLE identities ADD COLUMN backup_owner_id TEXT REFERENCES identities (id);
ALTER TABLE identities ADD COLUMN orphaned_at BIGINT;                       -- since when nobody answers for it
ALTER TABLE identities ADD COLUMN deleted_at BIGINT;                        -- its name is free again; the row stays
ALTER TABLE identities ADD COLUMN last_seen_at BIGINT;                      -- last call of it, to the hour
ALTER TABLE identities ADD COLUMN due_at BIGINT;                            -- when the lifecycle must look again
ALTER TABLE identities ADD COLUMN recheck TEXT;                             -- correlation of the change after which grants are to be decided again
CREATE UNIQUE INDEX identities_external ON identities (source_id, external_id)
  WHERE external_id IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX identities_email ON identities (email_key) WHERE email_key IS NOT NULL;
CREATE INDEX identities_due ON identities (due_at) WHERE due_at IS NOT NULL;
UPDATE identities SET email_key = lower(email), due_at = CASE WHEN active = 1 THEN contract_end END;

ALTER TABLE groups ADD COLUMN source_id TEXT REFERENCES sources (id);
ALTER TABLE groups ADD COLUMN external_id TEXT;
ALTER TABLE groups ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE groups ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE groups SET updated_at = created_at;
CREATE UNIQUE INDEX groups_external ON groups (source_id, external_id) WHERE external_id IS NOT NULL;
