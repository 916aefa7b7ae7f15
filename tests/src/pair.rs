//! Master and replica as two processes, with certificates of an authority of their own.
//!
//! A [`Pair`] is a temporary directory with a configuration file and a data directory a side. By default both sides
//! share the loopback interface; a [`Net`] gives each a network of its own, joined by a cable that can be cut. Only
//! processes started here are ended, by their own handles; networks made here are removed.

use crate::daemon::{Ran, programs, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A daemon must be ready within it, and what comes by itself must have come.
pub const SOON: Duration = Duration::from_secs(60);
/// A stop by SIGTERM must be over within it.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// No command of a test takes longer.
const COMMAND_WITHIN: Duration = Duration::from_secs(300);
/// Lines of a log shown when a test fails.
const LOG_LINES_SHOWN: usize = 80;
/// What the master calls itself.
pub const MASTER: &str = "prod1.example.com";

/// Waits for something that must come by itself.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < give_up, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}

impl Authority {
    /// A new one, that nobody trusts yet.
    #[must_use]
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "authority");
        Authority(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `NAME.ca`, `NAME.crt` and `NAME.key` into a directory: a certificate for these hosts.
    pub fn issue(&self, directory: &Path, name: &str, hosts: &[&str], expired: bool) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        if expired {
            parameters.not_before = date_time_ymd(2001, 1, 1);
            parameters.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        fs::write(directory.join(format!("{name}.ca")), self.0.pem()).unwrap();
        fs::write(directory.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Two networks and the cable between them; needs root.
pub struct Net {
    names: [String; 2],
}

/// Addresses of replica and master on the cable.
const ADDRESSES: [&str; 2] = ["10.199.77.1", "10.199.77.2"];

fn ip(line: &str) -> Ran {
    let mut command = Command::new("ip");
    command.args(line.split_whitespace());
    run(command, SOON)
}

impl Net {
    /// Makes them; else why it cannot be done.
    ///
    /// # Errors
    /// What the system lacks or refuses.
    pub fn new() -> Result<Net, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("networks of its own need root".to_owned());
        }
        if Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Err("there is no program ip (Debian: iproute2)".to_owned());
        }
        static NETS: AtomicU32 = AtomicU32::new(0);
        let number = format!("{}-{}", std::process::id(), NETS.fetch_add(1, Ordering::Relaxed));
        let net = Net { names: [format!("rewind-{number}-r"), format!("rewind-{number}-m")] };
        for name in &net.names {
            let ran = ip(&format!("netns add {name}"));
            if ran.exit != 0 {
                return Err(format!("the system makes no network: {}", ran.stderr.trim()));
            }
        }
        let [replica, master] = &net.names;
        let ran = ip(&format!("link add cable netns {replica} type veth peer name cable netns {master}"));
        if ran.exit != 0 {
            return Err(format!("the system makes no cable: {}", ran.stderr.trim()));
        }
        for (name, address) in net.names.iter().zip(ADDRESSES) {
            for line in [
                format!("addr add {address}/24 dev cable"),
                "link set lo up".into(),
                "link set cable up".into(),
            ] {
                let ran = ip(&format!("-n {name} {line}"));
                assert_eq!(ran.exit, 0, "{ran:?}");
            }
        }
        Ok(net)
    }

    /// Cuts the cable, or joins it again, at the master's end.
    pub fn cable(&self, up: bool) {
        let ran = ip(&format!("-n {} link set cable {}", self.names[1], if up { "up" } else { "down" }));
        assert_eq!(ran.exit, 0, "{ran:?}");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            // The cable goes with them.
            drop(ip(&format!("netns del {name}")));
        }
    }
}

/// One daemon.
pub struct Side {
    place: PathBuf,
    name: &'static str,
    child: Option<Child>,
    net: Option<String>,
}

impl Side {
    fn new(place: &Path, name: &'static str, net: Option<String>) -> Side {
        Side { place: place.to_owned(), name, child: None, net }
    }

    fn command(&self) -> Command {
        let program = programs().join("rewindd");
        let mut command = match &self.net {
            Some(net) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", net]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(self.config()).env_remove("RUST_LOG").env("NO_COLOR", "1");
        command
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.place.join(format!("{}.toml", self.name))
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.place.join(self.name)
    }

    /// Starts it and waits until it serves; the ready line.
    pub fn start(&mut self) -> String {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        self.child = Some(child);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        lines.recv_timeout(SOON).unwrap_or_else(|_| panic!("{} is not ready\n{}", self.name, self.log_end()))
    }

    /// Runs it where it has to give up by itself.
    #[must_use]
    pub fn run_to_end(&self, more: &[&str]) -> Ran {
        let mut command = self.command();
        command.args(more);
        run(command, SOON)
    }

    /// Asks it to end and waits; it has to exit 0 in time.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let give_up = Instant::now() + STOP_WITHIN;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > give_up {
                drop(child.kill());
                panic!("{} does not stop\n{}", self.name, self.log_end());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{} stopped with {status}\n{}", self.name, self.log_end());
    }

