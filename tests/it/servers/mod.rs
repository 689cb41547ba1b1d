//! Real servers, started by the tests on free loopback ports and stopped after them.

pub mod sshd;
