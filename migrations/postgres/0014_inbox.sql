-- What waits for a group, in the order of urgency, however long the history is.
ALTER TABLE request_approvers ADD COLUMN lapses_at BIGINT;   -- while the request is pending
ALTER TABLE request_approvers ADD COLUMN emergency BIGINT;
UPDATE request_approvers SET (emergency, lapses_at) =
  (SELECT r.emergency, r.lapses_at FROM requests r WHERE r.id = request_approvers.request_id AND r.state = 'pending')
WHERE request_id IN (SELECT id FROM requests WHERE state = 'pending');
CREATE INDEX request_approvers_waiting ON request_approvers (group_name, emergency DESC, lapses_at, request_id)
  WHERE lapses_at IS NOT NULL;
CREATE INDEX request_approvers_request ON request_approvers (request_id) WHERE lapses_at IS NOT NULL;

DROP INDEX requests_urgent;

CREATE INDEX identities_backup_owner ON identities (backup_owner_id) WHERE backup_owner_id IS NOT NULL;

-- Whoever joins may have come by a first login already.
CREATE INDEX logins_subject ON logins (subject);
