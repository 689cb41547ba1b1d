//! The policy files that ship in the binary: `tidegate dev` runs on them, and they are the sample to start from.

use super::files::Files;

/// Name and text of each file of `policies/`.
pub const FILES: &[(&str, &str)] = &[
    ("catalog.toml", include_str!("../../policies/catalog.toml")),
    ("schema.cedarschema", include_str!("../../policies/schema.cedarschema")),
    ("access.cedar", include_str!("../../policies/access.cedar")),
    ("guardrails.cedar", include_str!("../../policies/guardrails.cedar")),
    ("tests/identities.toml", include_str!("../../policies/tests/identities.toml")),
    ("tests/access.toml", include_str!("../../policies/tests/access.toml")),
    ("tests/guardrails.toml", include_str!("../../policies/tests/guardrails.toml")),
];

/// The same, ready to be loaded.
pub fn files() -> Files {
    Files::from_texts(FILES.iter().copied())
}
