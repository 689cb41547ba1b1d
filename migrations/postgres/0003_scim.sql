-- What SCIM says of people beyond the columns that decisions read, and what its filters look up.

-- The rest of a user: everything that has no column, as it was sent.
CREATE TABLE scim_documents (
  identity_id TEXT PRIMARY KEY REFERENCES identities (id),
  document    TEXT NOT NULL                     -- JSON
);

-- One row for each value of a document that can be looked up; and one with an empty key for each element of a list.
CREATE TABLE scim_values (
  path        TEXT COLLATE "C" NOT NULL,                    -- lower case, with the extension's short name before a colon
  value_key   TEXT COLLATE "C" NOT NULL,                    -- at most 512 characters; lower case unless case counts
  identity_id TEXT NOT NULL,
  element     BIGINT NOT NULL,                  -- place in its list, the primary one first
  PRIMARY KEY (path, value_key, identity_id, element)
);
CREATE INDEX scim_values_identity ON scim_values (identity_id, path, element);

CREATE INDEX identities_present ON identities (id) WHERE deleted_at IS NULL;
CREATE INDEX identities_external_id ON identities (external_id) WHERE external_id IS NOT NULL;
CREATE INDEX groups_external_id ON groups (external_id) WHERE external_id IS NOT NULL;

-- What a source may do beyond what it owns.
ALTER TABLE sources ADD COLUMN adopts BIGINT NOT NULL DEFAULT 0;       -- 1: takes over what is kept here, by its unique name
ALTER TABLE sources ADD COLUMN administers BIGINT NOT NULL DEFAULT 0;  -- 1: may fill the groups that administer and audit
CREATE INDEX identities_display_name ON identities (lower(display_name));
