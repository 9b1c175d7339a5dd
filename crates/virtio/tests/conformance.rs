//! The conformance suite passes a device without a fault, and finds each fault there is.

mod echo;

use echo::{Echo, Fault};
use purlin_virtio::conformance::{self, Request};

fn check(fault: Fault) {
    conformance::device(|| Echo::new(fault));
}

fn request() -> Request {
    let readable: Vec<u8> = (0..100).collect();
    Request { queue: 0, answer: Some(readable.clone()), readable, room: 128, len: 100 }
}

#[test]
fn a_device_without_a_fault_conforms() {
    check(Fault::None);
}

#[test]
fn a_device_without_a_fault_serves() {
    conformance::serves(|| Echo::new(Fault::None), &request());
    conformance::serves(|| Echo::new(Fault::None), &Request { queue: 2, ..request() });
}

#[test]
#[should_panic(expected = "answers something else")]
fn an_answer_that_is_not_the_device_s_is_found() {
    let answer = Some(vec![0; 100]);
    conformance::serves(|| Echo::new(Fault::None), &Request { answer, ..request() });
}

#[test]
#[should_panic(expected = "uses other chains or lengths")]
fn a_length_that_is_not_the_device_s_is_found() {
    conformance::serves(|| Echo::new(Fault::ClaimsTooMuch), &request());
}

#[test]
#[should_panic(expected = "claims bytes that it has not written")]
fn a_device_that_claims_too_much_is_found() {
    check(Fault::ClaimsTooMuch);
}

#[test]
#[should_panic(expected = "there is a request")]
fn a_device_that_takes_requests_for_granted_is_found() {
    check(Fault::PanicsWithoutARequest);
}

#[test]
#[should_panic(expected = "saves something else")]
fn a_device_that_forgets_its_state_is_found() {
    check(Fault::ForgetsItsState);
}

#[test]
#[should_panic(expected = "`test.echo` takes")]
fn a_device_that_takes_garbage_is_found() {
    check(Fault::TakesGarbage);
}

#[test]
#[should_panic(expected = "changes its length when it is written")]
fn a_device_whose_configuration_grows_is_found() {
    check(Fault::ConfigGrows);
}

#[test]
#[should_panic(expected = "a reset brings the configuration back")]
fn a_device_that_keeps_its_configuration_in_a_reset_is_found() {
    check(Fault::KeepsItsConfig);
}

#[test]
#[should_panic(expected = "MaxSize(3)")]
fn a_device_with_an_odd_queue_is_found() {
    check(Fault::OddQueue);
}

#[test]
#[should_panic(expected = "every device has a queue")]
fn a_device_without_a_queue_is_found() {
    check(Fault::NoQueue);
}
