//! Adapters: one folder a kind of target. They see only `ports` and `domain`.

pub mod postgres;
