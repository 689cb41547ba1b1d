//! The schemas that are served: User, Group and enterprise of RFC 7643, and ours.

use super::schema::{Attribute, Kind, ResourceType, Schema};

/// Value, kind of value, label, and which one is preferred.
macro_rules! plural {
    ($value:expr, $($usual:literal),*) => {
        &[
            $value,
            Attribute::text("display", "Name for people to read."),
            Attribute::text("type", "What kind of value it is.").usual(&[$($usual),*]),
            Attribute::new("primary", Kind::Boolean, "The preferred one; at most one is."),
        ]
    };
}

const NAME: &[Attribute] = &[
    Attribute::text("formatted", "The whole name, as it is shown."),
    Attribute::text("familyName", "Family name."),
    Attribute::text("givenName", "Given name."),
    Attribute::text("middleName", "Middle names."),
    Attribute::text("honorificPrefix", "Title before the name."),
    Attribute::text("honorificSuffix", "Suffix after the name."),
];

const ADDRESS: &[Attribute] = &[
    Attribute::text("formatted", "The whole address, as it is written."),
    Attribute::text("streetAddress", "Street and number."),
    Attribute::text("locality", "Town."),
    Attribute::text("region", "Region."),
    Attribute::text("postalCode", "Postal code."),
    Attribute::text("country", "Country, ISO 3166-1 alpha 2."),
    Attribute::text("type", "What kind of address it is.").usual(&["work", "home", "other"]),
    Attribute::new("primary", Kind::Boolean, "The preferred one; at most one is."),
];

const GROUPS: &[Attribute] = &[
    Attribute::text("value", "Id of the group.").exact().read_only(),
    Attribute::new("$ref", Kind::Reference, "Address of the group.").to(&["Group"]).read_only(),
    Attribute::text("display", "Name of the group.").read_only(),
    Attribute::text("type", "`direct`: groups do not contain groups.").usual(&["direct"]).read_only(),
];

/// A person; workloads and agents are shown, and written elsewhere.
pub static USER: Schema = Schema {
    urn: "urn:ietf:params:scim:schemas:core:2.0:User",
    short: "",
    name: "User",
    description: "A person. Workloads and agents are shown too; sources do not write them.",
    attributes: &[
        Attribute::text("userName", "Unique name; compared without case.").required().unique(),
        Attribute::complex("name", NAME, "The parts of the name."),
        Attribute::text("displayName", "Name for people to read."),
        Attribute::text("nickName", "Casual name."),
        Attribute::new("profileUrl", Kind::Reference, "Address of a profile page.").to(&["external"]),
        Attribute::text("title", "Title in the organisation."),
        Attribute::text("userType", "Relationship to the organisation."),
        Attribute::text("preferredLanguage", "Language, as in Accept-Language."),
        Attribute::text("locale", "Locale, RFC 5646."),
        Attribute::text("timezone", "Time zone, IANA name."),
        Attribute::new(
            "active",
            Kind::Boolean,
            "False: everything that the person holds ends, and nothing new begins.",
        ),
        Attribute::text("password", "Taken and thrown away: nobody signs in with it here.").write_only(),
        Attribute::list(
            "emails",
            plural!(Attribute::text("value", "E-mail address."), "work", "home", "other"),
            "E-mail addresses.",
        ),
        Attribute::list(
            "phoneNumbers",
            plural!(Attribute::text("value", "Telephone number."), "work", "home", "mobile", "fax", "pager", "other"),
            "Telephone numbers.",
        ),
        Attribute::list(
            "ims",
            plural!(Attribute::text("value", "Messaging address."), "aim", "xmpp", "skype", "other"),
            "Addresses for instant messages.",
        ),
        Attribute::list(
            "photos",
            plural!(
                Attribute::new("value", Kind::Reference, "Address of a photo.").to(&["external"]),
                "photo",
                "thumbnail"
            ),
            "Photos.",
        ),
        Attribute::list("addresses", ADDRESS, "Postal addresses."),
        Attribute::list("groups", GROUPS, "Groups that the person is in; changed at the group.").read_only(),
        Attribute::list(
            "entitlements",
            plural!(Attribute::text("value", "An entitlement."),),
            "Entitlements at the source; policies may read them.",
        ),
        Attribute::list("roles", plural!(Attribute::text("value", "A role."),), "Roles; policies may read them."),
        Attribute::list(
            "x509Certificates",
            plural!(Attribute::new("value", Kind::Binary, "Certificate, DER."),),
            "Certificates.",
        ),
    ],
};

