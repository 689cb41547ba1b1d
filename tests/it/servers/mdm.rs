//! A device manager of ours beside a real SCIM server: devices by user name, each with a state; orders are carried out at
//! once, late, or never, as it is told.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};

/// What is to be known of it.
#[derive(Debug, Default)]
pub struct Devices {
    /// User name, id, state.
    pub all: Vec<(String, String, String)>,
    /// Orders are taken, and nothing is done.
    pub lazy: bool,
    /// Orders in their turn: `retire 7`.
    pub orders: Vec<String>,
}

/// A running one; it ends with this value.
pub struct DeviceServer {
    pub url: String,
    pub devices: Arc<Mutex<Devices>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for DeviceServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(serde::Deserialize)]
struct Of {
    user: String,
}

type Shared = Arc<Mutex<Devices>>;

async fn list(State(devices): State<Shared>, Query(of): Query<Of>) -> Json<Value> {
    let devices = devices.lock().unwrap();
    let theirs = devices.all.iter().filter(|(user, ..)| *user == of.user);
    let rows: Vec<Value> = theirs.map(|(_, id, state)| json!({"id": id, "state": state})).collect();
    Json(json!({"devices": rows}))
}

async fn order(State(devices): State<Shared>, Path((id, order)): Path<(String, String)>) -> StatusCode {
    let mut devices = devices.lock().unwrap();
    devices.orders.push(format!("{order} {id}"));
    let (lazy, done) = (devices.lazy, if order == "wipe" { "wiped" } else { "retired" });
    if let Some(device) = devices.all.iter_mut().find(|(_, i, _)| *i == id) {
        device.2 = if lazy { format!("{order}_pending") } else { done.to_owned() };
    }
    StatusCode::NO_CONTENT
}

impl DeviceServer {
    pub async fn start() -> Self {
        let devices: Shared = Arc::default();
        let router = Router::new()
            .route("/api/devices", get(list))
            .route("/api/devices/{id}/{order}", post(order))
            .with_state(Arc::clone(&devices));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, devices, task }
    }

    /// Somebody has a device.
    pub fn enrol(&self, user: &str, id: &str) {
        self.devices.lock().unwrap().all.push((user.to_owned(), id.to_owned(), "managed".to_owned()));
    }

    /// What was ordered so far.
    pub fn orders(&self) -> Vec<String> {
        self.devices.lock().unwrap().orders.clone()
    }

    /// A device reports.
    pub fn report(&self, id: &str, state: &str) {
        for device in self.devices.lock().unwrap().all.iter_mut().filter(|(_, i, _)| i == id) {
            state.clone_into(&mut device.2);
        }
    }
}
