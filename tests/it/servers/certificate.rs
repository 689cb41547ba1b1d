//! A certificate for one address, of an authority that nobody else knows.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Run a program that must succeed.
pub fn run(dir: &Path, program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).current_dir(dir).stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|e| panic!("`{program}` is needed; run `make deps` ({e})"));
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Make `ca.pem`, `cert.pem` and `key.pem` in a directory; for a way to the server, too, which is on 127.0.0.1.
pub fn issue(dir: &Path, ip: &str) {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = [&["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"][..], &curve]
        .concat();
    run(dir, "openssl", &ca);
    let leaf = [&["req", "-subj", "/CN=server", "-keyout", "key.pem", "-out", "csr.pem"][..], &curve].concat();
    run(dir, "openssl", &leaf);
    fs::write(dir.join("ext"), format!("subjectAltName=IP:{ip},IP:127.0.0.1\n")).unwrap();
    let sign = "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem";
    run(dir, "openssl", &sign.split(' ').collect::<Vec<_>>());
}
