# What the broker may do: docs/connectors/vault.md explains it.
path "auth/token/roles/tg-*" {
  capabilities      = ["create", "read", "update", "delete"]
  denied_parameters = {
    "allowed_policies"         = []
    "allowed_policies_glob"    = []
    "disallowed_policies"      = []
    "disallowed_policies_glob" = []
    "allowed_entity_aliases"   = []
  }
}
path "auth/token/roles" { capabilities = ["list"] }
path "auth/token/create/tg-*" { capabilities = ["update"] }
path "sys/leases/revoke-prefix/auth/token/create/tg-*" { capabilities = ["update", "sudo"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/auth/token/create/*" { capabilities = ["list", "sudo"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup/database/creds/orders-ro/*" { capabilities = ["list", "sudo"] }
path "sys/leases/lookup/database/creds/orders-rw/*" { capabilities = ["list", "sudo"] }
