//! When a restore onto a replica is refused for the state of its scenario.

use super::*;

#[test]
fn only_a_synchronization_is_in_the_way() {
    use State::{Detached, Problem, Replicating, Stopped, Suspended, Synchronizing};
    for state in [Replicating, Suspended, Detached, Stopped, Problem] {
        assert!(may_stop(state, false), "{state:?}");
    }
    assert!(!may_stop(Synchronizing, false));
    assert!(may_stop(Synchronizing, true));
}
