//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Guest, number};

#[test]
fn the_guest_has_the_right_time() {
    let Some(guest) = Guest::new("the_guest_has_the_right_time", "time") else { return };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let before = now();
    let guest_time = number(&guest.run().output, "PURLIN-TIME ");
    let after = now();
    assert!((before - 2..=after + 2).contains(&guest_time), "{before} {guest_time} {after}");
}
