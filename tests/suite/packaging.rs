//! Do the files in `packaging` work? What they would have run is taken from them and run.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::daemon::{World, programs, run};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging")
}

/// `KEY=VALUE` lines, as systemd reads an environment file.
fn environment(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once('=').unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
}

/// The words of a unit's `ExecStart`, as systemd makes them: `%i` is the instance, `${X}` one word, `$X` as many as it has.
fn exec_start(unit: &str, instance: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let text = std::fs::read_to_string(packaging().join("systemd").join(unit)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = Vec::new();
    for word in line.replace("%i", instance).split_whitespace() {
        if let Some(name) = word.strip_prefix("${").and_then(|word| word.strip_suffix('}')) {
            words.push(environment.get(name).cloned().unwrap_or_default());
        } else if let Some(name) = word.strip_prefix('$') {
            words.extend(
                environment
                    .get(name)
                    .into_iter()
                    .flat_map(|value| value.split_whitespace().map(str::to_owned)),
            );
        } else {
            words.push(word.to_owned());
        }
    }
    words
}

/// The program a unit names, as it was built here.
fn built(installed: &str) -> PathBuf {
    programs().join(Path::new(installed).strip_prefix("/usr/bin").unwrap())
}

fn protected() -> World {
    let world = World::new();
    std::fs::write(world.master().join("file"), "text").unwrap();
    world.protect();
    let password = world.path("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let place = (world.path("repository"), password.display());
    tests::repository::make(&place.0, &password);
    world.ok(&format!("repository add offsite file://{} --password-file {}", place.0.display(), place.1));
    world.flush();
    world
}

#[test]
fn the_unit_of_a_backup() {
    let world = protected();
    let mut environment = environment(&packaging().join("etc/backup.env"));
    let words = exec_start("rewind-backup@.service", "docs", &environment);
    let command = |words: &[String]| {
        let mut command = Command::new(built(&words[0]));
        command.args(&words[1..]).env("REWIND_ENDPOINT", world.endpoint());
        command
    };
    let ran = run(command(&words), Duration::from_secs(60));
    assert_eq!((ran.exit, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert_eq!(world.list("session list").len(), 1);
    // Options are words of their own; what is wrong ends with an exit status that systemd sees.
    environment.insert("BACKUP_OPTIONS".into(), "--consistent --timeout 5s".into());
    let ran =
        run(command(&exec_start("rewind-backup@.service", "docs", &environment)), Duration::from_secs(60));
    assert!(ran.exit != 0 && ran.stderr.contains("quiesce"), "no hook is there: {ran:?}");
    let ran =
        run(command(&exec_start("rewind-backup@.service", "nothing", &environment)), Duration::from_secs(60));
    assert_eq!(ran.exit, 4, "{ran:?}");
}

#[test]
fn the_line_for_cron() {
    let world = protected();
    let text = std::fs::read_to_string(packaging().join("cron/rewind")).unwrap();
    let line = text.lines().find(|line| line.contains(" root ")).unwrap();
    // Five fields of time and the user stand before the command, which goes to a shell.
    let mut rest = line;
    for _ in 0..6 {
        rest = rest.trim_start().split_once(char::is_whitespace).unwrap().1;
    }
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
    let cron = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env_clear().env("PATH", &path).env("REWIND_ENDPOINT", world.endpoint());
        run(command, Duration::from_secs(60))
    };
    let ran = cron(rest.trim());
    assert_eq!(
        (ran.exit, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "", ""),
        "cron mails what is printed: {ran:?}"
    );
    assert_eq!(world.list("session list").len(), 1);
    // What fails is told to the system's log, and the mail says what it was.
    let broken = rest.replace("offsite", "nowhere").replace("logger", "echo logger");
    let ran = cron(broken.trim());
    assert_eq!(ran.stdout, "logger -t rewind backup of docs failed: 4\n", "{ran:?}");
    assert!(ran.stderr.contains("RW1050"), "{ran:?}");
}

/// The daemon as its unit runs it: with a configuration file, and it says when it serves.
#[test]
fn the_unit_of_the_daemon() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("rewind.toml");
    let socket = place.path().join("rewindd.sock");
    let text = format!("data = {:?}\nsocket = {socket:?}\n[master]\n[replica]\n", place.path().join("data"));
    std::fs::write(&config, text).unwrap();
    let words = exec_start("rewindd.service", "", &BTreeMap::new());
    assert_eq!(words[1..], ["--config", "/etc/rewind/rewind.toml"]);
    let notified = UnixDatagram::bind(place.path().join("notify")).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut daemon = Command::new(built(&words[0]))
        .arg(&words[1])
        .arg(&config)
        .env("NOTIFY_SOCKET", place.path().join("notify"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0; 256];
    let told =
        notified.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
    let listed = Command::new(programs().join("restorectl"))
        .args(["scenario", "list"])
        .env("REWIND_ENDPOINT", format!("unix:{}", socket.display()))
        .output();
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = daemon.wait().unwrap();
    assert!(told.unwrap().contains("READY=1"));
    assert!(listed.unwrap().status.success());
    assert!(ended.success(), "{ended}");
}

/// systemd finds nothing wrong with the units but that the programs are not installed.
#[test]
fn systemd_reads_the_units() {
    let place = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(packaging().join("systemd")).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = text.replace("/usr/bin/", &format!("{}/", programs().display()));
        let name = entry.file_name().into_string().unwrap().replace("@.", "@docs.");
        std::fs::write(place.path().join(name), text).unwrap();
    }
    let mut units: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    units.sort();
    let mut command = Command::new("systemd-analyze");
    command.arg("verify").args(&units).env("SYSTEMD_UNIT_PATH", format!("{}:", place.path().display()));
    match command.output() {
        Err(error) => println!("left out: systemd-analyze does not start: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let ours: Vec<&str> = text.lines().filter(|line| line.contains("rewind")).collect();
            // The manual is not installed where nothing is.
            let ours: Vec<_> = ours.into_iter().filter(|line| !line.contains("man restorectl")).collect();
            assert!(ours.is_empty(), "{text}");
        }
    }
}
