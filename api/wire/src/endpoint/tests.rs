//! What is an endpoint and what is not.

use super::*;

#[test]
fn texts() {
    for (text, shown) in [
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("https://backup.example:4711", "https://backup.example:4711"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
    }
    for text in [
        "",
        "unix:",
        "/run/x.sock",
        "http://",
        "http://host",
        "http://host:port",
        "ftp://h:1",
        "http://u@h:1",
    ] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
}

#[test]
fn long_names_go_through_the_directory() {
    let long = std::env::temp_dir().join("x".repeat(SOCKET_PATH_MAX)).join("s");
    assert!(SocketName::new(&long).is_err());
    assert_eq!(SocketName::new(Path::new("/run/s")).unwrap().path(), Path::new("/run/s"));
}
