//! Real servers for the tests, started by the tests on free loopback ports and gone when the tests are.

#[cfg(feature = "failpoints")]
pub mod moto;
pub mod postgres;
#[cfg(feature = "failpoints")]
pub mod sshd;
