//! Is the server there, and are the broker's rights enough? Changes nothing: whether it may change a group is found out
//! by taking away what is not there.

use std::collections::BTreeSet;

use ldap3::SearchEntry;

use super::{
    client::{Change, Client, Failure, code},
    config::{Settings, Style},
    group::LINK_TTL,
};
use crate::{
    domain::capability::Rights,
    ports::connector::{Fault, Finding},
};

/// Look at everything that a grant will need. `groups` are those of the catalog.
pub(super) async fn check(client: &Client, settings: &Settings, groups: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(fault) = look(client, settings, groups, &mut findings).await {
        let name = if findings.is_empty() { "reachable" } else { "can be looked at" };
        let fix = "check `url`, `start_tls`, `tls_root_cert`, `bind_dn` and `password_file` of the target, and that the \
                   server runs";
        findings.push(bad(name, fault.to_string(), fix.into()));
    }
    findings
}

/// Of the attribute `member`, and of the class `group`, in the schema of Active Directory.
const MEMBER_ID: &str = "bf9679c0-0de6-11d0-a285-00aa003049e2";
const GROUP_ID: &str = "bf967a9c-0de6-11d0-a285-00aa003049e2";

/// The right to read and write one attribute of the groups below an entry.
fn domain_right(base: &str, attribute: &str) -> String {
    format!("dsacls \"{base}\" /I:S /G \"EXAMPLE\\tidegate:RPWP;{attribute};group\"")
}

/// The right that is missing for one attribute of a group, in the words of the directory.
fn missing(settings: &Settings, group: &str, attribute: &str) -> String {
    match settings.style {
        Style::Openldap => {
            format!(
                "access to dn.exact=\"{group}\" attrs={attribute} by dn.exact=\"{}\" write by * break",
                settings.bind_dn
            )
        }
        Style::ActiveDirectory => format!("dsacls \"{group}\" /G \"EXAMPLE\\tidegate:RPWP;{attribute}\""),
    }
}

/// What the broker's entry must be allowed to do, in the words of the directory.
pub(super) fn needed(settings: &Settings) -> Rights {
    const NEEDS: &str = "The broker's own entry needs to read people and groups with their ids (what it may not see it does \
                         not take for gone), and to change the members (and the marks) of the groups of the catalog.";
    let text = match settings.style {
        Style::Openldap => format!(
            "access to dn.subtree=\"{}\" attrs={}{}\n  by dn.exact=\"{}\" write\n  by * read\naccess to \
             dn.subtree=\"{}\" attrs=entry,children,objectClass,entryUUID\n  by dn.exact=\"{}\" read\n  by * break",
            settings.group_base,
            settings.member_attribute,
            settings.mark_attribute().map_or_else(String::new, |mark| format!(",{mark}")),
            settings.bind_dn,
            settings.user_base,
            settings.bind_dn,
        ),
        Style::ActiveDirectory => {
            let rights = |attribute: &str| domain_right(&settings.group_base, attribute);
            let mark = settings.mark_attribute().map_or_else(String::new, |mark| format!("{}\n", rights(mark)));
            format!(
                "# To the broker's account, here EXAMPLE\\tidegate, over the groups below, and nothing else:\n{}\n{mark}\
                 # In Samba: samba-tool dsacl set --objectdn=\"{}\" \\\n#   --sddl=\"(OA;CIIO;RPWP;{MEMBER_ID};{GROUP_ID};\
                 <the account's SID>)\"\n# For `time_limited`, the forest needs this, which cannot be switched off \
                 again:\nEnable-ADOptionalFeature 'Privileged Access Management Feature' -Scope ForestOrConfigurationSet \
                 -Target example.org",
                rights(&settings.member_attribute),
                settings.group_base,
            )
        }
    };
    Rights::statements(NEEDS, "text", text)
}

fn good(name: &str, detail: String) -> Finding {
    Finding { name: name.into(), ok: true, detail, fix: None }
}

fn bad(name: &str, detail: String, fix: String) -> Finding {
    Finding { name: name.into(), ok: false, detail, fix: Some(fix) }
}

fn values<'e>(entry: &'e SearchEntry, attribute: &str) -> Vec<&'e str> {
    let of = entry.attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
    of.flat_map(|(_, values)| values.iter().map(String::as_str)).collect()
}

