use super::*;
use crate::domain::{
    decision::{Decision, Inputs, Reason, Verdict},
    id::IdentityId,
    identity::{Identity, IdentityKind, Subject},
    time::{Timestamp, Ttl},
};

fn seed() -> PolicySet {
    PolicySet::build(seed::files(), &NamedTargets::seed()).unwrap()
}

#[test]
fn the_seed_policies_pass_their_own_cases() {
    let report = test_set(&seed());
    assert!(report.ok(), "{report}");
    assert_eq!(report.to_string(), format!("{} passed, 0 failed", report.passed));
}

#[test]
fn the_seed_policies_are_clean() {
    assert_eq!(lint_set(&seed()), []);
}

#[test]
fn the_matrix_of_the_seed_policies_is_the_committed_one() {
    let set = seed();
    let text = matrix(&set, &identities(&set));
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/matrix.txt"), &text).unwrap();
    }
    assert_eq!(text, include_str!("../../policies/matrix.txt"), "run with UPDATE_MATRIX=1 and review the difference");
}

const SCHEMA: &str = include_str!("../../policies/schema.cedarschema");
const LINE: &str = r#"
[[entitlement]]
id = "db:read"
target = "db"
title = "Read"
default_ttl = "30m"
max_ttl = "4h"
sensitivity = 1
approvers = ["Owners"]
"#;

fn targets() -> NamedTargets {
    NamedTargets::default().with("db", "postgres", true).with("old", "ldap", false)
}

fn texts(catalog: &str, cedar: &str) -> Files {
    Files::from_texts([("catalog.toml", catalog), ("schema.cedarschema", SCHEMA), ("a.cedar", cedar)])
}

fn set(cedar: &str) -> PolicySet {
    PolicySet::build(texts(LINE, cedar), &targets()).unwrap()
}

fn permit(id: &str, annotations: &str, action: &str, when: &str) -> String {
    format!(
        "@id(\"{id}\") @reason(\"because\") {annotations}\npermit (principal, action == Tidegate::Action::\"{action}\", resource)\n{when};\n"
    )
}

fn person(n: u128, groups: &[&str]) -> Subject {
    let identity = Identity {
        attributes: [("department".to_owned(), "finance".to_owned())].into(),
        ..Identity::new(IdentityId::new(ulid::Ulid::from(n)), IdentityKind::Person, format!("p{n}"))
    };
    Subject { identity, groups: groups.iter().map(|g| (*g).to_owned()).collect() }
}

fn inputs() -> Inputs {
    let now = Timestamp::from_seconds(1_767_787_200);
    Inputs {
        ttl: Ttl::seconds_or_one(1_800),
        now,
        start_at: now,
        has_reason: true,
        ticket: None,
        emergency: false,
        on_behalf: false,
        live_grants: 0,
    }
}

fn decide(set: &PolicySet, inputs: &Inputs) -> Decision {
    set.decide(&person(1, &["g"]), set.catalog().get("db:read").unwrap(), inputs)
}

fn unmet(decision: &Decision) -> Vec<&str> {
    decision.conditions.iter().filter(|c| !c.met).map(|c| c.text.as_str()).collect()
}

fn effects(reasons: &[Reason]) -> Vec<(&str, &str)> {
    reasons.iter().map(|r| (r.effect.as_str(), r.policy.as_str())).collect()
}

#[test]
fn the_strictest_of_the_satisfied_permits_wins() {
    let set = set(&[
        permit("a", "@approvals(\"1\") @max_ttl(\"3h\") @require(\"reason\")", "Request", ""),
        permit("b", "@approvals(\"2\") @max_ttl(\"1h\") @require(\"ticket\")", "Request", ""),
        permit("c", "@approvals(\"9\")", "Request", "when { context.emergency }"),
    ]
    .concat());
    let decision = decide(&set, &Inputs { ticket: Some("T-1".to_owned()), ..inputs() });
    assert_eq!((decision.verdict, decision.approvals), (Verdict::Approval, 2));
    assert_eq!(decision.max_ttl.to_string(), "1h");
    assert_eq!(decision.approvers, ["Owners".to_owned()].into());
    assert_eq!(unmet(&decision), Vec::<&str>::new());
    assert_eq!(decision.conditions.len(), 3);

    let without = self::decide(&set, &Inputs { has_reason: false, ttl: Ttl::seconds_or_one(7_200), ..inputs() });
    assert_eq!(without.verdict, Verdict::Denied);
    assert_eq!(unmet(&without), ["a reason is given", "a ticket is named", "the duration is at most 1h"]);
    let entitlement = set.catalog().get("db:read").unwrap();
    let preview = set.preview(&person(1, &[]), entitlement, &Inputs { has_reason: false, ..inputs() });
    assert_eq!((preview.verdict, unmet(&preview).len()), (Verdict::Approval, 2));
}

