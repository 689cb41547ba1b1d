//! Integration tests: one binary, real servers, started by the tests and stopped after them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![allow(missing_docs, reason = "tests are not an interface")]

mod architecture;
mod cli;
mod connectors;
mod connectors_directory;
mod connectors_postgres;
mod connectors_ssh;
mod connectors_token;
mod crash_child;
mod crash_matrix;
mod faults_brokers;
mod faults_custody;
mod faults_server;
mod faults_writer;
mod http_access;
mod http_app;
mod http_deliveries;
mod http_events;
mod http_log;
mod http_oauth;
mod http_requests;
mod promises;
mod promises_later;
mod servers;
mod slack_abuse;
mod slack_decide;
mod slack_faults;
mod slack_people;
mod slack_world;
mod story;
mod verbs_ask;
mod verbs_decide;
mod verbs_faults;
mod verbs_grants;
mod verbs_help;
mod verbs_input;
mod verbs_machine;
mod verbs_reads;
mod world;