const MANAGER: &[Attribute] = &[
    Attribute::text("value", "Id of the manager.").exact(),
    Attribute::new("$ref", Kind::Reference, "Address of the manager.").to(&["User"]),
];

/// The enterprise extension (RFC 7643 §4.3).
pub static ENTERPRISE: Schema = Schema {
    urn: "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    short: "enterprise",
    name: "Enterprise User",
    description: "Where a person stands in the organisation; policies may read it.",
    attributes: &[
        Attribute::text("employeeNumber", "Number in the organisation."),
        Attribute::text("costCenter", "Cost centre."),
        Attribute::text("organization", "Organisation."),
        Attribute::text("division", "Division."),
        Attribute::text("department", "Department."),
        Attribute::complex("manager", MANAGER, "The manager, who may ask on the person's behalf."),
    ],
};

const OWNER: &[Attribute] = &[
    Attribute::text("value", "Id of the person who answers for a workload or agent.").exact().read_only(),
    Attribute::new("$ref", Kind::Reference, "Address of that person.").to(&["User"]).read_only(),
];

/// What access depends on and the standard has no name for.
pub static IDENTITY: Schema = Schema {
    urn: "urn:tidegate:params:scim:schemas:1.0:Identity",
    short: "tidegate",
    name: "Identity",
    description: "What access depends on and the standard has no name for.",
    attributes: &[
        Attribute::text("kind", "Person, workload or agent.").usual(&["person", "workload", "agent"]).read_only(),
        Attribute::text("employment", "Kind of employment; policies may read it.").usual(&[
            "employee",
            "contractor",
            "partner",
            "guest",
        ]),
        Attribute::text(
            "contractEnd",
            "Instant (RFC 3339) or last day (2027-03-31, UTC) of the relationship: then everything ends by itself.",
        )
        .exact()
        .usual(&["9999-01-01T00:00:00Z"]),
        Attribute::complex("owner", OWNER, "Who answers for a workload or agent.").read_only(),
    ],
};

const MEMBERS: &[Attribute] = &[
    Attribute::text("value", "Id of the member.").exact().immutable(),
    Attribute::new("$ref", Kind::Reference, "Address of the member.").to(&["User"]).immutable(),
    Attribute::text("type", "`User`: groups do not contain groups.").usual(&["User"]).immutable(),
];

/// A group.
pub static GROUP: Schema = Schema {
    urn: "urn:ietf:params:scim:schemas:core:2.0:Group",
    short: "",
    name: "Group",
    description: "A group; what its members may ask for is in the policies.",
    attributes: &[
        Attribute::text("displayName", "Unique name; compared without case.").required().unique(),
        Attribute::list("members", MEMBERS, "Standing members. Those whom a grant put in for a while are not shown."),
    ],
};

const META: &[Attribute] = &[
    Attribute::text("resourceType", "Type of the resource.").exact().read_only(),
    Attribute::new("created", Kind::DateTime, "When it was made.").read_only(),
    Attribute::new("lastModified", Kind::DateTime, "Its last change.").read_only(),
    Attribute::new("location", Kind::Reference, "Its address.").read_only(),
    Attribute::text("version", "Its version, as in ETag.").exact().read_only(),
];

/// What every resource has (RFC 7643 §3.1).
pub static COMMON: Schema = Schema {
    urn: "",
    short: "",
    name: "Common",
    description: "",
    attributes: &[
        Attribute::text("id", "Its id.").exact().unique().read_only().always(),
        Attribute::text("externalId", "The source's own name for it.").exact(),
        Attribute::new("schemas", Kind::Reference, "The schemas that it uses.").multi().read_only().always(),
        Attribute::complex("meta", META, "About the resource itself.").read_only(),
    ],
};

/// `/Users`.
pub static USERS: ResourceType = ResourceType {
    name: "User",
    endpoint: "/Users",
    description: "People",
    schema: &USER,
    extensions: &[&ENTERPRISE, &IDENTITY],
};

/// `/Groups`.
pub static GROUPS_TYPE: ResourceType =
    ResourceType { name: "Group", endpoint: "/Groups", description: "Groups", schema: &GROUP, extensions: &[] };
