//! `POST /Bulk`.

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    answer,
    caller::{Caller, read_json},
};
use crate::{
    broker::scim::{BulkAnswer, BulkRequest, MAX_BULK},
    edge::inbound::{Edge, call::carry_through, problem::Problem},
};

/// `POST /Bulk`.
pub async fn bulk(State(edge): State<Edge>, Caller(ctx): Caller, request: Request) -> Result<Response, Problem> {
    let body = read_json(request, &edge, MAX_BULK).await?;
    let request = BulkRequest::read(&body).map_err(answer::refused)?;
    let answers = carry_through(async move { edge.broker.scim_bulk(&ctx, request).await }).await?;
    let operations: Vec<Value> = answers.into_iter().map(operation).collect();
    let out = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkResponse"],
        "Operations": operations,
    });
    Ok(answer::document(StatusCode::OK, &out))
}

fn operation(answer: BulkAnswer) -> Value {
    let mut out = serde_json::Map::new();
    out.insert("method".to_owned(), json!(answer.method));
    out.extend(answer.bulk_id.map(|id| ("bulkId".to_owned(), json!(id))));
    out.extend(answer.location.map(|l| ("location".to_owned(), json!(l))));
    out.extend(answer.version.map(|v| ("version".to_owned(), json!(v))));
    match answer.outcome {
        Ok(status) => {
            out.insert("status".to_owned(), json!(status.to_string()));
        }
        Err(failure) => {
            let problem = Problem::from(failure);
            if let Some(cause) = problem.cause() {
                tracing::error!(cause, "an operation of a bulk call failed");
            }
            out.insert("status".to_owned(), json!(problem.kind().status().as_u16().to_string()));
            out.insert("response".to_owned(), problem.scim_body());
        }
    }
    Value::Object(out)
}
