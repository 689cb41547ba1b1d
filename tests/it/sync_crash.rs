//! A reading of a source that `kill -9` cuts off half-way, in a process of its own: whoever comes next finishes it, and
//! nobody is lost or there twice.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    crash_child::{Child, Home, Start},
    on_both,
    world::Db,
};

const PEOPLE: usize = 60;

async fn home(db: Db) -> Home {
    let config = json!({
        "source": [{
            "id": "hr", "kind": "feed", "max_leavers_percent": 60, "settings": {"data_file": "people.csv"},
            "mapping": {"external_id": "no", "name": "login", "active": "active", "groups": "teams"},
        }],
    });
    Home::new(db, &config, "").await
}

/// The first reading makes everybody; the second lets a third go, renames a third, and has as many new ones.
fn write(home: &Home, second: bool) {
    let mut text = "no,login,active,teams\n".to_owned();
    for n in 0..PEOPLE {
        match (second, n % 3) {
            (true, 0) => {}
            (true, 1) => writeln!(text, "{n},new{n},yes,hr-all;hr-new").unwrap(),
            _ => writeln!(text, "{n},old{n},yes,hr-all").unwrap(),
        }
    }
    if second {
        for n in PEOPLE..PEOPLE + PEOPLE / 3 {
            writeln!(text, "{n},fresh{n},yes,hr-new").unwrap();
        }
    }
    std::fs::write(home.dir.path().join("people.csv"), text).unwrap();
}

async fn apply(child: &Child) -> anyhow::Result<serde_json::Value> {
    child.post("/v1/sync/hr/apply", "eve", json!({})).await
}

/// Who is there, in which groups.
async fn people(home: &Home) -> anyhow::Result<Vec<Vec<String>>> {
    home.rows(
        "SELECT i.external_id, i.name, CAST(i.active AS TEXT), coalesce((SELECT string_agg(g.name, ',' ORDER BY g.name) \
         FROM memberships m JOIN groups g ON g.id = m.group_id WHERE m.identity_id = i.id), '') \
         FROM identities i JOIN sources s ON s.id = i.source_id WHERE s.name = 'hr' ORDER BY i.external_id",
    )
    .await
}

async fn cut_off(db: Db, point: &str) -> anyhow::Result<()> {
    let home = home(db).await;
    write(&home, false);
    let mut child = home.up().await?;
    apply(&child).await?;
    child.process.kill().await?;
    write(&home, true);
    let Start::Up(mut child) = home.start(Some(point)).await? else {
        anyhow::bail!("it dies at its start: {}", home.log())
    };
    let cut = apply(&child).await;
    ensure!(cut.is_err(), "{point}: it was not cut off: {cut:?}");
    let died =
        tokio::time::timeout(Duration::from_secs(30), child.process.wait()).await.context("it does not die")??;
    ensure!(!died.success(), "{point}: {died}");
    // The run is there, and taken up when the lease of the one who is dead runs out; nobody has to wait for that.
    let mut ledger = home.ledger().await?;
    sqlx::query("UPDATE sync_runs SET due_at = 0 WHERE finished_at IS NULL").execute(&mut ledger).await?;
    sqlx::Connection::close(ledger).await?;
    let child = home.up().await?;
    let within = Instant::now() + Duration::from_secs(30);
    loop {
        let view = child.get("/v1/sync/hr", "eve").await?;
        if view["last_run"]["state"] == "done" {
            break;
        }
        ensure!(Instant::now() < within, "{point}: the run is not finished: {view}");
        sleep(Duration::from_millis(100)).await;
    }
    let now = people(&home).await?;
    ensure!(now.len() == PEOPLE + PEOPLE / 3, "{point}: {} people", now.len());
    for row in &now {
        let [no, name, active, groups] = row.as_slice() else { anyhow::bail!("{row:?}") };
        let n: usize = no.parse()?;
        let want = match n % 3 {
            _ if n >= PEOPLE => (format!("fresh{n}"), "1", "hr-new"),
            0 => (format!("old{n}"), "0", "hr-all"),
            1 => (format!("new{n}"), "1", "hr-all,hr-new"),
            _ => (format!("old{n}"), "1", "hr-all"),
        };
        // Whoever is gone may have kept the membership that they had.
        let same = *name == want.0 && active == want.1 && (want.1 == "0" || groups == want.2);
        ensure!(same, "{point}: {row:?}, wanted {want:?}");
    }
    let ids: std::collections::BTreeSet<String> = home
        .rows("SELECT i.id FROM identities i JOIN sources s ON s.id = i.source_id WHERE s.name = 'hr'")
        .await?
        .into_iter()
        .flatten()
        .collect();
    // Each was said once: as many events of each kind as there are people of it.
    for (action, count) in [("identity.deactivated", PEOPLE / 3), ("identity.created", PEOPLE + PEOPLE / 3)] {
        let said = home.rows(&format!("SELECT leaf FROM audit_events WHERE action = '{action}'")).await?;
        let subject = |row: &Vec<String>| {
            let event: serde_json::Value = serde_json::from_str(&row[0]).unwrap();
            event["subject"].as_str().unwrap_or_default().to_owned()
        };
        let of_source = said.iter().filter(|row| ids.contains(&subject(row))).count();
        ensure!(of_source == count, "{point}: {action} {of_source} times");
    }
    // Read again, there is nothing to do; and the log holds.
    let again = apply(&child).await?;
    let reading = &again["reading"];
    ensure!(reading["joined"] == 0 && reading["changed"] == 0 && reading["left"] == 0, "{point}: {reading}");
    home.verify_log(&child).await
}

async fn a_reading_that_is_cut_off_is_finished(db: Db) {
    for point in ["source.compared", "source.step", "source.step@25", "source.step@55"] {
        cut_off(db, point).await.unwrap_or_else(|e| panic!("{db:?} {point}: {e:#}"));
    }
}

on_both!(a_reading_that_is_cut_off_is_finished);
