//! The signing keys: files under the data directory, rotated, never logged.
