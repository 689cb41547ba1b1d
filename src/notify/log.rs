//! Messages as log lines: what is there when nothing else is configured.

use async_trait::async_trait;

use crate::ports::notifier::{Message, Notifier, NotifyError};

/// Writes each message as one line of the log. Never fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogNotifier;

#[async_trait]
impl Notifier for LogNotifier {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn deliver(&self, message: &Message) -> Result<(), NotifyError> {
        tracing::info!(
            message_id = %message.id,
            kind = message.kind,
            at = %message.at,
            data = %message.data,
            "notification"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::domain::{id::MessageId, time::Timestamp};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_message_is_one_line() {
        let sink = Sink::default();
        let to = sink.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || to.clone());
        let message = Message {
            id: MessageId::new(ulid::Ulid::from_parts(1, 1)),
            kind: "access.grant.ended".to_owned(),
            at: Timestamp::from_seconds(1_769_868_000),
            data: serde_json::json!({ "grant": "grt_1\ninjected" }),
        };
        tracing::subscriber::with_default(subscriber.finish(), || {
            futures::executor::block_on(LogNotifier.deliver(&message)).unwrap();
        });
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in [&message.id.to_string(), "access.grant.ended", "2026-01-31T14:00:00Z", "grt_1"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
