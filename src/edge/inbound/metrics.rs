//! Counters and durations by route template, method and class of status. The handles are made once for each
//! combination, so that counting a call looks nothing up in the recorder.
//!
//! | metric | labels |
//! |---|---|
//! | `tidegate_http_requests_total` | `method`, `route` (template, `unmatched`), `status` (`2xx` … `5xx`) |
//! | `tidegate_http_request_duration_seconds` | the same |
//! | `tidegate_http_requests_in_flight` | |
//! | `tidegate_http_event_streams` | |

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, StatusCode};
use metrics::{Counter, Histogram};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OTHER"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Name of the route of paths that match none.
pub(in crate::edge) const UNMATCHED: &str = "unmatched";

struct Handles {
    requests: Counter,
    duration: Histogram,
}

/// One route template.
pub struct RouteInfo {
    template: Arc<str>,
    /// Operations: not counted among the calls at once, so that a busy broker can still be looked at.
    pub(in crate::edge) operations: bool,
    handles: [[OnceLock<Handles>; CLASSES.len()]; METHODS.len()],
}

impl RouteInfo {
    fn new(template: &str) -> Self {
        Self {
            template: template.into(),
            operations: matches!(template, "/healthz" | "/readyz" | "/metrics"),
            handles: Default::default(),
        }
    }

    /// The template, `/v1/grants/{id}`.
    pub(in crate::edge) fn template(&self) -> &str {
        &self.template
    }

    /// Count one call.
    pub(in crate::edge) fn record(&self, method: &Method, status: StatusCode, took: Duration) {
        let row = match *method {
            Method::GET => 0,
            Method::POST => 1,
            Method::PUT => 2,
            Method::PATCH => 3,
            Method::DELETE => 4,
            _ => 5,
        };
        let column = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let (Some(cell), Some(&method), Some(&class)) =
            (self.handles.get(row).and_then(|cells| cells.get(column)), METHODS.get(row), CLASSES.get(column))
        else {
            return;
        };
        let handles = cell.get_or_init(|| {
            let route = Arc::clone(&self.template);
            Handles {
                requests: metrics::counter!(
                    "tidegate_http_requests_total", "method" => method, "route" => Arc::clone(&route), "status" => class
                ),
                duration: metrics::histogram!(
                    "tidegate_http_request_duration_seconds", "method" => method, "route" => route, "status" => class
                ),
            }
        });
        handles.requests.increment(1);
        handles.duration.record(took);
    }
}

/// All route templates.
pub struct Routes {
    by_template: HashMap<Arc<str>, RouteInfo>,
    unmatched: RouteInfo,
}

impl Routes {
    /// From the templates of the router.
    pub(in crate::edge) fn new<'a>(templates: impl Iterator<Item = &'a str>) -> Self {
        metrics::describe_counter!("tidegate_http_requests_total", "Calls answered");
        metrics::describe_histogram!(
            "tidegate_http_request_duration_seconds",
            metrics::Unit::Seconds,
            "From the first byte of a call to the head of its answer"
        );
        metrics::describe_gauge!("tidegate_http_requests_in_flight", "Calls being answered");
        metrics::describe_gauge!("tidegate_http_event_streams", "Event streams open");
        Self {
            by_template: templates.map(|t| (Arc::from(t), RouteInfo::new(t))).collect(),
            unmatched: RouteInfo::new(UNMATCHED),
        }
    }

    /// The route of a matched template.
    pub(in crate::edge) fn get(&self, template: Option<&str>) -> &RouteInfo {
        template.and_then(|t| self.by_template.get(t)).unwrap_or(&self.unmatched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_match_nothing_share_one_row() {
        let routes = Routes::new(["/v1/me", "/healthz"].into_iter());
        assert_eq!(routes.get(Some("/v1/me")).template(), "/v1/me");
        assert!(routes.get(Some("/healthz")).operations);
        assert_eq!(routes.get(Some("/v1/you")).template(), UNMATCHED);
        assert_eq!(routes.get(None).template(), UNMATCHED);
    }

    #[test]
    fn a_call_is_counted_under_its_class() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let text = metrics::with_local_recorder(&recorder, || {
            let routes = Routes::new(["/v1/me"].into_iter());
            routes.get(Some("/v1/me")).record(&Method::GET, StatusCode::OK, Duration::from_millis(3));
            routes.get(None).record(&Method::TRACE, StatusCode::NOT_FOUND, Duration::from_millis(3));
            recorder.handle().render()
        });
        for line in [
            r#"tidegate_http_requests_total{method="GET",route="/v1/me",status="2xx"} 1"#,
            r#"tidegate_http_requests_total{method="OTHER",route="unmatched",status="4xx"} 1"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