async fn look(
    client: &Client,
    settings: &Settings,
    groups: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let wanted = ["supportedControl", "vendorName", "vendorVersion"];
    let root = client.entry("", "(objectClass=*)", &wanted, None).await?;
    let Some(root) = root else { return Err(Fault::Unavailable("the server does not describe itself".into())) };
    findings.push(good("reachable", format!("{} as {}", settings.url, settings.bind_dn)));
    let knows = values(&root, "supportedControl").contains(&LINK_TTL);
    findings.push(match (settings.time_limited, knows) {
        (true, true) => good("memberships end by themselves", "the server knows time-limited membership".into()),
        (true, false) => bad(
            "memberships end by themselves",
            "the server does not know time-limited membership".into(),
            "Enable-ADOptionalFeature 'Privileged Access Management Feature' -Scope ForestOrConfigurationSet  -- cannot \
             be undone; or set `time_limited = false`, and `allow_no_backstop = true` in the entitlements"
                .into(),
        ),
        (false, true) => good(
            "memberships end by themselves",
            "no, but the server knows time-limited membership: set `time_limited = true`".into(),
        ),
        (false, false) => {
            good("memberships end by themselves", "no: with the broker dead, they last until it is back".into())
        }
    });
    if settings.style == Style::ActiveDirectory && settings.mark_attribute().is_none() && !settings.time_limited {
        findings.push(good("our memberships can be listed", "no: there is no `mark_attribute`".into()));
    }
    for base in [&settings.user_base, &settings.group_base] {
        findings.push(match client.entry(base, "(objectClass=*)", &["1.1"], None).await {
            Ok(Some(_)) => good(&format!("may read {base}"), "it is there".into()),
            Ok(None) => bad(
                &format!("may read {base}"),
                "it cannot be read".into(),
                format!("let {} read it", settings.bind_dn),
            ),
            Err(e) if e.code == 0 => return Err(e.fault),
            Err(e) => {
                bad(&format!("may read {base}"), e.fault.to_string(), format!("let {} read it", settings.bind_dn))
            }
        });
    }
    for group in groups {
        look_at_group(client, settings, group, findings).await?;
    }
    Ok(())
}

async fn look_at_group(
    client: &Client,
    settings: &Settings,
    group: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let title = format!("group {group}");
    let entry = match client.entry(group, "(objectClass=*)", &["objectClass"], None).await {
        Ok(Some(entry)) => entry,
        Ok(None) => return Err(Fault::Unavailable(format!("{group} cannot be read"))),
        Err(e) if e.code == 0 => return Err(e.fault),
        Err(e) => {
            findings.push(bad(
                &title,
                e.fault.to_string(),
                "make the group, or correct its name in the catalog".into(),
            ));
            return Ok(());
        }
    };
    let classes = values(&entry, "objectClass");
    let strict =
        ["groupOfNames", "groupOfUniqueNames"].iter().any(|c| classes.iter().any(|o| o.eq_ignore_ascii_case(c)));
    findings.push(if strict && settings.placeholder.is_none() {
        bad(
            &title,
            format!("{} wants a member at all times, and the last one out could not leave", classes.join(", ")),
            "set `placeholder = \"cn=nobody,…\"` in the target's settings".into(),
        )
    } else {
        good(&title, classes.join(", "))
    });
    let nobody = format!("cn=tidegate-check,{}", settings.group_base);
    let attribute = &settings.member_attribute;
    findings.push(match client.compare(group, attribute, &nobody).await {
        Ok(_) => {
            good(&format!("may compare {attribute} of {group}"), "a member can be told from one who is none".into())
        }
        Err(e) if e.code == 0 => return Err(e.fault),
        Err(e) => bad(
            &format!("may compare {attribute} of {group}"),
            e.fault.to_string(),
            missing(settings, group, attribute),
        ),
    });
    for attribute in [Some(settings.member_attribute.as_str()), settings.mark_attribute()].into_iter().flatten() {
        let title = format!("may change {attribute} of {group}");
        findings.push(match client.modify(group, &[Change::Delete(attribute, &nobody)], None).await {
            // It was looked for, and is not there.
            Ok(()) | Err(Failure { code: code::NO_SUCH_ATTRIBUTE | code::UNWILLING | code::NO_SUCH_OBJECT, .. }) => {
                good(&title, "a change was let through".into())
            }
            Err(e) if e.code == 0 => return Err(e.fault),
            Err(e) => bad(&title, e.fault.to_string(), missing(settings, group, attribute)),
        });
    }
    Ok(())
}
