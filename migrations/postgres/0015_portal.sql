-- What people see in the portal beyond requests and grants.

-- Who looks at a pending request at the moment, so that two people do not work on the same one. Decides nothing.
CREATE TABLE request_takers (
  request_id  TEXT PRIMARY KEY REFERENCES requests (id),
  identity_id TEXT NOT NULL,
  at          BIGINT NOT NULL
);

-- What somebody asks for often: an order of their own catalog, nothing more.
CREATE TABLE favourites (
  identity_id TEXT NOT NULL REFERENCES identities (id),
  entitlement TEXT NOT NULL,
  PRIMARY KEY (identity_id, entitlement)
);

-- The texts of each policy version that was in force, for comparing.
CREATE TABLE policy_versions (
  version   TEXT PRIMARY KEY,
  loaded_at BIGINT NOT NULL,
  files     TEXT NOT NULL                       -- JSON: texts by name
);
CREATE INDEX policy_versions_age ON policy_versions (loaded_at);

-- Emergencies are looked at again afterwards, however long the history is.
CREATE INDEX requests_emergency ON requests (id) WHERE emergency = 1;
