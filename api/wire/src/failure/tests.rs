//! A failure survives its way through a status; foreign statuses get a code all the same.

use super::*;

#[test]
fn survives_the_wire() {
    for code in codes::CATALOGUE.iter() {
        let failure = Failure::new(code, "message \u{e4} \"quoted\"").because("because").advise("do this");
        let status = failure.to_status();
        assert_eq!(status.code(), code.grpc);
        assert_eq!(Failure::from_status(&status), failure);
    }
}

#[test]
fn codes_of_a_newer_daemon_are_shown_as_it_words_them() {
    let mut failure = Failure::new(&codes::BUSY, "m");
    failure.code = "RW9999".into();
    failure.exit = Exit::Differs;
    assert_eq!(Failure::from_status(&failure.to_status()), failure);
}

#[test]
fn foreign_statuses() {
    let check = |status: Status, id: &str| assert_eq!(Failure::from_status(&status).code.as_ref(), id);
    check(Status::deadline_exceeded("x"), "RW0469");
    check(Status::unavailable("x"), "RW1001");
    check(Status::permission_denied("x"), "RW0459");
    check(Status::unknown("x"), "RW0472");
}
