//! Audit events in the Open Cybersecurity Schema Framework 1.8 (<https://schema.ocsf.io/1.8.0>), for a SIEM.
//!
//! A view, not the record: what is signed is the leaf of the Merkle log. Everything of the event that OCSF has no
//! place for is under `unmapped.tidegate`. Drops nothing, and invents nothing that the event does not say.

use serde_json::{Map, Value, json};

use super::audit::Event;

/// The schema version that is written.
pub const VERSION: &str = "1.8.0";

/// An event class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    AccountChange,
    Authentication,
    EntityManagement,
    UserAccess,
    ApplicationLifecycle,
    ApiActivity,
}

impl Class {
    const fn uid(self) -> u32 {
        match self {
            Self::AccountChange => 3001,
            Self::Authentication => 3002,
            Self::EntityManagement => 3004,
            Self::UserAccess => 3005,
            Self::ApplicationLifecycle => 6002,
            Self::ApiActivity => 6003,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::AccountChange => "Account Change",
            Self::Authentication => "Authentication",
            Self::EntityManagement => "Entity Management",
            Self::UserAccess => "User Access Management",
            Self::ApplicationLifecycle => "Application Lifecycle",
            Self::ApiActivity => "API Activity",
        }
    }

    const fn category(self) -> (u32, &'static str) {
        match self.uid() / 1000 {
            3 => (3, "Identity & Access Management"),
            _ => (6, "Application Activity"),
        }
    }
}

/// How serious: OCSF `severity_id`.
#[derive(Clone, Copy)]
enum Severity {
    Informational,
    Low,
    Medium,
    High,
}

impl Severity {
    const fn id_and_name(self) -> (u32, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
        }
    }
}

