#!/bin/sh
# Prepares a development server (`bao server -dev` or `vault server -dev`) to be tried with: a database engine on a
# PostgreSQL server, two roles, their policies, and the broker's policy and token. Run once, with VAULT_ADDR,
# VAULT_TOKEN and DATABASE (postgresql://{{username}}:{{password}}@127.0.0.1:5432/app?sslmode=disable) set; the user is
# DATABASE_USER with DATABASE_PASSWORD. Pass the program: examples/vault/server.sh bao
set -eu
cli=${1:-bao}
here=$(dirname "$0")
export BAO_ADDR="$VAULT_ADDR" BAO_TOKEN="$VAULT_TOKEN"

"$cli" secrets enable database
"$cli" write database/config/app plugin_name=postgresql-database-plugin connection_url="$DATABASE" \
  username="$DATABASE_USER" password="$DATABASE_PASSWORD" allowed_roles='*'
for role in ro rw; do
  "$cli" write "database/roles/orders-$role" db_name=app default_ttl=1h max_ttl=24h \
    creation_statements="CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_$role" \
    revocation_statements="SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}'; DROP ROLE IF EXISTS \"{{name}}\""
  printf 'path "database/creds/orders-%s" { capabilities = ["read"] }' "$role" | "$cli" policy write "orders-$role" -
done
"$cli" policy write tidegate "$here/broker.hcl"
(umask 077 && "$cli" token create -orphan -policy=tidegate -policy=orders-ro -policy=orders-rw -period=24h -field=token \
  >"$here/broker.token")
