//! What this service provider can do, and of what it speaks (RFC 7643 §5–7).

use serde_json::{Value, json};

use super::{DEFAULT_PAGE, MAX_BULK, MAX_OPERATIONS, MAX_PAGE};
use crate::{
    broker::Broker,
    domain::scim::{
        core::{GROUP, GROUPS_TYPE},
        schema::ResourceType,
    },
};

impl Broker {
    /// `/ServiceProviderConfig`.
    pub fn scim_config(&self) -> Value {
        let base = self.scim_base();
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
            "patch": {"supported": true},
            "bulk": {"supported": true, "maxOperations": MAX_OPERATIONS, "maxPayloadSize": MAX_BULK},
            "filter": {"supported": true, "maxResults": MAX_PAGE},
            "changePassword": {"supported": false},
            "sort": {"supported": true},
            "etag": {"supported": true},
            "pagination": {
                "cursor": true, "index": true, "defaultPaginationMethod": "index", "defaultPageSize": DEFAULT_PAGE,
                "maxPageSize": MAX_PAGE,
            },
            "authenticationSchemes": [{
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The token of a source, made with `tidegate scim token create`.",
                "specUri": "https://www.rfc-editor.org/info/rfc6750",
                "primary": true,
            }],
            "meta": {"resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig")},
        })
    }

    /// `/ResourceTypes`.
    pub fn scim_resource_types(&self) -> Vec<Value> {
        let base = self.scim_base();
        [self.settings.users, &GROUPS_TYPE].iter().map(|t: &&ResourceType| t.render(&base)).collect()
    }

    /// `/Schemas`.
    pub fn scim_schemas(&self) -> Vec<Value> {
        let base = self.scim_base();
        self.settings.users.schemas().chain([&GROUP]).map(|s| s.render(&base)).collect()
    }
}
