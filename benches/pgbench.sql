-- The statements of an auto-approved request that becomes active, as pgbench runs them: the limit that the ledger on
-- PostgreSQL is measured against. Two transactions, as the broker has them.
\set n random(1, 9000000000000)
\set h :n % 2048
BEGIN;
INSERT INTO requests (id, requester_id, subject_id, entitlements, ttl, reason, ticket, emergency, start_at, state, policy_version, needs, trace, lapses_at, due_at, created_at, decided_at, correlation_id) VALUES ('req_' || :n, 'idn_01M83M86G3NH4M509DP73GY8BY', 'idn_01M83M86G3NH4M509DP73GY8BY', '["tokens-orders-read"]', 600, 'bench', NULL, 0, NULL, 'approved', 'v', '[]', repeat('y', 300), 1, NULL, 1, 1, 'cor_01M83M86G3NH4M509DP73GY8BY');
INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, not_after, parameters, recipe, attempts, claims, due_at, epoch, correlation_id, created_at) VALUES ('grt_' || :n, 'req_' || :n, 'idn_' || :h, 'tokens-orders-read', 'dev-token', 'activating', 600, 9000000000000000, repeat('y', 150), repeat('y', 150), 0, 0, 9000000000000000, 0, 'cor_01M83M86G3NH4M509DP73GY8BY', 1);
UPDATE audit_head SET size = size + 3 WHERE one = 1 RETURNING size \gset
INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, leaf, hash) VALUES (:size - 3, 'evt_a' || :n, 1, 'request.created', 'req_' || :n, NULL, 'cor_01M83M86G3NH4M509DP73GY8BY', repeat('x', 420), decode(repeat('07', 32), 'hex'));
INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, leaf, hash) VALUES (:size - 2, 'evt_b' || :n, 1, 'request.approved', 'req_' || :n, NULL, 'cor_01M83M86G3NH4M509DP73GY8BY', repeat('x', 420), decode(repeat('07', 32), 'hex'));
INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, leaf, hash) VALUES (:size - 1, 'evt_c' || :n, 1, 'grant.activating', 'req_' || :n, 'grt_' || :n, 'cor_01M83M86G3NH4M509DP73GY8BY', repeat('x', 420), decode(repeat('07', 32), 'hex'));
COMMIT;
BEGIN;
UPDATE grants SET state = 'active', applied = repeat('y', 300), activated_at = 1, due_at = not_after WHERE id = 'grt_' || :n AND epoch = 0 AND state = 'activating';
UPDATE audit_head SET size = size + 1 WHERE one = 1 RETURNING size \gset
INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, leaf, hash) VALUES (:size - 1, 'evt_d' || :n, 1, 'grant.active', 'req_' || :n, 'grt_' || :n, 'cor_01M83M86G3NH4M509DP73GY8BY', repeat('x', 420), decode(repeat('07', 32), 'hex'));
COMMIT;