    /// Ends it without a chance to do anything more.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn log_path(&self) -> PathBuf {
        self.place.join(format!("{}.log", self.name))
    }

    /// All of its log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Runs `restorectl --json` on its socket, with words that hold no spaces.
    #[must_use]
    pub fn ctl(&self, line: &str) -> Ran {
        let mut command = Command::new(programs().join("restorectl"));
        command.arg("--json").args(line.split_whitespace()).env_clear().env("TZ", "UTC");
        command.env("REWIND_ENDPOINT", format!("unix:{}", self.data().join("rewindd.sock").display()));
        Ran { line: line.to_owned(), ..run(command, COMMAND_WITHIN) }
    }

    /// A command that has to succeed: its first object, null if it prints none.
    pub fn ok(&self, line: &str) -> Value {
        let ran = self.ctl(line);
        assert_eq!(ran.exit, 0, "{ran:?}\n{}", self.log_end());
        ran.objects().into_iter().next().unwrap_or(Value::Null)
    }

    /// A command that has to fail with this exit status and code.
    pub fn refused(&self, line: &str, exit: i32, code: &str) -> Ran {
        let ran = self.ctl(line);
        assert_eq!((ran.exit, ran.code().as_str()), (exit, code), "{ran:?}\n{}", self.log_end());
        ran
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- end of the log of {}:\n{}", self.name, self.log_end());
        }
    }
}

/// A master and a replica.
pub struct Pair {
    /// Captures.
    pub master: Side,
    /// Journals and applies.
    pub replica: Side,
    /// Who signed the certificates of both.
    pub authority: Authority,
    /// The cable, if they have networks of their own.
    pub net: Option<Net>,
    place: tempfile::TempDir,
}

impl Pair {
    /// Both on loopback, with TLS; neither started.
    #[must_use]
    pub fn new() -> Pair {
        Pair::with(None)
    }

    /// Both on the ends of a cable, or on loopback.
    #[must_use]
    pub fn with(net: Option<Net>) -> Pair {
        let place = tempfile::Builder::new().prefix("rewind-pair-").tempdir().unwrap();
        let (here, authority) = (place.path(), Authority::new());
        fs::create_dir(here.join("m")).unwrap();
        authority.issue(here, "replica", &["localhost", ADDRESSES[0]], false);
        authority.issue(here, "master", &[MASTER], false);
        let listen = if net.is_some() { format!("{}:4711", ADDRESSES[0]) } else { "127.0.0.1:0".to_owned() };
        let net_of = |number: usize| net.as_ref().map(|net: &Net| net.names[number].clone());
        let replica = Side::new(here, "replica", net_of(0));
        let master = Side::new(here, "master", net_of(1));
        let pair = Pair { master, replica, authority, net, place };
        pair.configure_replica(&listen, "", "");
        pair
    }

    /// A path in the place.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Writes the replica's configuration; `top` and `section` are lines added to it.
    pub fn configure_replica(&self, listen: &str, top: &str, section: &str) {
        let here = self.place.path().display();
        let text = format!(
            "data = \"{here}/replica\"\nlisten = \"{listen}\"\n{top}\n[tls]\ncertificate = \"{here}/replica.crt\"\n\
             key = \"{here}/replica.key\"\nclient-ca = \"{here}/replica.ca\"\n[replica]\nmin-free = \"1MiB\"\n\
             masters = [\"{MASTER}\", \"prod2.example.com\"]\n{section}\n"
        );
        fs::write(self.replica.config(), text).unwrap();
    }

    /// Writes the master's configuration: who it is, by the files of this name, and where its replica listens.
    pub fn configure_master(&self, files: &str, replica: &str) {
        let here = self.place.path().display();
        let text = format!(
            "data = \"{here}/master\"\n[master]\nname = \"{MASTER}\"\nreplica = \"https://{replica}\"\n\
             replica-ca = \"{here}/{files}.ca\"\ncertificate = \"{here}/{files}.crt\"\nkey = \"{here}/{files}.key\"\n\
             spool-min-free = \"1MiB\"\n"
        );
        fs::write(self.master.config(), text).unwrap();
    }

    /// Starts the replica, keeps the port it got, and configures the master for it; where it listens.
    pub fn start_replica(&mut self) -> String {
        let line = self.replica.start();
        let (_, address) = line.rsplit_once("listen=https://").unwrap_or_else(|| panic!("{line}"));
        self.configure_replica(address, "", "");
        let place =
            if self.net.is_some() { address.to_owned() } else { address.replace("127.0.0.1", "localhost") };
        self.configure_master("master", &place);
        place
    }

    /// Starts both.
    pub fn start(&mut self) {
        self.start_replica();
        self.master.start();
    }

    /// Creates scenario `docs` and runs it.
    pub fn protect(&self) {
        self.create();
        self.replica.ok("scenario run docs");
    }

    /// Creates scenario `docs`.
    pub fn create(&self) {
        let (m, r) = (self.path("m"), self.path("r/m"));
        let root = format!("{}={}", m.display(), r.display());
        self.replica.ok(&format!("scenario create docs --root {root} --master {MASTER}"));
    }

    /// Waits until `docs` replicates, as it has to by itself.
    pub fn wait_replicating(&self) {
        until("docs replicates", || {
            let status = self.replica.ok("scenario status docs");
            status["state"] == "replicating" && status["gaps_open"] == 0
        });
    }

    /// Brings everything to the replica; the LSN of the barrier.
    pub fn flush(&self) -> String {
        self.replica.ok("flush docs")["lsn"].as_str().expect("an LSN").to_owned()
    }

    /// Compares master and replica tree.
    pub fn assert_equal(&self) {
        self.assert_same(&self.path("m"), &self.path("r/m"));
    }

    /// Compares two trees, the times of their tops aside.
    pub fn assert_same(&self, a: &Path, b: &Path) {
        let report = crate::compare::compare(a, b, &crate::compare::Options::default()).unwrap();
        assert!(report.is_equal(), "{} and {}:\n{report}", a.display(), b.display());
    }
}

impl Default for Pair {
    fn default() -> Self {
        Pair::new()
    }
}
