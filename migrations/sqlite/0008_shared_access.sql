-- Access that several grants may open at once and that the target keeps only once (a membership): the natural key from
-- the recipe, so that grants on it can be counted.
ALTER TABLE grants ADD COLUMN shared_key TEXT;
CREATE INDEX grants_shared ON grants (target, shared_key)
  WHERE shared_key IS NOT NULL AND state NOT IN ('ended', 'failed');
