//! Real servers for the tests, started by the tests on free loopback ports and gone when the tests are.

pub mod active_directory;
pub mod certificate;
pub mod lying;
pub mod mdm;
#[cfg(feature = "failpoints")]
pub mod moto;
pub mod openbao;
pub mod postgres;
pub mod samba;
pub mod scim;
pub mod slapd;
#[cfg(feature = "failpoints")]
pub mod sshd;
pub mod watched;
pub mod way;
