//! Which of several connections has the place.

use super::*;
use std::task::Poll;

const WAIT: Duration = Duration::from_secs(15);

fn dial(number: u64) -> Dial {
    Dial { life: 7, number }
}

fn reason(taken: Result<Place, Refused>) -> Option<Reason> {
    taken.err().map(|refused| refused.reason)
}

#[tokio::test]
async fn of_connections_that_wait_only_the_newest_gets_the_place() {
    let slots = Arc::new(Slots::default());
    let place = slots.take(1, ("here", dial(1)), WAIT).await.unwrap();
    // The master gave that one up while it waited, and began another.
    let waiting = slots.take(1, ("here", dial(2)), WAIT);
    tokio::pin!(waiting);
    assert!(look(waiting.as_mut()).await.is_pending());
    assert!(*place.superseded.borrow());
    let newer = slots.take(1, ("here", dial(3)), WAIT);
    tokio::pin!(newer);
    assert!(look(newer.as_mut()).await.is_pending());
    drop(place);
    // In the order that is worse: who came first looks first.
    assert_eq!(reason(waiting.await), Some(Reason::Superseded));
    assert!(!*newer.await.unwrap().superseded.borrow());
}

/// Looks once whether something is done.
async fn look<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn an_older_connection_that_comes_late_is_sent_away() {
    let slots = Arc::new(Slots::default());
    let place = slots.take(1, ("here", dial(2)), WAIT).await.unwrap();
    assert_eq!(reason(slots.take(1, ("here", dial(1)), WAIT).await), Some(Reason::Superseded));
    assert!(!*place.superseded.borrow(), "the newer one goes on");
    drop(place);
    // Also when nobody is attached; another scenario, life or host is not concerned.
    assert_eq!(reason(slots.take(1, ("here", dial(1)), WAIT).await), Some(Reason::Superseded));
    drop(slots.take(2, ("here", dial(1)), WAIT).await.unwrap());
    drop(slots.take(1, ("here", Dial { life: 8, number: 1 }), WAIT).await.unwrap());
    drop(slots.take(1, ("here", Dial::default()), WAIT).await.unwrap());
    drop(slots.take(1, ("there", dial(1)), WAIT).await.unwrap());
}

#[tokio::test]
async fn another_host_neither_gets_the_place_nor_counts_as_newer() {
    let slots = Arc::new(Slots::default());
    let place = slots.take(1, ("here", dial(1)), WAIT).await.unwrap();
    assert_eq!(reason(slots.take(1, ("there", dial(9)), WAIT).await), Some(Reason::OtherHost));
    assert!(!*place.superseded.borrow());
    let waiting = slots.take(1, ("here", dial(2)), WAIT);
    tokio::pin!(waiting);
    assert!(look(waiting.as_mut()).await.is_pending());
    assert_eq!(reason(slots.take(1, ("there", dial(9)), WAIT).await), Some(Reason::OtherHost));
    drop(place);
    waiting.await.unwrap();
}
