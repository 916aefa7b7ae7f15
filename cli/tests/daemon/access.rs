//! Doors and keys: Unix socket, loopback, TLS with certificates that are right, missing, expired, foreign or replaced.

use crate::world::{Ran, World, run};
use api::config::HooksAllowed;
use api::listen::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use wire::{Client, Endpoint};

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_private() {
    let world = World::new().await;
    let socket = world.place.path().join("data/rewindd.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(world.place.path().join("data").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be somebody else");
        return;
    }
    let as_nobody = || {
        let mut command = world.command("scenario list");
        // The program itself may lie where others cannot go.
        let copy = world.place.path().join("restorectl");
        // By a process of its own: a child that another test starts meanwhile would hold a file open that we write.
        let copied =
            std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_restorectl")).arg(&copy).status();
        assert!(copied.unwrap().success());
        let mut other = std::process::Command::new(copy);
        other.args(["scenario", "list"]).env_clear();
        for (key, value) in command.get_envs().filter_map(|(key, value)| Some((key, value?))) {
            other.env(key, value);
        }
        command = other;
        command.uid(65534).gid(65534);
        command
    };
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(world.place.path(), 0o755);
    // The file system keeps them out.
    let ran = run(as_nobody()).await;
    assert_eq!(ran.exit, 6, "{ran:?}");
    assert!(ran.stderr.contains("error[RW0459]"), "{ran:?}");
    // If it did not, the daemon would.
    open(&world.place.path().join("data"), 0o755);
    open(&socket, 0o666);
    let ran = run(as_nobody()).await;
    assert_eq!(ran.exit, 6, "{ran:?}");
    assert!(ran.stderr.contains("user 65534 is neither root"), "{ran:?}");
}

