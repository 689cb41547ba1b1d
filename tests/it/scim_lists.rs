//! Lists: every operator, hostile filters, pages by place and by cursor, sorting, projections; and that look-ups are index
//! hits on both databases.

use serde_json::{Value, json};
use tidegate::{
    domain::scim::{core::USERS, filter::parse_filter},
    store::ScimList,
};

use crate::{
    on_both,
    scim_app::{ENTERPRISE, IDENTITY, Scim, done, refused},
    world::Db,
};

async fn people(scim: &Scim) {
    for (name, family, department, home) in
        [("ada", "Lovelace", "eng", true), ("bob", "Ross", "art", false), ("cyd", "Charisse", "art", true)]
    {
        let mut emails = vec![json!({"value": format!("{name}@work.example"), "type": "work", "primary": true})];
        if home {
            emails.push(json!({"value": format!("{name}@home.example"), "type": "home"}));
        }
        scim.user_of(json!({
            "userName": name, "externalId": format!("X-{name}"), "name": {"familyName": family}, "emails": emails,
            "active": name != "bob", "title": if home { json!("Dr") } else { Value::Null },
            ENTERPRISE: {"department": department}, IDENTITY: {"employment": "employee"},
        }))
        .await;
    }
}

async fn every_operator(db: Db) {
    let scim = Scim::on(db).await;
    people(&scim).await;
    let ours = |filter: &str| format!("externalId sw \"X-\" and ({filter})");
    for (filter, names) in [
        ("userName eq \"ADA\"", &["ada"][..]),
        ("urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"ada\"", &["ada"]),
        ("userName ne \"ada\"", &["bob", "cyd"]),
        ("userName co \"D\"", &["ada", "cyd"]),
        ("USERNAME SW \"a\"", &["ada"]),
        ("userName ew \"b\"", &["bob"]),
        ("userName gt \"ada\"", &["bob", "cyd"]),
        ("userName ge \"bob\" AND userName lt \"cyd\"", &["bob"]),
        ("userName le \"ada\"", &["ada"]),
        ("externalId eq \"X-ada\"", &["ada"]),
        ("externalId eq \"x-ada\"", &[]),
        ("active eq false", &["bob"]),
        ("active eq \"True\"", &["ada", "cyd"]),
        ("active ne true", &["bob"]),
        ("title pr", &["ada", "cyd"]),
        ("not (title pr)", &["bob"]),
        ("title eq null", &["bob"]),
        ("title ne null", &["ada", "cyd"]),
        ("name.familyName eq \"lovelace\"", &["ada"]),
        ("name pr", &["ada", "bob", "cyd"]),
        ("emails pr and emails.type eq \"home\"", &["ada", "cyd"]),
        ("emails eq \"bob@work.example\"", &["bob"]),
        ("emails.value ew \"home.example\"", &["ada", "cyd"]),
        ("emails[type eq \"work\" and value co \"@home\"]", &[]),
        ("emails[type eq \"home\" and value co \"@home\"]", &["ada", "cyd"]),
        ("emails[value eq \"ada@home.example\" and type eq \"home\"]", &["ada"]),
        ("emails[value eq \"ada@home.example\" and type eq \"work\"]", &[]),
        ("emails[not (type eq \"work\")]", &["ada", "cyd"]),
        ("emails[type eq \"home\" or primary eq true]", &["ada", "bob", "cyd"]),
        ("emails[type eq \"work\"].value eq \"bob@work.example\"", &["bob"]),
        ("not (emails[type eq \"home\"])", &["bob"]),
        ("department eq \"ART\"", &["bob", "cyd"]),
        (
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq \"art\" and active eq true",
            &["cyd"],
        ),
        ("urn:tidegate:params:scim:schemas:1.0:Identity:employment eq \"employee\"", &["ada", "bob", "cyd"]),
        ("userName eq \"ada\" or userName eq \"bob\" and active eq true", &["ada"]),
        ("(userName eq \"ada\" or userName eq \"bob\") and active eq true", &["ada"]),
        ("meta.created gt \"2020-01-01T00:00:00Z\"", &["ada", "bob", "cyd"]),
        ("meta.lastModified lt \"2020-01-01T00:00:00Z\"", &[]),
        ("meta.resourceType eq \"User\"", &["ada", "bob", "cyd"]),
        ("schemas eq \"urn:ietf:params:scim:schemas:core:2.0:User\"", &["ada", "bob", "cyd"]),
        ("groups pr", &[]),
        ("displayName eq \"Lovelace\"", &["ada"]),
    ] {
        assert_eq!(scim.found(&ours(filter)).await, names, "{filter}");
    }
    scim.user_of(json!({"userName": "ute", "displayName": "ÖZGE Ünal"})).await;
    for filter in ["displayName eq \"özge ÜNAL\"", "displayName sw \"Özge\"", "displayName co \"üna\""] {
        assert_eq!(scim.found(filter).await, ["ute"], "{filter}");
    }
    assert_eq!(scim.found("kind eq \"workload\"").await, ["deploy-bot"]);
    assert_eq!(scim.found("groups.display eq \"Engineers\"").await, ["ana", "ben"]);
    assert_eq!(scim.found("groups[display eq \"approvers\"]").await, ["ben"]);
    // Somebody kept here is found by the e-mail that is known.
    assert_eq!(scim.found("emails.value eq \"EVE@example.com\"").await, ["eve"]);
    let searched =
        scim.post("/Users/.search", json!({"filter": "userName eq \"ada\"", "attributes": ["userName"]})).await;
    assert_eq!(searched.body["Resources"][0]["userName"], "ada");
    assert!(searched.body["Resources"][0].get("emails").is_none());
    let all = scim.post("/.search", json!({"filter": "displayName co \"e\"", "count": 1000})).await;
    let types: Vec<&str> =
        all.body["Resources"].as_array().unwrap().iter().filter_map(|r| r["meta"]["resourceType"].as_str()).collect();
    assert!(types.contains(&"User") && types.contains(&"Group"), "{types:?}");
    assert_eq!(all.body["totalResults"], types.len());
}