#[test]
fn automatic_goes_to_people_when_its_own_terms_are_not_met() {
    let cedar = [
        permit("a", "@approvals(\"2\")", "Request", ""),
        permit("b", "@max_ttl(\"1h\") @require(\"ticket\")", "AutoApprove", ""),
    ]
    .concat();
    let set = set(&cedar);
    let ticket = Inputs { ticket: Some("T-1".to_owned()), ..inputs() };
    let auto = decide(&set, &ticket);
    assert_eq!((auto.verdict, auto.approvals, auto.max_ttl.to_string().as_str()), (Verdict::Auto, 0, "1h"));
    assert_eq!(decide(&set, &inputs()).verdict, Verdict::Approval);
    let long = decide(&set, &Inputs { ttl: Ttl::seconds_or_one(7_200), ..ticket });
    assert_eq!((long.verdict, long.approvals, long.max_ttl.to_string().as_str()), (Verdict::Approval, 2, "4h"));

    let nobody = PolicySet::build(texts(&LINE.replace("\"Owners\"", ""), &cedar), &targets()).unwrap();
    let denied = decide(&nobody, &inputs());
    assert_eq!((denied.verdict, unmet(&denied)), (Verdict::Denied, vec!["a ticket is named"]));
}

#[test]
fn without_approvers_and_without_automatic_the_answer_is_no_and_says_so() {
    let set = PolicySet::build(texts(&LINE.replace("\"Owners\"", ""), &permit("a", "", "Request", "")), &targets());
    let decision = decide(&set.unwrap(), &inputs());
    assert_eq!(decision.verdict, Verdict::Denied);
    assert_eq!(effects(&decision.reasons), [("permit", "a"), ("forbid", "no-approvers")]);
}

#[test]
fn nothing_is_permitted_by_default() {
    let set = set("");
    let decision = decide(&set, &inputs());
    assert_eq!(decision.verdict, Verdict::Denied);
    assert_eq!(effects(&decision.reasons), [("forbid", "default")]);
    let entitlement = set.catalog().get("db:read").unwrap();
    assert!(!set.may_mint(&person(1, &[]), entitlement, &inputs()).allowed);
    assert!(!set.may_approve(&person(1, &["owners"]), &person(2, &[]), entitlement, &inputs()).allowed);
}

#[test]
fn a_forbid_that_errors_denies() {
    let overflow = "when { context.ttl * 9223372036854775807 > 0 }";
    for action in ["Request", "AutoApprove", "Mint", "Approve"] {
        let forbid = permit("broken", "", action, overflow).replace("permit (", "forbid (");
        let all: String = ["Request", "AutoApprove", "Mint", "Approve"].map(|a| permit(a, "", a, "")).concat();
        let set = set(&(all + &forbid));
        let entitlement = set.catalog().get("db:read").unwrap();
        let (decision, reasons) = match action {
            "Mint" => {
                let p = set.may_mint(&person(1, &[]), entitlement, &inputs());
                (p.allowed, p.reasons)
            }
            "Approve" => {
                let p = set.may_approve(&person(1, &[]), &person(2, &[]), entitlement, &inputs());
                (p.allowed, p.reasons)
            }
            _ => {
                let d = decide(&set, &inputs());
                (d.verdict != Verdict::Denied, d.reasons)
            }
        };
        assert!(!decision, "{action}");
        assert!(effects(&reasons).contains(&("error", "broken")), "{action}: {reasons:?}");
    }
}

