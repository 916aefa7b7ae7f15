//! The datagram arrives, by path and by abstract name.

use super::*;

#[test]
fn arrives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let by_path = UnixDatagram::bind(&path).unwrap();
    let name = format!("rewind-notify-{}", std::process::id());
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (receiver, socket) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
        send(&socket, READY).unwrap();
        let mut buffer = [0; 64];
        let bytes = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"READY=1");
    }
    assert!(send(OsStr::new("/nowhere/at/all"), READY).is_err());
    assert!(reloading().starts_with("RELOADING=1\nMONOTONIC_USEC="));
}
