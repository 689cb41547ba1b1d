//! What the LDAP connector may say when it sees nothing, and when names move.

use serde_json::json;
use tidegate::ports::connector::{Connector, Fault, Presence};

use crate::{
    connectors,
    connectors_ldap::{ANA, BEN, ODD, OPS, World},
    connectors_postgres::new_grant,
    servers::slapd::BROKER,
};

const RENAMED: &str = "cn=operators,ou=groups,dc=example";
const MARRIED: &str = "uid=ana.lee,ou=people,dc=example";

/// Not gone, and not said to be.
async fn is_unknown(c: &dyn Connector, recipe: &tidegate::domain::grant::Recipe) -> String {
    match c.verify(recipe).await {
        Presence::Unknown(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ldap_what_the_broker_may_not_see_is_not_gone() {
    let w = World::new();
    let c = w.connector();
    let held = w.open(c.as_ref(), OPS).await;
    w.ledger().end(held.recipe.grant);
    let hidden = [
        // Its members cannot be searched, nor compared; and without `disclose` the server says "no such object".
        format!("access to dn.exact=\"{OPS}\" attrs=member by dn.exact=\"{BROKER}\" disclose by * read"),
        format!("access to dn.exact=\"{OPS}\" attrs=member by dn.exact=\"{BROKER}\" none by * read"),
        // The whole tree of groups is hidden: "no such object" is said of what is there.
        format!("access to dn.subtree=\"ou=groups,dc=example\" by dn.exact=\"{BROKER}\" none by * read"),
        // Only the entry at the top is seen, and nothing below it.
        format!("access to dn.children=\"ou=groups,dc=example\" by dn.exact=\"{BROKER}\" none by * read"),
    ];
    for rules in &hidden {
        w.slapd.access(rules);
        is_unknown(c.as_ref(), &held.recipe).await;
        let wish = connectors::wish(new_grant(), json!({ "group": OPS }));
        assert!(c.prepare(&wish).await.is_err(), "the prior state is not known either: {rules}");
        assert_eq!(w.members(OPS).await, [ANA, BEN]);
    }
    w.slapd.access("");
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
}

#[tokio::test]
async fn ldap_a_holder_whose_entry_cannot_be_found_is_not_gone() {
    let w = World::new();
    let c = w.connector();
    let held = w.open(c.as_ref(), OPS).await;
    // The group follows a rename of the holder; the broker may not look where people are.
    w.slapd.ldif(&format!(
        "dn: {ANA}\nchangetype: modrdn\nnewrdn: uid=ana.lee\ndeleteoldrdn: 1\n\n\
         dn: {OPS}\nchangetype: modify\ndelete: member\nmember: {ANA}\n-\nadd: member\nmember: {MARRIED}\n"
    ));
    w.slapd.access(&format!(
        "access to dn.subtree=\"ou=people,dc=example\" attrs=entry,children,entryUUID by dn.exact=\"{BROKER}\" none by * read"
    ));
    w.ledger().end(held.recipe.grant);
    is_unknown(c.as_ref(), &held.recipe).await;
    w.slapd.access("");
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
}

#[tokio::test]
async fn ldap_a_group_that_was_renamed_is_found_and_its_successor_left_alone() {
    let w = World::new();
    let c = w.connector();
    let held = w.open(c.as_ref(), OPS).await;
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: modrdn\nnewrdn: cn=operators\ndeleteoldrdn: 1\n"));
    let seen = c.verify(&held.recipe).await;
    assert!(matches!(&seen, Presence::Present(said) if said["seen"]["found_as"] == RENAMED), "{seen:?}");
    // Another group takes the name, with ana in it for good.
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: add\nobjectClass: groupOfNames\ncn: ops\nmember: {ANA}\n"));
    assert!(matches!(c.verify(&held.recipe).await, Presence::Present(_)));
    // A grant on the group under its new name is counted with the one under its old name.
    let second = w.open(c.as_ref(), RENAMED).await;
    assert_eq!(second.recipe.shared(), held.recipe.shared());
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(w.members(RENAMED).await, [ANA, BEN]);
    w.close(c.as_ref(), &second.recipe).await;
    assert_eq!(w.members(RENAMED).await, [BEN]);
    assert_eq!(w.members(OPS).await, [ANA], "that is another group");
    assert!(c.sweep().await.unwrap().is_empty());
}

#[tokio::test]
async fn ldap_a_holder_who_was_renamed_is_put_out() {
    let w = World::new();
    let c = w.connector();
    let rename = "changetype: modrdn\nnewrdn: uid=ana.lee\ndeleteoldrdn: 1\n";
    for follows in [true, false] {
        let held = w.open(c.as_ref(), OPS).await;
        w.slapd.ldif(&format!("dn: {ANA}\n{rename}"));
        if follows {
            // As Active Directory does it by itself, and OpenLDAP with `refint`.
            w.slapd.ldif(&format!(
                "dn: {OPS}\nchangetype: modify\ndelete: member\nmember: {ANA}\n-\nadd: member\nmember: {MARRIED}\n"
            ));
        }
        w.ledger().end(held.recipe.grant);
        assert!(matches!(c.verify(&held.recipe).await, Presence::Present(_)), "follows: {follows}");
        w.close(c.as_ref(), &held.recipe).await;
        assert_eq!(w.members(OPS).await, [BEN], "follows: {follows}");
        w.slapd.ldif(&format!("dn: {MARRIED}\nchangetype: modrdn\nnewrdn: uid=ana\ndeleteoldrdn: 1\n"));
    }
}

#[tokio::test]
async fn ldap_a_name_of_before_is_not_put_in_again() {
    let w = World::new();
    let c = w.connector();
    let held = w.open(c.as_ref(), OPS).await;
    w.slapd.ldif(&format!(
        "dn: {ANA}\nchangetype: modrdn\nnewrdn: uid=ana.lee\ndeleteoldrdn: 1\n\n\
         dn: {MARRIED}\nchangetype: modify\nadd: uid\nuid: ana\n\n\
         dn: {OPS}\nchangetype: modify\ndelete: member\nmember: {ANA}\n-\nadd: member\nmember: {MARRIED}\n"
    ));
    // She holds it twice, once under each name; somebody who gets the old name gets nothing with it.
    let second = w.open(c.as_ref(), OPS).await;
    assert_eq!(second.recipe.shared(), held.recipe.shared());
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(w.members(OPS).await, [MARRIED, BEN]);
    w.close(c.as_ref(), &second.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    assert!(c.sweep().await.unwrap().is_empty());
}

#[tokio::test]
async fn ldap_recipes_of_old_end_as_before() {
    let w = World::new();
    let c = w.connector();
    let mut intent = w.intent(c.as_ref(), ODD).await;
    let data = intent.recipe.data.as_object_mut().unwrap();
    assert!(data.remove("group_id").is_some() && data.remove("member_id").is_some());
    w.ledger().intend(connectors::TARGET, &intent);
    c.activate(&intent).await.unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)));
    w.close(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.members(ODD).await, [BEN]);
}

#[tokio::test]
async fn ldap_two_targets_on_one_directory_are_told() {
    let w = World::new();
    let place = |base: &str| w.connector_with(&json!({ "group_base": base })).places();
    let (all, some, other) = (place("dc=example"), place("OU=Groups, DC=Example"), place("ou=other,dc=example"));
    assert!(some[0].starts_with(&all[0]), "{some:?} is within {all:?}");
    assert!(!some[0].starts_with(&other[0]) && !other[0].starts_with(&some[0]));
    let wish = connectors::wish(new_grant(), json!({"group": "cn=x\\,ou=groups,dc=example"}));
    assert!(
        matches!(w.connector_with(&json!({})).prepare(&wish).await, Err(Fault::Refused(why)) if why.contains("group_base"))
    );
}
