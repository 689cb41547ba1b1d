-- Run once, as a superuser, on the primary:
--   psql -v password="'…'" -f broker.sql
-- Prepares a database `app` to try things out on, the broker's login, and the roles that carry rights.
\set ON_ERROR_STOP on

CREATE DATABASE app;

CREATE ROLE tidegate LOGIN CREATEROLE PASSWORD :password;
GRANT pg_signal_backend, pg_read_all_stats TO tidegate;

CREATE ROLE app_ro NOLOGIN;
CREATE ROLE app_rw NOLOGIN;
GRANT app_ro, app_rw TO tidegate WITH ADMIN OPTION;   -- needed since PostgreSQL 16

CREATE ROLE tidegate_leftovers NOLOGIN;
GRANT tidegate_leftovers TO tidegate;

\connect app
CREATE TABLE orders (id bigint PRIMARY KEY, item text NOT NULL);
INSERT INTO orders VALUES (1, 'tide table'), (2, 'rubber boots');
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT CREATE ON SCHEMA public TO tidegate_leftovers;  -- functions and types cannot change hands without it