#[test]
fn an_obligation_that_is_not_understood_denies_even_if_it_got_past_the_load() {
    for action in ["Request", "AutoApprove"] {
        let cedar = permit("a", "", "Request", "") + &permit("b", "@blood(\"1\")", action, "");
        let files = texts(LINE, &cedar);
        let mut problems = Vec::new();
        let (catalog, descriptions) = catalog::parse(&files, &targets(), &mut problems);
        let schema = rules::schema(&files, &declared::Declared::new(), &mut problems).unwrap();
        let rules = rules::parse(&files, &schema.0, &catalog, &mut problems);
        assert_eq!(problems.len(), 1, "the load refuses it");
        let set = PolicySet::assemble(files, schema, catalog, rules, &descriptions).unwrap();
        let decision = decide(&set, &inputs());
        assert_eq!(decision.verdict, Verdict::Denied);
        assert!(decision.reasons.iter().any(|r| r.effect == "error" && r.text.contains("@blood")));
    }
}

#[test]
fn the_inactive_and_the_departed_get_nothing_whatever_policy_says() {
    let all: String = ["Request", "AutoApprove", "Mint", "Approve"].map(|a| permit(a, "", a, "")).concat();
    let set = set(&all);
    let entitlement = set.catalog().get("db:read").unwrap();
    let mut gone = person(1, &["owners"]);
    gone.identity.active = false;
    assert_eq!(set.decide(&gone, entitlement, &inputs()).verdict, Verdict::Denied);
    assert_eq!(set.preview(&gone, entitlement, &inputs()).verdict, Verdict::Denied);
    assert!(!set.may_mint(&gone, entitlement, &inputs()).allowed);
    assert!(!set.may_approve(&gone, &person(2, &[]), entitlement, &inputs()).allowed);
    let mut departed = person(1, &["owners"]);
    departed.identity.contract_end = Some(inputs().now);
    assert_eq!(set.decide(&departed, entitlement, &inputs()).verdict, Verdict::Denied);
    assert!(!set.may_mint(&departed, entitlement, &inputs()).allowed);
}

#[test]
fn four_eyes_whatever_policy_says() {
    let set = set(&permit("a", "", "Approve", ""));
    let entitlement = set.catalog().get("db:read").unwrap();
    let (ana, mut bot) = (person(1, &[]), person(2, &[]));
    assert!(set.may_approve(&ana, &person(3, &[]), entitlement, &inputs()).allowed);
    assert!(!set.may_approve(&ana, &ana, entitlement, &inputs()).allowed);
    bot.identity.kind = IdentityKind::Agent;
    bot.identity.owner = Some(ana.identity.id);
    assert!(!set.may_approve(&ana, &bot, entitlement, &inputs()).allowed);
    assert!(!set.may_approve(&bot, &person(3, &[]), entitlement, &inputs()).allowed);
}

#[test]
fn a_change_of_groups_or_facts_is_seen_at_once() {
    let set = set(&permit("a", "", "Request", "when { principal in Tidegate::Group::\"dbas\" }"));
    let entitlement = set.catalog().get("db:read").unwrap();
    for (groups, verdict) in [(&["x"][..], Verdict::Denied), (&["DBAs"], Verdict::Approval), (&[], Verdict::Denied)] {
        assert_eq!(set.decide(&person(1, groups), entitlement, &inputs()).verdict, verdict, "{groups:?}");
    }
}

#[test]
fn attributes_and_labels_are_tags() {
    let when = "when { principal.hasTag(\"department\") && principal.getTag(\"department\") == \"finance\" \
                && resource.hasTag(\"system\") && resource.getTag(\"system\") == \"ledger\" }";
    let catalog = format!("{LINE}labels = {{ system = \"ledger\" }}\n");
    let set = PolicySet::build(texts(&catalog, &permit("a", "", "Request", when)), &targets()).unwrap();
    assert_eq!(decide(&set, &inputs()).verdict, Verdict::Approval);
}

