-- Sources, people and applications: what the breaker counts, what is unique, who is unused, who is erased.

-- Who left lately because a source said so: what the breaker counts, in a window that slides.
CREATE TABLE departed (
  source_id   TEXT NOT NULL REFERENCES sources (id),
  identity_id TEXT NOT NULL REFERENCES identities (id),
  at          BIGINT NOT NULL,
  PRIMARY KEY (source_id, identity_id)
);
CREATE INDEX departed_at ON departed (source_id, at);
ALTER TABLE departures DROP COLUMN since;
ALTER TABLE departures DROP COLUMN people;
ALTER TABLE departures DROP COLUMN gone;

-- Values of declared attributes that no two people may have.
CREATE TABLE scim_unique (
  path        TEXT COLLATE "C" NOT NULL,
  value_key   TEXT COLLATE "C" NOT NULL,                    -- as in scim_values
  identity_id TEXT NOT NULL REFERENCES identities (id),
  PRIMARY KEY (path, value_key)
);
CREATE INDEX scim_unique_identity ON scim_unique (identity_id);

ALTER TABLE identities ADD COLUMN unused_warned_at BIGINT;             -- its owner was told then that nobody uses it
ALTER TABLE identities ADD COLUMN erased_at BIGINT;                    -- what was known of the person is gone since then
CREATE INDEX identities_gone ON identities (updated_at) WHERE active = 0 AND erased_at IS NULL;
CREATE INDEX identities_warned ON identities (unused_warned_at) WHERE unused_warned_at IS NOT NULL AND active = 1;
