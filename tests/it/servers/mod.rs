//! Real servers for the tests, started by the tests on free loopback ports and gone when the tests are.

pub mod postgres;
pub mod scim;
#[cfg(feature = "failpoints")]
pub mod sshd;