/// A hook is a command that the daemon runs: only its owner may define one, unless the configuration says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_defined_by_the_owner() {
    let mut world = World::with(|mut options| {
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        options
    })
    .await;
    let elsewhere = format!("--endpoint http://{}", world.daemon.as_ref().unwrap().address().unwrap());
    let hook = "--hook quiesce=/bin/hold";
    for hooks in [hook, "--hook thaw=/bin/go", "--hook stop=/bin/stop", "--hook start=/bin/start"] {
        world.bad(&format!("{elsewhere} scenario create docs --root /srv/docs {hooks}"), 6, "RW1037").await;
    }
    world.good(&format!("{elsewhere} scenario create docs --root /srv/docs")).await;
    world.bad(&format!("{elsewhere} scenario set docs hook=quiesce=/bin/hold"), 6, "RW1037").await;
    world.good(&format!("{elsewhere} scenario set docs hook-timeout=5s")).await;
    world.good("scenario set docs hook=quiesce=/bin/hold").await;
    world.good(&format!("scenario create other --root /srv/other {hook}")).await;
    world.stop().await;

    // Who says that this daemon runs anything, or what exactly, has decided.
    let started = world.start(|mut options| {
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        let master = options.master.as_mut().unwrap();
        master.hooks = HooksAllowed::Listed(["/bin/hold".to_owned()].into());
        options
    });
    started.await.unwrap();
    let elsewhere = format!("--endpoint http://{}", world.daemon.as_ref().unwrap().address().unwrap());
    world.good(&format!("{elsewhere} scenario create third --root /srv/third {hook}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_directory() {
    let deep = "d".repeat(200);
    let world = World::with(|mut options| {
        options.data = options.data.join(&deep);
        options.socket = options.data.join("rewindd.sock");
        options
    })
    .await;
    let mut command = world.command("scenario list");
    command.env("REWIND_ENDPOINT", format!("unix:{}/data/{deep}/rewindd.sock", world.place.path().display()));
    let ran = run(command).await;
    assert_eq!(ran.exit, 0, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_daemon_a_directory() {
    let mut world = World::new().await;
    let first = world.daemon.take();
    let second = world.start(|options| options).await;
    assert_eq!(second.unwrap_err().code().id, "RW1019");
    first.unwrap().stop().await;
    world.start(|options| options).await.unwrap();
    // A socket that a dead daemon left is in nobody's way.
    world.stop().await;
    drop(std::os::unix::net::UnixListener::bind(world.place.path().join("data/rewindd.sock")).unwrap());
    world.start(|options| options).await.unwrap();
    world.good("scenario list").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback() {
    let world = World::with(|mut options| {
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        options
    })
    .await;
    let daemon = world.daemon.as_ref().unwrap();
    let address = daemon.address().unwrap();
    let expected = format!("ready endpoint={} listen=http://{address}", world.endpoint());
    assert_eq!(daemon.ready_line(), expected);
    world.good(&format!("--endpoint http://{address} scenario list")).await;
    world.bad(&format!("--endpoint https://{address} scenario list"), 2, "RW1028").await;

    let mut other = World { place: tempfile::tempdir().unwrap(), wiring: world.wiring.clone(), daemon: None };
    let open = other.start(|mut options| {
        options.listen = Some("0.0.0.0:0".parse().unwrap());
        options
    });
    assert_eq!(open.await.unwrap_err().code().id, "RW1022");
}

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let world = World::with(|mut options| {
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        options
    })
    .await;
    let address = world.daemon.as_ref().unwrap().address().unwrap();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for service in ["", "rewind.v1.Scenarios", "rewind.v1.Journal", "rewind.v1.Jobs"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
}

/// A directory with an authority and what it signed.
struct Authority {
    place: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(place: &Path) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "authority");
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        std::fs::create_dir_all(place).unwrap();
        std::fs::write(place.join("ca.crt"), issuer.pem()).unwrap();
        Authority { place: place.to_owned(), issuer }
    }

    fn issue(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.place.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.place.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn tls(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.file("server.crt"),
            key: self.file("server.key"),
            client_ca: self.file("ca.crt"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates() {
    let place = tempfile::tempdir().unwrap();
    let ours = Authority::new(&place.path().join("ours"));
    let foreign = Authority::new(&place.path().join("foreign"));
    ours.issue("server", "localhost", |_| {});
    ours.issue("ops", "ops.example", |_| {});
    ours.issue("prod", "prod.example", |_| {});
    ours.issue("stranger", "web7.example", |_| {});
    ours.issue("old", "ops.example", |parameters| parameters.not_after = rcgen::date_time_ymd(2020, 1, 1));
    foreign.issue("ops", "ops.example", |_| {});
    let tls = ours.tls();
    let world = World::with(|mut options| {
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        options.tls = Some(tls.clone());
        options.operators.insert("ops.example".to_owned());
        if let Some(replica) = &mut options.replica {
            replica.masters.insert("prod.example".to_owned());
        }
        options
    })
    .await;
    let daemon = world.daemon.as_ref().unwrap();
    let port = daemon.address().unwrap().port();
    let line = |ca: &Authority, identity: Option<(&Authority, &str)>, host: &str| {
        let mut line = format!("--endpoint https://{host}:{port} --ca {} ", ca.file("ca.crt").display());
        if let Some((authority, name)) = identity {
            let (cert, key) =
                (authority.file(&format!("{name}.crt")), authority.file(&format!("{name}.key")));
            line.push_str(&format!("--cert {} --key {} ", cert.display(), key.display()));
        }
        line + "scenario list"
    };
    world.good(&line(&ours, Some((&ours, "ops")), "localhost")).await;
    world.bad(&line(&ours, None, "localhost"), 6, "RW1021").await;
    world.bad(&line(&ours, Some((&ours, "old")), "localhost"), 6, "RW1021").await;
    world.bad(&line(&ours, Some((&foreign, "ops")), "localhost"), 6, "RW1021").await;
    world.bad(&line(&foreign, Some((&ours, "ops")), "localhost"), 6, "RW1021").await;
    world.bad(&line(&ours, Some((&ours, "ops")), "127.0.0.1"), 6, "RW1021").await;
    // A master's certificate streams and does nothing else.
    world.bad(&line(&ours, Some((&ours, "prod")), "localhost"), 6, "RW0459").await;
    // Nor does one that nobody has listed.
    world.bad(&line(&ours, Some((&ours, "stranger")), "localhost"), 6, "RW0459").await;
    world.bad("--cert /nowhere/x scenario list --endpoint https://localhost:1", 2, "RW1028").await;

    // New certificates of another authority, without a restart; then some that cannot be used.
    let good = line(&ours, Some((&ours, "ops")), "localhost");
    foreign.issue("server", "localhost", |_| {});
    let mut options = world.options();
    options.operators.insert("ops.example".to_owned());
    options.tls = Some(foreign.tls());
    daemon.reload(&options).unwrap();
    world.good(&line(&foreign, Some((&foreign, "ops")), "localhost")).await;
    world.bad(&good, 6, "RW1021").await;
    std::fs::write(foreign.file("server.key"), "rubbish").unwrap();
    assert_eq!(daemon.reload(&options).unwrap_err().code().id, "RW1021");
    let theirs = line(&foreign, Some((&foreign, "ops")), "localhost");
    world.good(&theirs).await;
    // Who may do what counts from the next call on, too.
    foreign.issue("server", "localhost", |_| {});
    options.tls = Some(foreign.tls());
    options.operators = ["somebody else".to_owned()].into();
    daemon.reload(&options).unwrap();
    world.bad(&theirs, 6, "RW0459").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_in_nobodys_way() {
    let place = tempfile::tempdir().unwrap();
    let ours = Authority::new(place.path());
    ours.issue("server", "localhost", |_| {});
    ours.issue("ops", "ops.example", |_| {});
    let tls = ours.tls();
    let world = World::with(|mut options| {
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        options.tls = Some(tls);
        options.operators.insert("ops.example".to_owned());
        options
    })
    .await;
    let address = world.daemon.as_ref().unwrap().address().unwrap();
    let _silent: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let endpoint: Endpoint = format!("https://localhost:{}", address.port()).parse().unwrap();
    let files = wire::TlsFiles {
        ca: Some(ours.file("ca.crt")),
        cert: Some(ours.file("ops.crt")),
        key: Some(ours.file("ops.key")),
    };
    let mut client = Client::connect(&endpoint, &files).await.unwrap();
    client.scenarios.list(wire::v1::ListScenariosRequest {}).await.unwrap();
    let ran: Ran = world.good("scenario list").await;
    assert_eq!(ran.stdout, "");
}
