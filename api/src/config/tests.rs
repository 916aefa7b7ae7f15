//! The example is read, and mistakes are found where they are.

use super::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

#[test]
fn the_example_is_good() {
    let options = Options::parse(EXAMPLE, "example").unwrap();
    assert_eq!(options.data, Path::new("/var/lib/rewind"));
    assert_eq!(options.replica.unwrap().trees, Path::new("/srv/replica"));
    assert!(options.master.is_none() && options.tls.is_some());
}

#[test]
fn the_other_half_of_the_example_is_good() {
    let (_, master) = EXAMPLE.split_once("# [master]\n").unwrap();
    let master: String =
        master.lines().map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n").collect();
    let options = Options::parse(&format!("data = \"/d\"\n[master]\n{master}"), "example").unwrap();
    let master = options.master.unwrap();
    assert_eq!(master.name, "prod1.example.com");
    assert_eq!(master.spool_free_bytes_min, 1 << 30);
    assert!(master.replica.unwrap().tls.is_some());
    let listed = ["/etc/rewind/quiesce-shop", "/etc/rewind/thaw-shop"].map(str::to_owned);
    assert_eq!(master.hooks, HooksAllowed::Listed(listed.into()));
}

#[test]
fn least_configuration() {
    let options = Options::parse("data = \"/d\"\n[master]\n[replica]\n", "c").unwrap();
    let standalone = Options::standalone("/d".into(), None);
    assert_eq!(options, standalone);
}

#[test]
fn hooks_are_allowed_by_whoever_owns_the_machine() {
    let apart = "data = \"/d\"\n[master]\nreplica = \"http://localhost:1\"\n";
    let together = "data = \"/d\"\n[replica]\n[master]\n";
    let hooks = |text: &str| Options::parse(text, "c").unwrap().master.unwrap().hooks;
    assert_eq!(hooks(apart), HooksAllowed::None);
    assert_eq!(hooks(together), HooksAllowed::Owner);
    for (said, meant) in [
        ("\"refuse\"", HooksAllowed::None),
        ("\"allow\"", HooksAllowed::Any),
        ("[]", HooksAllowed::Listed(BTreeSet::new())),
        ("[\"a b\"]", HooksAllowed::Listed(["a b".to_owned()].into())),
    ] {
        for file in [apart, together] {
            assert_eq!(hooks(&format!("{file}hooks = {said}\n")), meant, "{said}");
        }
    }
    assert_eq!(hooks(&format!("{together}hooks = \"owner\"\n")), HooksAllowed::Owner);
    check(&format!("{apart}hooks = \"owner\"\n"), "RW1020", &["line 4", "`hooks`", "[replica]"]);
    for bad in ["\"yes\"", "true", "[1]"] {
        check(&format!("{together}hooks = {bad}\n"), "RW1020", &["line 4", "`hooks`"]);
    }
}

fn check(text: &str, code: &str, parts: &[&str]) {
    let error = Options::parse(text, "c.toml").unwrap_err();
    assert_eq!(error.code().id, code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn mistakes() {
    check("data = \"/d\"\ncolour = 1\n[replica]\n", "RW1020", &["c.toml, line 2", "`colour`"]);
    check(
        "data = \"/d\"\n\n[replica]\nmin-free = \"lots\"\n",
        "RW1020",
        &["line 4", "`min-free`", "\"lots\""],
    );
    check("data = \"/d\"\n[replica]\nmin_free = \"1GiB\"\n", "RW1020", &["line 3", "min_free"]);
    check("data = 7\n[replica]\n", "RW1020", &["line 1", "`data`"]);
    check("data = \"/d\"\n[replica\n", "RW1020", &["line 2"]);
    check("[replica]\n", "RW1020", &["data"]);
    check("data = \"d\"\n[replica]\n", "RW1020", &["line 1", "absolute"]);
    check("data = \"/d\"\n", "RW1020", &["[master]"]);
    check("data = \"/d\"\nlisten = \"somewhere\"\n[replica]\n", "RW1020", &["line 2", "`listen`"]);
    check("data = \"/d\"\nlisten = \"0.0.0.0:1\"\n[replica]\n", "RW1022", &["line 2", "`listen`"]);
    let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\nclient-ca = \"a\"\n";
    let open = format!("data = \"/d\"\nlisten = \"0.0.0.0:1\"\n{tls}[replica]\n");
    check(&open, "RW1020", &["line 2", "`listen`", "`masters`"]);
    assert!(Options::parse(&format!("{open}masters = [\"m\"]\n"), "c").is_ok());
    assert!(Options::parse(&format!("operators = [\"o\"]\n{open}"), "c").is_ok());
    check(
        "data = \"/d\"\nlisten = \"127.0.0.1:1\"\n[master]\nreplica = \"http://[::1]:1\"\n",
        "RW1020",
        &["line 2"],
    );
    check("data = \"/d\"\n[master]\nreplica = \"https://h:1\"\n", "RW1020", &["line 3", "replica-ca"]);
    check("data = \"/d\"\n[master]\nreplica = \"http://192.0.2.1:1\"\n", "RW1020", &["line 3", "https"]);
    check("data = \"/d\"\n[master]\nreplica = \"http://[::1]:1\"\n[replica]\n", "RW1020", &["line 3"]);
    check("data = \"/d\"\n[tls]\nkey = \"k\"\n[replica]\n", "RW1020", &["line 2", "`tls`"]);
}