#[test]
fn declared_attributes_have_their_types_and_bounds() {
    struct Declaring(NamedTargets);
    impl TargetDirectory for Declaring {
        fn describe(&self, target: &str) -> Option<crate::domain::capability::Description> {
            self.0.describe(target)
        }

        fn validate(&self, _: &str, _: &serde_json::Value) -> Result<(), crate::ports::connector::BadParameters> {
            Ok(())
        }

        fn declared(&self) -> declared::Declared {
            use crate::domain::scim::declared::FactKind;
            let kinds = [("clearance", FactKind::Number), ("vetted", FactKind::Flag), ("sites", FactKind::Texts)];
            kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect()
        }
    }
    let when = "when { principal has clearance && principal.clearance + 1 >= 3 && principal has vetted && principal.vetted \
                && principal has sites && principal.sites.contains(\"ghent\") }";
    let cedar = permit("a", "", "Request", when);
    let build = |text: &str, cedar: &str| {
        let files = Files::from_texts([("catalog.toml", LINE), ("schema.cedarschema", text), ("a.cedar", cedar)]);
        PolicySet::build(files, &Declaring(targets()))
    };
    let set = build(SCHEMA, &cedar).unwrap();
    let entitlement = set.catalog().get("db:read").unwrap();
    let verdict = |clearance: &str, sites: &str| {
        let mut who = person(1, &[]);
        for (name, value) in [("clearance", clearance), ("vetted", "true"), ("sites", sites)] {
            who.identity.attributes.insert(name.to_owned(), value.to_owned());
        }
        set.decide(&who, entitlement, &inputs())
    };
    assert_eq!(verdict("2", "[\"ghent\",\"a,b\"]").verdict, Verdict::Approval);
    assert_eq!(verdict("1", "[\"ghent\"]").verdict, Verdict::Denied);
    assert_eq!(verdict("2", "[\"oslo\"]").verdict, Verdict::Denied);
    // Sums cannot overflow, and what is no number denies and says so.
    assert_eq!(verdict(&i64::MAX.to_string(), "[\"ghent\"]").verdict, Verdict::Approval);
    let nonsense = verdict("high", "[\"ghent\"]");
    assert_eq!(nonsense.verdict, Verdict::Denied);
    assert!(nonsense.reasons.iter().any(|r| r.text.contains("clearance")), "{nonsense:?}");
    assert_eq!(set.decide(&person(2, &[]), entitlement, &inputs()).verdict, Verdict::Denied, "nothing is known");
    // Types are checked at the load; whoever keeps the policies may write them into the schema too.
    assert!(
        build(SCHEMA, &permit("a", "", "Request", "when { principal has clearance && principal.clearance == \"2\" }"))
            .is_err()
    );
    let written = SCHEMA.replace("contract_end?: Long,", "contract_end?: Long, level?: Long, clearance?: Long,");
    assert!(
        build(&written, &permit("a", "", "Request", "when { principal has level && principal.level > 1 }")).is_ok()
    );
    for (wrong, why) in
        [("level: Long,", "level?"), ("clearance?: String,", "another type"), ("level?: Set<Long>,", "Set<String>")]
    {
        let text = SCHEMA.replace("contract_end?: Long,", &format!("contract_end?: Long, {wrong}"));
        let problems = build(&text, &cedar).unwrap_err().problems;
        assert!(problems[0].message.contains(why), "{problems:?}");
    }
}

/// What a load says: file, line, column, and words of the message.
fn refused(files: Files) -> Vec<String> {
    let error = PolicySet::build(files, &targets()).unwrap_err();
    assert!(error.problems.iter().all(|p| !p.help.is_empty()), "{error}");
    error.problems.iter().map(|p| format!("{}:{}:{} {}", p.file, p.line, p.column, p.message)).collect()
}

