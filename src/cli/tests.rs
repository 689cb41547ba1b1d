use clap::{CommandFactory as _, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_commands_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn usual_lines_are_understood() {
    for line in [
        "tidegate request orders-db/read --for 30m --reason x --ticket T-1 --start 2h --on-behalf bob --emergency -y",
        "tidegate request a b --dry-run --json",
        "tidegate request a --wait",
        "tidegate request a --wait=10m --json=id,state",
        "tidegate wait req_1 --timeout 5m",
        "tidegate approve req_1 --for 10m --reason ok -y",
        "tidegate deny req_1 --comment no",
        "tidegate ls",
        "tidegate ls approvals --watch",
        "tidegate ls grants --mine --state active --limit 10 --since 8h",
        "tidegate search orders read --requestable --kind postgres --label system=ledger --label tier",
        "tidegate request a --open -y",
        "tidegate break-glass orders-db --reason x --for 1h -y",
        "tidegate kube-credential --target kube:view --no-cache",
        "tidegate docker-credential get --username x",
        "tidegate creds kube:view --format kube",
        "tidegate setup kube --target kube:view --write -y",
        "tidegate setup git --target git:push --host git.example.org --print",
        "tidegate audit export --format csv",
        "tidegate dev --port 0 --fake-slack",
        "tidegate dev as ben",
        "tidegate dev agent tokens:orders-read --for 5m",
        "tidegate dev next",
        "tidegate --profile prod whoami",
        "tidegate show req_1 --trace",
        "tidegate creds orders-db --format pgpass --out f",
        "tidegate exec orders-db --reason x --for 30m --end -- psql -c 'select'",
        "tidegate exec orders-db -- ssh -p 22 host",
        "tidegate extend grt_1 --for 30m --reason x",
        "tidegate end grt_1 --wait",
        "tidegate release grt_1",
        "tidegate revoke grt_1 --reason x -y --wait",
        "tidegate attest grt_1 --reason x",
        "tidegate lock identity deploy-bot --reason x",
        "tidegate unlock lck_1",
        "tidegate unlock target orders-db -y",
        "tidegate audit tail -n 4 --follow",
        "tidegate audit verify",
        "tidegate audit verify f --pin g",
        "tidegate audit prove grt_1",
        "tidegate audit export --format ocsf --out f",
        "tidegate policy test --dir policies",
        "tidegate policy explain ana orders --for 1h --live",
        "tidegate targets check orders-db",
        "tidegate token mint --out f --label laptop --for 8h",
        "tidegate token mint --client-id w --client-secret-file f --scope a --audience b",
        "tidegate workload register bot --kind agent --owner ana --group ci",
        "tidegate workload update bot --rotate-secret --out f",
        "tidegate doctor --server https://x --token-file f --no-color -q",
        "tidegate completion bash",
        "tidegate man --out d",
        "tidegate version --json",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn mistakes_are_refused() {
    for line in [
        "tidegate",
        "tidegate request",
        "tidegate request a --for soon",
        "tidegate request a --for 0m",
        "tidegate extend grt_1",
        "tidegate revoke grt_1",
        "tidegate lock x y --reason z",
        "tidegate exec a psql",
        "tidegate exec a --",
        "tidegate ls everything",
        "tidegate break-glass orders-db",
        "tidegate docker-credential put",
        "tidegate setup telnet",
        "tidegate setup git --print --write",
        "tidegate setup git -y",
        "tidegate dev --port 0 as ben",
        "tidegate token mint --client-id w",
        "tidegate token mint --scope a",
        "tidegate token mint --token abc",
        "tidegate workload update bot --activate --deactivate",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert_eq!(parse("tidegate --version").unwrap_err().kind(), ErrorKind::DisplayVersion);
}

#[test]
fn global_flags_stand_anywhere() {
    for line in ["tidegate --json=id,state whoami", "tidegate whoami --json=id,state"] {
        assert_eq!(parse(line).unwrap().global.style().json.unwrap(), ["id", "state"]);
    }
    assert_eq!(parse("tidegate whoami --json").unwrap().global.style().json.unwrap().len(), 0);
    assert!(parse("tidegate whoami").unwrap().global.style().json.is_none());
    // A value needs `=`, so that a field list never swallows an argument.
    assert!(parse("tidegate show --json req_1").is_ok());
}