async fn hostile_filters_are_refused_or_find_nothing(db: Db) {
    let scim = Scim::on(db).await;
    let deep = format!("{}userName eq \"a\"{}", "(".repeat(5000), ")".repeat(5000));
    let long = format!("userName eq \"{}\"", "x".repeat(100_000));
    let wide = vec!["userName eq \"a\""; 300].join(" or ");
    let nots = format!("{}(userName pr){}", "not (".repeat(400), ")".repeat(400));
    for filter in [
        "userName",
        "userName eq",
        "userName eq a",
        "eq \"a\"",
        "userName xx \"a\"",
        "userName eq \"a",
        "(userName pr",
        "userName pr)",
        "userName pr and",
        "and userName pr",
        "not",
        "not userName pr",
        "[",
        "emails[",
        "emails[]",
        "emails[type eq \"x\"",
        "emails[foo eq \"x\"]",
        "userName[value eq \"x\"]",
        "name eq \"x\"",
        "foo eq \"x\"",
        "active gt true",
        "active eq \"perhaps\"",
        "meta.created gt \"yesterday\"",
        "meta.created co \"20\"",
        "\u{0}",
        "userName eq \"\\u0000\"",
        "userName eq {}",
        "userName eq [\"a\"]",
        "userName eq \"\\ud800\"",
        "🦀 eq \"a\"",
        "userName eq \"a\" userName eq \"b\"",
        &deep,
        &long,
        &wide,
        &nots,
    ] {
        refused(&scim.filter("/Users", filter).await, 400, "invalidFilter");
    }
    for filter in [
        "userName eq \"' OR '1'='1\"",
        "userName eq \"a'; DROP TABLE identities; --\"",
        "userName co \"%\"",
        "userName co \"_\"",
        "userName sw \"$1\"",
        "emails[value eq \"' OR 1=1 --\"]",
        "title eq \"\\\\\"",
    ] {
        assert_eq!(scim.found(filter).await, Vec::<String>::new(), "{filter}");
    }
    assert!(scim.found("userName pr").await.contains(&"ana".to_owned()), "the table is still there");
}

