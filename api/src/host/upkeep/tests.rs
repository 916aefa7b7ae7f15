//! What was confirmed is what may go, from the wire on.

use super::*;
use crate::services::repositories::forget_from_wire;
use snapshot::repository::upkeep::policy::{Candidate, Kept};
use snapshot::repository::{Id, Timestamp};
use wire::v1;

fn session(number: u8) -> Candidate {
    let (time, host) = (Timestamp { seconds: number.into(), nanoseconds: 0 }, "master".to_owned());
    Candidate { id: Id([number; 32]), time, host, paths: vec!["/srv".to_owned()] }
}

/// Keeps session 9 and forgets those.
fn plan(forget: &[u8]) -> Vec<Group> {
    let (host, paths) = ("master".to_owned(), vec!["/srv".to_owned()]);
    let keep = vec![Kept { session: session(9), reasons: vec!["last"] }];
    vec![Group { host, paths, keep, forget: forget.iter().map(|number| session(*number)).collect() }]
}

fn request(confirmed: Option<&[u8]>) -> ForgetRequest {
    let ids = |numbers: &[u8]| numbers.iter().map(|number| vec![*number; 32].into()).collect();
    let policy = Some(v1::KeepPolicy { last: 1, ..v1::KeepPolicy::default() });
    let confirmed = confirmed.map(|numbers| v1::ForgetConfirmed { ids: ids(numbers) });
    forget_from_wire(v1::ForgetRequest { policy, confirmed, ..v1::ForgetRequest::default() }).unwrap()
}

#[test]
fn only_what_was_shown_goes() {
    let code = |confirmed: Option<&[u8]>, planned: &[u8]| {
        as_confirmed(&request(confirmed), &plan(planned)).err().map(|error| error.code().id)
    };
    assert_eq!(code(Some(&[1, 2]), &[1, 2]), None);
    assert_eq!(code(Some(&[1, 2]), &[2]), None, "an attempt before this one was cut off");
    assert_eq!(code(Some(&[1, 2]), &[1, 2, 3]), Some("RW1082"), "a new session pushed another one out");
    assert_eq!(code(Some(&[]), &[1]), Some("RW1082"), "nothing was shown");
    assert_eq!(code(None, &[1, 2, 3]), None, "nobody was asked");
}

#[test]
fn ids_are_whole() {
    let policy = Some(v1::KeepPolicy { last: 1, ..v1::KeepPolicy::default() });
    for ids in [vec![vec![1; 31].into()], vec![vec![1; 32].into(); CONFIRMED_OVER]] {
        let confirmed = Some(v1::ForgetConfirmed { ids });
        let request = v1::ForgetRequest { policy, confirmed, ..v1::ForgetRequest::default() };
        assert_eq!(forget_from_wire(request).unwrap_err().code().id, "RW0468");
    }
}

const CONFIRMED_OVER: usize = 20_001;
