-- Accounts of whom something may be taken away go first, and what fails for long is told of.
ALTER TABLE accounts ADD COLUMN waits BIGINT NOT NULL DEFAULT 1;         -- 0: something may be to be taken away
ALTER TABLE accounts ADD COLUMN failing_since BIGINT;                    -- when the first of the tries in vain was
DROP INDEX accounts_due;
CREATE INDEX accounts_due ON accounts (application, waits, due_at) WHERE due_at IS NOT NULL;
-- A source that was stopped also said that they are no longer there at all.
ALTER TABLE held_departures ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
-- The name for people to read in lower case, also of letters that SQLite does not know: filters look it up.
ALTER TABLE identities ADD COLUMN display_key TEXT;
UPDATE identities SET display_key = lower(display_name);
DROP INDEX identities_display_name;
CREATE INDEX identities_display_key ON identities (display_key);