#[test]
fn what_is_wrong_with_a_catalog_is_said_with_its_place() {
    let other = LINE.replace("db:read", "db:x");
    for (catalog, place, words) in [
        ("[[entitlement]\n".to_owned(), "catalog.toml:1:", ""),
        (LINE.replace("title =", "titel ="), "catalog.toml:5:1", "unknown field `titel`"),
        (LINE.replace("title = \"Read\"\n", ""), "catalog.toml:2:1", "missing field `title`"),
        (LINE.replace("db:read", "db read"), "catalog.toml:3:6", "cannot be an entitlement's id"),
        (LINE.replace("\"30m\"", "\"soon\""), "catalog.toml:6:15", "is not a duration"),
        (LINE.replace("\"30m\"", "\"5h\""), "catalog.toml:6:15", "longer than max_ttl"),
        (LINE.replace("\"4h\"", "\"400d\""), "catalog.toml:7:11", "longer than 366d"),
        (LINE.replace("sensitivity = 1", "sensitivity = 5"), "catalog.toml:8:15", "no such sensitivity"),
        (LINE.replace("\"Read\"", "\" \""), "catalog.toml:5:9", "title is empty"),
        (LINE.replace("\"Owners\"", "\"\""), "catalog.toml:9:14", "not a group's name"),
        (LINE.replace("\"db\"", "\"nowhere\""), "catalog.toml:4:10", "no target `nowhere`"),
        (LINE.replace("\"db\"", "\"old\""), "catalog.toml:4:10", "cannot end access by itself"),
        (format!("{LINE}max_claims = 0\n"), "catalog.toml:10:14", "max_claims is 0"),
        (format!("{LINE}{LINE}"), "catalog.toml:12:6", "a second entitlement `db:read`"),
        (format!("{LINE}{}", other.replace("\"db\"", "\"gone\"")), "catalog.toml:13:10", "no target `gone`"),
    ] {
        let found = refused(texts(&catalog, ""));
        assert!(found.iter().any(|p| p.starts_with(place) && p.contains(words)), "{place} {words}: {found:?}");
    }
    let accepted = LINE.replace("\"db\"", "\"old\"") + "allow_no_backstop = true\n";
    assert!(PolicySet::build(texts(&accepted, ""), &targets()).is_ok());
}

#[test]
fn what_is_wrong_with_a_policy_is_said_with_its_place() {
    let permit = |annotations: &str, when: &str| permit("a", annotations, "Request", when);
    for (cedar, place, words) in [
        ("permit (principal, action, resource\n".to_owned(), "a.cedar:", "unexpected"),
        ("\npermit (principal, action, resource);".to_owned(), "a.cedar:2:1", "without @id"),
        (permit("", "") + &permit("", ""), "a.cedar:4:1", "a second policy with @id(\"a\")"),
        (permit("@approval(\"2\")", ""), "a.cedar:1:29", "`@approval` is not an obligation"),
        (permit("@approvals(\"0\")", ""), "a.cedar:1:29", "not a number of approvals"),
        (permit("@max_ttl(\"soon\")", ""), "a.cedar:1:29", "is not a duration"),
        (permit("@require(\"blood\")", ""), "a.cedar:1:29", "`blood` cannot be required"),
        (permit("", "when { principal.age > 1 }"), "a.cedar:3:8", "age"),
        (permit("", "when { context.ttl == \"1h\" }"), "a.cedar:3:8", "not compatible"),
        (permit("", "when { principal.owner == \"x\" }"), "a.cedar:3:8", "owner"),
        (permit("", "when { principal in Tidegate::Group::\"DBAs\" }"), "a.cedar:3:21", "matches no group"),
        (permit("", "when { resource == Tidegate::Entitlement::\"x\" }"), "a.cedar:3:20", "no entitlement `x`"),
        (permit("", "when { resource in Tidegate::Target::\"x\" }"), "a.cedar:3:20", "nothing on target `x`"),
        ("@id(\"t\") permit (principal == ?principal, action, resource);".to_owned(), "a.cedar:1:1", "a template"),
        (permit("", "").replace("Request", "Reqest"), "a.cedar:2:30", "Reqest"),
    ] {
        let found = refused(texts(LINE, &cedar));
        assert!(found.iter().any(|p| p.starts_with(place) && p.contains(words)), "{place} {words}: {found:?}");
    }
}

#[test]
fn files_that_are_missing_or_do_not_fit_are_named() {
    let found = refused(Files::from_texts([("a.cedar", "")]));
    assert!(found.iter().any(|p| p.starts_with("catalog.toml:0:0 the catalog is missing")), "{found:?}");
    assert!(found.iter().any(|p| p.starts_with("schema.cedarschema:0:0 the schema is missing")), "{found:?}");
    for (from, to, words) in [
        ("entity Group;", "entity Group", "unexpected"),
        ("Request, AutoApprove, Mint", "Request, AutoApprove, Mint, More", "must have the actions"),
        ("sensitivity: Long", "sensitivity: String", "do not fit"),
    ] {
        let schema = SCHEMA.replace(from, to);
        let files = Files::from_texts([("catalog.toml", LINE), ("schema.cedarschema", &schema), ("a.cedar", "")]);
        let found = refused(files);
        assert!(found.iter().any(|p| p.starts_with("schema.cedarschema:") && p.contains(words)), "{words}: {found:?}");
    }
}