async fn pages(db: Db) {
    let scim = Scim::on(db).await;
    people(&scim).await;
    let list = async |query: &str| {
        let answer = scim.get(&format!("/Users?filter=externalId%20sw%20%22X-%22&{query}")).await;
        done(&answer, 200);
        let body = answer.body;
        let names: Vec<String> =
            body["Resources"].as_array().unwrap().iter().map(|r| r["userName"].to_string()).collect();
        (body["totalResults"].as_u64().unwrap(), body["startIndex"].clone(), names.join(",").replace('"', ""))
    };
    assert_eq!(list("startIndex=1&count=2&sortBy=userName").await, (3, json!(1), "ada,bob".into()));
    assert_eq!(list("startIndex=3&count=2&sortBy=userName").await, (3, json!(3), "cyd".into()));
    assert_eq!(list("startIndex=9&count=2&sortBy=userName").await, (3, json!(9), String::new()));
    assert_eq!(list("startIndex=0&count=1&sortBy=userName").await, (3, json!(1), "ada".into()));
    assert_eq!(list("startIndex=-4&count=-1&sortBy=userName").await, (3, json!(1), String::new()));
    assert_eq!(list("count=0&sortBy=userName").await, (3, json!(1), String::new()));
    assert_eq!(list("sortBy=userName&sortOrder=descending").await.2, "cyd,bob,ada");
    assert_eq!(list("sortBy=name.familyName").await.2, "cyd,ada,bob");
    assert_eq!(list("sortBy=emails.value&sortOrder=ascending").await.2, "ada,bob,cyd");
    assert!(list("sortBy=title&sortOrder=ascending").await.2.ends_with(",bob"), "what has no value comes last");
    assert!(list("sortBy=title&sortOrder=descending").await.2.starts_with("bob,"), "and first downwards");
    for (query, scim_type) in [
        ("count=many", "invalidValue"),
        ("startIndex=one", "invalidValue"),
        ("sortBy=flavour", "invalidPath"),
        ("cursor=nonsense", "invalidCursor"),
        ("cursor=&startIndex=1", "invalidCursor"),
        ("sortOrder=up", "invalidValue"),
    ] {
        refused(&scim.get(&format!("/Users?{query}")).await, 400, scim_type);
    }
    for sort in ["", "&sortBy=userName&sortOrder=descending"] {
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        loop {
            let page = scim.get(&format!("/Users?count=2&cursor={cursor}{sort}")).await;
            done(&page, 200);
            assert!(page.body.get("startIndex").is_none());
            seen.extend(page.body["Resources"].as_array().unwrap().iter().map(|r| r["userName"].to_string()));
            match page.body["nextCursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        let all = scim.get("/Users").await.body["totalResults"].as_u64().unwrap();
        assert_eq!(seen.len() as u64, all, "{seen:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len() as u64, all);
    }
    let first = scim.get("/Users?count=2&cursor=").await;
    let next = first.body["nextCursor"].as_str().unwrap();
    refused(&scim.get(&format!("/Groups?count=2&cursor={next}")).await, 400, "invalidCursor");
}

async fn projections(db: Db) {
    let scim = Scim::on(db).await;
    people(&scim).await;
    let of = async |query: &str| {
        let page = scim.get(&format!("/Users?filter=userName%20eq%20%22ada%22&{query}")).await;
        page.body["Resources"][0].clone()
    };
    let keys = |user: &Value| {
        let mut keys: Vec<&str> = user.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys.join(" ").replace(ENTERPRISE, "E").replace(IDENTITY, "I")
    };
    let some = of("attributes=USERNAME,emails.value,nonsense").await;
    assert_eq!(keys(&some), "emails id schemas userName");
    assert_eq!(some["emails"][0], json!({"value": "ada@work.example"}));
    let but = of("excludedAttributes=emails,meta,id,name.familyName,schemas,userName").await;
    assert_eq!(keys(&but), "active externalId id schemas title E I");
    let one = of(&format!("attributes={ENTERPRISE}:department")).await;
    assert_eq!(one[ENTERPRISE], json!({"department": "eng"}));
    assert_eq!(keys(&one), "id schemas E");
    let whole = of(&format!("attributes={ENTERPRISE}")).await;
    assert_eq!(whole[ENTERPRISE], json!({"department": "eng"}));
    let made = scim.post("/Users?attributes=userName", json!({"userName": "dee", "title": "x"})).await;
    assert_eq!(keys(&made.body), "id schemas userName");
    assert!(of("attributes=password").await.get("password").is_none());
}

async fn look_ups_are_index_hits(db: Db) {
    let scim = Scim::on(db).await;
    let store = scim.app.world.store().clone();
    fill(&scim, 3000).await;
    for filter in [
        "userName eq \"someone\"",
        "externalId eq \"X-1\"",
        "id eq \"idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z\"",
        "emails.value eq \"a@b\"",
        "emails eq \"a@b\"",
        "emails[type eq \"work\" and value eq \"a@b\"]",
        "emails[type eq \"work\"].value eq \"a@b\"",
        "displayName eq \"a\"",
        "department eq \"a\"",
        "employeeNumber eq \"7\"",
        "manager eq \"7\"",
    ] {
        let list = ScimList { filter: Some(parse_filter(&USERS, filter).unwrap()), limit: 100, ..ScimList::default() };
        let plan = store.explain_scim_users(&list).await.unwrap();
        let scans = match db {
            Db::Sqlite => plan.lines().any(|l| {
                let l = l.trim();
                l.starts_with("SCAN") && ["SCAN i", "SCAN v", "SCAN e", "SCAN n", "SCAN d"].contains(&l)
                    || l.starts_with("SCAN i USING")
            }),
            Db::Postgres => plan.contains("Seq Scan on identities") || plan.contains("Seq Scan on scim_values"),
        };
        assert!(!scans, "{filter}:\n{plan}");
    }
}

/// That many more people, in the ledger itself.
async fn fill(scim: &Scim, people: usize) {
    let operations: Vec<Value> = (0..people)
        .map(|n| {
            json!({"method": "POST", "path": "/Users", "bulkId": n.to_string(), "data": {
                "userName": format!("p{n}"), "externalId": format!("P-{n}"),
                "emails": [{"value": format!("p{n}@example.com"), "type": "work"}], ENTERPRISE: {"employeeNumber": n.to_string()},
            }})
        })
        .collect();
    for chunk in operations.chunks(500) {
        let done = scim.post("/Bulk", json!({"Operations": chunk})).await;
        assert!(done.body["Operations"].as_array().unwrap().iter().all(|o| o["status"] == "201"), "{}", done.body);
    }
    if let Ok(mut ledger) = <sqlx::AnyConnection as sqlx::Connection>::connect(&scim.app.world.database.url).await {
        sqlx::Executor::execute(&mut ledger, "ANALYZE").await.unwrap();
    }
}

on_both!(every_operator, hostile_filters_are_refused_or_find_nothing, pages, projections, look_ups_are_index_hits,);
