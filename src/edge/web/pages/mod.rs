//! One file a page: read what it shows by a verb or two, put it into its template; and one for each thing to do.

pub mod agents;
pub mod approvals;
pub mod audit;
pub mod audit_export;
pub mod break_glass;
pub mod catalog;
pub mod claim;
pub mod decide;
pub mod directory;
pub mod grants;
pub mod insights;
pub mod integrations;
pub mod live;
pub mod locks;
pub mod machine;
pub mod my_access;
pub mod people;
pub mod policies;
pub mod request;
pub mod request_form;
pub mod sign_in;
pub mod slack_link;
pub mod system;