fn write_seed(dir: &std::path::Path) {
    std::fs::create_dir_all(dir.join("tests")).unwrap();
    for (name, text) in seed::FILES {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn a_reload_takes_what_is_good_and_keeps_what_ran_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    write_seed(dir.path());
    let engine = PolicyEngine::load(dir.path(), Box::new(NamedTargets::seed())).unwrap();
    let first = engine.current().version().to_owned();
    assert_eq!(first.len(), 12);
    assert_eq!(engine.reload().unwrap(), Reload::Unchanged);

    let access = dir.path().join("access.cedar");
    std::fs::write(&access, "@id(\"x\")\npermit (principal, action, resource)\nwhen { nonsense };\n").unwrap();
    let error = engine.reload().unwrap_err();
    let at = format!("{}:3:", access.display());
    assert!(error.to_string().contains(&at), "{error}");
    assert_eq!(engine.current().version(), first);

    std::fs::write(&access, vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(engine.reload().unwrap_err().to_string().contains("larger than 1 MiB"));
    std::fs::write(&access, [0xff, 0xfe]).unwrap();
    assert!(engine.reload().unwrap_err().to_string().contains("not UTF-8"));

    let good = format!("{}\n// one more line\n", seed::files().get("access.cedar").unwrap());
    std::fs::write(&access, good).unwrap();
    let Reload::Changed { from, to } = engine.reload().unwrap() else { panic!("nothing changed") };
    assert_eq!((from.as_str(), to.as_str()), (first.as_str(), engine.current().version()));
    assert_ne!(from, to);

    std::fs::remove_file(dir.path().join("catalog.toml")).unwrap();
    assert!(engine.reload().is_err());
    assert_eq!(engine.current().version(), to);
    assert!(test(dir.path(), &NamedTargets::seed()).is_err());
    assert_eq!(lint(dir.path(), &NamedTargets::seed()).len(), 1 + 8, "the catalog, and literals that it no longer has");
    drop(dir);
    assert!(engine.reload().unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_case_that_fails_says_what_came_out_and_a_policy_without_a_case_is_named() {
    let cases = "[identity.p]\n[[case]]\nname = \"c\"\nwho = \"p\"\nentitlement = \"db:read\"\nexpect = \"auto\"\n\
                 [[case]]\nname = \"d\"\nwho = \"q\"\nentitlement = \"db:read\"\nexpect = \"auto\"\n";
    let cedar = permit("a", "", "Request", "") + &permit("b", "", "Request", "when { context.emergency }");
    let files = Files::from_texts([
        ("catalog.toml", LINE),
        ("schema.cedarschema", SCHEMA),
        ("a.cedar", &cedar),
        ("tests/t.toml", cases),
    ]);
    let report = test_set(&PolicySet::build(files, &targets()).unwrap());
    insta::assert_snapshot!(report, @r#"
    tests/t.toml:6:10: case `c`: expected auto, got approval
        it came from: permit a (because)
    tests/t.toml:9:7: no identity `q`
        declare it as [identity.<name>] in a file of tests/
    a.cedar:4:1: no case determines policy `b`
        add a case to tests/ in which it is among the reasons
    0 passed, 2 failed, 1 not determined by any case
    "#);
}

#[test]
fn lint_names_what_is_unwise() {
    let cedar = "@id(\"all\")\npermit (principal, action == Tidegate::Action::\"Request\", resource);\n".to_owned()
        + &permit("never", "", "Request", "when { principal is Tidegate::Group }");
    let found = lint_set(&set(&cedar));
    let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(text, @r#"
    a.cedar:1:1: policy `all` has no @reason
        write @reason("text shown to people"): they see it when it decides
    a.cedar:1:1: policy `all` permits everybody everything
        name a group, an entitlement or a condition
    a.cedar:3:1: for policy `never`, policy is impossible: the policy expression evaluates to false for all valid requests
        see schema.cedarschema for what policies can speak of
    catalog.toml:3:6: nobody could claim `db:read`
        add a permit of Mint for it
    "#);
}

#[test]
fn an_explanation_goes_rule_by_rule() {
    let cedar = [
        permit("asks", "@require(\"ticket\")", "Request", "when { principal in Tidegate::Group::\"g\" }"),
        permit("others", "", "Request", "").replace("(principal,", "(principal in Tidegate::Group::\"h\","),
        permit("urgent", "", "AutoApprove", "when { context.emergency }"),
        permit("broken", "", "Mint", "when { context.ttl * 9223372036854775807 > 0 }"),
    ];
    let set = set(&cedar.concat());
    let entitlement = set.catalog().get("db:read").unwrap();
    let text = explain(&set, &person(1, &["g"]), entitlement, &inputs()).replace(set.version(), "VERSION");
    insta::assert_snapshot!(text, @r#"
    p1 asks for db:read for 30m: denied
      person, active, in g
      policy version VERSION, longest duration 4h
      [UNMET] a ticket is named
      [met] the duration is at most 4h
    Request: allowed
      permit asks (a.cedar:1): APPLIES: because
      permit others (a.cedar:4): not in group h
    AutoApprove: not allowed
      permit urgent (a.cedar:7): its conditions do not hold
    Mint: not allowed
      permit broken (a.cedar:10): ERROR: the policy could not be evaluated, which denies: integer overflow while attempting to multiply the values `1800` and `9223372036854775807`
    "#);
}

mod any_input {
    use proptest::prelude::*;

    use super::*;

    fn subjects() -> impl Strategy<Value = Subject> {
        let attributes = proptest::collection::btree_map(".*", ".*", 0..4);
        let groups = proptest::collection::btree_set(".*|engineers|approvers|oncall|workloads", 0..6);
        let end = proptest::option::of(any::<i64>().prop_map(Timestamp::from_micros));
        (any::<u128>(), 0..3_usize, any::<(bool, bool)>(), end, attributes, groups, ".*").prop_map(
            |(id, kind, (active, owned), contract_end, attributes, groups, name)| {
                let mut subject = person(id, &[]);
                let kinds = [IdentityKind::Person, IdentityKind::Workload, IdentityKind::Agent];
                subject.groups = groups;
                subject.identity.kind = kinds[kind];
                subject.identity.active = active;
                subject.identity.owner = owned.then(|| IdentityId::new(ulid::Ulid::from(7_u128)));
                subject.identity.contract_end = contract_end;
                subject.identity.attributes = attributes;
                subject.identity.name = name;
                subject
            },
        )
    }

    fn asks() -> impl Strategy<Value = Inputs> {
        (any::<u32>(), any::<(i64, i64)>(), any::<[bool; 3]>(), proptest::option::of(".*"), any::<u32>()).prop_map(
            |(ttl, (now, start), [has_reason, emergency, on_behalf], ticket, live_grants)| Inputs {
                ttl: Ttl::seconds_or_one(ttl),
                now: Timestamp::from_micros(now),
                start_at: Timestamp::from_micros(start),
                has_reason,
                ticket,
                emergency,
                on_behalf,
                live_grants,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn makes_policy_panic_or_err_or_exceed_its_limits(a in subjects(), b in subjects(), inputs in asks()) {
            let set = seed();
            for entitlement in set.catalog().entitlements.values() {
                let decision = set.decide(&a, entitlement, &inputs);
                let preview = set.preview(&a, entitlement, &inputs);
                let approve = set.may_approve(&a, &b, entitlement, &inputs);
                let mint = set.may_mint(&a, entitlement, &inputs);
                for reason in [&decision.reasons, &preview.reasons, &approve.reasons, &mint.reasons].into_iter().flatten() {
                    prop_assert!(reason.effect != "error", "{reason:?}");
                }
                prop_assert!(decision.max_ttl <= entitlement.max_ttl);
                if decision.verdict != Verdict::Denied {
                    prop_assert!(a.identity.active && inputs.ttl <= decision.max_ttl);
                    prop_assert!(decision.conditions.iter().all(|c| c.met));
                }
                if approve.allowed || mint.allowed {
                    prop_assert!(a.identity.active);
                }
                explain(&set, &a, entitlement, &inputs);
            }
        }
    }
}