/// What an action is in OCSF's words.
#[derive(Clone, Copy)]
struct Kind {
    class: Class,
    activity: (u32, &'static str),
    severity: Severity,
    success: bool,
}

const fn kind(class: Class, id: u32, name: &'static str) -> Kind {
    Kind { class, activity: (id, name), severity: Severity::Informational, success: true }
}

impl Kind {
    const fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    const fn failed(self, severity: Severity) -> Self {
        Self { severity, success: false, ..self }
    }
}

const CREATE: (u32, &str) = (1, "Create");
const UPDATE: (u32, &str) = (3, "Update");
const DELETE: (u32, &str) = (4, "Delete");

/// Activity 99 is OCSF's "Other", whose name is the source's own.
const OTHER: u32 = 99;

fn classify(event: &Event) -> Kind {
    use Class::{AccountChange, ApiActivity, ApplicationLifecycle, Authentication, EntityManagement, UserAccess};
    use Severity::{High, Low, Medium};
    let api = |(id, name)| kind(ApiActivity, id, name);
    let entity = |(id, name)| kind(EntityManagement, id, name);
    let assign = kind(UserAccess, 1, "Assign Privileges");
    let remove = kind(UserAccess, 2, "Revoke Privileges");
    match event.action.as_str() {
        "grant.active" => assign,
        "grant.extended" => assign.severity(Low),
        "grant.failed" => assign.failed(Low),
        "grant.ended" | "identity.offboarded" | "identity.reconsidered" => remove,
        "grant.attested" => remove.severity(Medium),
        "grant.quarantined" => remove.failed(High),
        "grant.drift" => kind(UserAccess, OTHER, "Drift").severity(High),
        "token.issued" => kind(Authentication, 1, "Logon"),
        "auth.failed" => kind(Authentication, 1, "Logon").failed(Low),
        "identity.created" | "workload.registered" => kind(AccountChange, 1, "Create"),
        "identity.updated" => kind(AccountChange, OTHER, "Update"),
        "identity.deactivated" => kind(AccountChange, 5, "Disable"),
        "identity.reactivated" => kind(AccountChange, 2, "Enable"),
        "identity.adopted" => kind(AccountChange, OTHER, "Adopt").severity(Low),
        "identity.erased" => kind(AccountChange, 6, "Delete"),
        "identity.unused" => kind(AccountChange, OTHER, "Unused").severity(Low),
        "identity.orphaned" | "workload.orphaned" => kind(AccountChange, OTHER, "Orphan").severity(Medium),
        "source.held" => entity((OTHER, "Mass change held")).severity(High),
        "source.accepted" => entity((OTHER, "Mass change accepted")).severity(Medium),
        "source.collision" => entity((OTHER, "Collision")).severity(Medium),
        "lock.created" if event.subject.is_some() => kind(AccountChange, 9, "Lock").severity(High),
        "lock.lifted" if event.subject.is_some() => kind(AccountChange, OTHER, "Unlock").severity(Medium),
        "lock.created" => entity(UPDATE).severity(High),
        "lock.lifted" => entity(UPDATE).severity(Medium),
        "policy.loaded" => entity(UPDATE),
        "policy.rejected" => entity(UPDATE).failed(Medium),
        "orphan.found" => entity((OTHER, "Orphan found")).severity(High),
        "orphan.revoked" => entity(DELETE),
        "system.started" => kind(ApplicationLifecycle, 3, "Start"),
        "system.resumed" => kind(ApplicationLifecycle, OTHER, "Resume"),
        "request.created" | "grant.scheduled" | "grant.claimed" | "token.created" | "audit.sealed" => api(CREATE),
        "token.revoked" => api(DELETE),
        "request.approved" | "request.denied" | "request.cancelled" | "request.lapsed" | "approval.recorded"
        | "grant.activating" | "grant.revoking" | "grant.shortened" => api(UPDATE),
        _ => api((OTHER, "Other")),
    }
}

/// One audit event as one OCSF 1.8 event. `seq` is its index in the log, if it has been sealed.
pub fn map(event: &Event, seq: Option<u64>) -> Value {
    let kind = classify(event);
    let (class_uid, (category_uid, category_name)) = (kind.class.uid(), kind.class.category());
    let (activity_id, named) = kind.activity;
    let activity_name = if activity_id == OTHER && named == "Other" { event.action.as_str() } else { named };
    let (severity_id, severity) = kind.severity.id_and_name();
    let (status_id, status) = if kind.success { (1, "Success") } else { (2, "Failure") };
    let mut out = json!({
        "metadata": {
            "version": VERSION,
            "product": { "name": "Tidegate", "vendor_name": "Tidegate", "version": env!("CARGO_PKG_VERSION") },
            "uid": event.id,
            "correlation_uid": event.correlation,
            "event_code": event.action,
            "log_name": "audit",
            "original_time": event.at,
        },
        "time": event.at.micros().div_euclid(1000),
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": kind.class.name(),
        "activity_id": activity_id,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity_id,
        "type_name": format!("{}: {activity_name}", kind.class.name()),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "message": message(event),
        "actor": actor(event),
        "unmapped": { "tidegate": event },
    });
    if let Some(Value::Object(metadata)) = out.get_mut("metadata") {
        if let Some(seq) = seq {
            metadata.insert("sequence".to_owned(), seq.into());
        }
        // OCSF has one place for what ties events together; what brought it about is a label.
        if let Some(cause) = event.cause {
            metadata.insert("labels".to_owned(), json!([format!("cause:{cause}")]));
        }
    }
    if let Value::Object(fields) = &mut out {
        add_class_fields(kind.class, event, fields);
    }
    out
}

fn message(event: &Event) -> String {
    let place = event.target.as_ref().map(|t| format!(" on {t}")).unwrap_or_default();
    let reason = event.details.get("reason").and_then(Value::as_str).map(|r| format!(": {r}")).unwrap_or_default();
    format!("{}{place}{reason}", event.action)
}

fn actor(event: &Event) -> Value {
    match event.actor {
        Some(id) => json!({ "user": { "uid": id }, "app_name": event.via }),
        None => json!({ "app_name": "tidegate" }),
    }
}

/// The user that it is about: the subject, else who did it, else the broker itself.
fn user(event: &Event) -> Value {
    match event.subject.or(event.actor) {
        Some(id) => json!({ "uid": id }),
        None => json!({ "name": "unknown", "type_id": 0 }),
    }
}

fn resources(event: &Event) -> Vec<Value> {
    let resource = |kind: &str, id: &str| json!({ "type": kind, "uid": id });
    let mut all: Vec<Value> = event.target.iter().map(|t| resource("target", t)).collect();
    all.extend(event.request.map(|id| resource("request", &id.to_string())));
    all.extend(event.grant.map(|id| resource("grant", &id.to_string())));
    all
}

fn privileges(event: &Event) -> Vec<Value> {
    let one = event.details.get("entitlement").filter(|v| v.is_string());
    let many = event.details.get("entitlements").and_then(Value::as_array);
    one.into_iter().chain(many.into_iter().flatten().filter(|v| v.is_string())).cloned().collect()
}

/// What each class requires, and what it recommends and we know.
fn add_class_fields(class: Class, event: &Event, out: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    match class {
        Class::AccountChange => put("user", user(event)),
        Class::Authentication => {
            put("user", user(event));
            put("service", json!({ "name": "tidegate" }));
        }
        Class::UserAccess => {
            put("user", user(event));
            put("privileges", privileges(event).into());
            put("resources", resources(event).into());
        }
        Class::EntityManagement => put("entity", entity(event)),
        Class::ApplicationLifecycle => put("app", json!({ "name": "Tidegate", "version": env!("CARGO_PKG_VERSION") })),
        Class::ApiActivity => {
            put("api", json!({ "operation": event.action, "request": { "uid": event.correlation } }));
            let from = event.details.get("ip").filter(|v| v.is_string());
            put("src_endpoint", from.map_or_else(|| json!({ "svc_name": event.via }), |ip| json!({ "ip": ip })));
            put("resources", resources(event).into());
        }
    }
}

/// What was managed: a policy set, an object at a target, or what a lock fell on.
fn entity(event: &Event) -> Value {
    let text = |key: &str| event.details.get(key).and_then(Value::as_str);
    let kind = event.action.split('.').next().unwrap_or_default();
    let kind = if kind == "orphan" { "object" } else { kind };
    let name = match kind {
        "policy" => Some("policies"),
        _ => text("object").or_else(|| text("entitlement")).or(event.target.as_deref()),
    };
    let mut entity = json!({ "type": kind, "name": name.unwrap_or("unknown") });
    if let (Some(version), Value::Object(fields)) = (text("version"), &mut entity) {
        fields.insert("version".to_owned(), version.into());
    }
    entity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::tests::event;

    const ACTIONS: [&str; 43] = [
        "request.created",
        "request.approved",
        "request.denied",
        "request.cancelled",
        "request.lapsed",
        "approval.recorded",
        "grant.scheduled",
        "grant.activating",
        "grant.active",
        "grant.claimed",
        "grant.extended",
        "grant.revoking",
        "grant.ended",
        "grant.failed",
        "grant.quarantined",
        "grant.attested",
        "grant.drift",
        "lock.created",
        "lock.lifted",
        "token.created",
        "token.revoked",
        "token.issued",
        "identity.created",
        "identity.updated",
        "identity.deactivated",
        "identity.reactivated",
        "identity.adopted",
        "identity.offboarded",
        "identity.reconsidered",
        "workload.orphaned",
        "source.held",
        "source.accepted",
        "source.collision",
        "workload.registered",
        "orphan.found",
        "orphan.revoked",
        "policy.loaded",
        "policy.rejected",
        "auth.failed",
        "system.started",
        "system.resumed",
        "audit.sealed",
        "something.new",
    ];

    fn mapped(action: &str) -> Value {
        let details = json!({ "entitlement": "orders-read", "reason": "expired" });
        let mut out = map(&event(action, details), Some(41));
        out["metadata"]["product"]["version"] = "(version)".into();
        out
    }

    #[test]
    fn a_grant_an_end_a_request_and_a_policy() {
        for action in ["grant.active", "grant.ended", "request.created", "policy.loaded"] {
            let mut out = mapped(action);
            out.sort_all_objects();
            insta::assert_json_snapshot!(action, out);
        }
    }

    #[test]
    fn every_action_has_its_class() {
        let row = |a: &&str| {
            let out = mapped(a);
            format!("{a:22} {} {} {} {}", out["type_uid"], out["type_name"], out["severity"], out["status"])
        };
        insta::assert_snapshot!(ACTIONS.iter().map(row).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn what_the_classes_require_is_there() {
        for action in ACTIONS {
            for bare in [false, true] {
                let mut event = event(action, json!({}));
                if bare {
                    (event.actor, event.subject, event.target) = (None, None, None);
                    (event.request, event.grant) = (None, None);
                }
                let out = map(&event, None);
                let mut required = vec!["/metadata/version", "/metadata/product/name", "/severity_id", "/time"];
                required.extend(match out["class_uid"].as_u64() {
                    Some(3001 | 3005) => vec!["/user"],
                    Some(3002) => vec!["/user", "/service/name"],
                    Some(3004) => vec!["/entity/name"],
                    Some(6002) => vec!["/app/name"],
                    Some(6003) => vec!["/actor", "/api/operation", "/src_endpoint"],
                    other => panic!("{other:?}"),
                });
                for path in required {
                    assert!(out.pointer(path).is_some_and(|v| !v.is_null()), "{action}: {path}");
                }
                let user = out.get("user");
                assert!(user.is_none_or(|u| u.get("uid").or(u.get("name")).is_some()), "{action}");
                let (class, activity) = (out["class_uid"].as_u64().unwrap(), out["activity_id"].as_u64().unwrap());
                assert_eq!(out["type_uid"].as_u64(), Some(class * 100 + activity));
                assert_eq!(out["category_uid"].as_u64(), Some(class / 1000));
                assert_eq!(out["unmapped"]["tidegate"], serde_json::to_value(&event).unwrap());
            }
        }
    }
}
