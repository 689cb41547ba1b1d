//! Signals: the first asks to finish, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};

/// Wait for SIGINT or SIGTERM.
pub async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the default action of the signals ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
