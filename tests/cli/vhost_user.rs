//! Devices of other processes, as the command line gives them.

use std::os::unix::net::UnixListener;

use harness::{Guest, guest};

use crate::Machine;

fn refused(arguments: &[&str]) -> Option<String> {
    let machine = Machine::new(&Guest::says("hello").then(guest::POWER_OFF))?;
    let exit = machine.with(arguments.iter().copied()).run();
    assert_eq!((exit.status, exit.output.as_str()), (2, ""), "{}", exit.errors);
    Some(exit.errors)
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let Some(error) = refused(&["--vhost-user", "/no/such.sock,type=blk"]) else { return };
    let told = "no vhost-user back end at the socket /no/such.sock; start it before the machine";
    assert!(error.contains(told), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_socket_at_which_nobody_answers_is_given_up() {
    let scratch = harness::Scratch::new("nobody");
    let socket = scratch.path("a.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let device = format!("{},type=blk", socket.display());
    let Some(error) = refused(&["--vhost-user", &device]) else { return };
    assert!(error.contains("has not answered GET_FEATURES within 3s"), "{error}");
}

#[test]
fn values_that_cannot_be_are_refused_with_what_can() {
    for (device, told) in [
        ("a", "needs a type: type=blk, fs, net or a number"),
        ("a,type=disk", "\"disk\" is no type of device; one is blk, fs, net"),
        ("a,type=fs", "needs a tag to be mounted by; say tag=NAME"),
        ("a,type=blk,queues=0", "0 queues; a vhost-user device has 1 to 64"),
        ("a,type=blk,queue-size=7", "sizes are powers of two from 2 to 1024"),
        ("a,type=blk,tga=x", "did you mean `tag`"),
    ] {
        let Some(error) = refused(&["--vhost-user", device]) else { return };
        assert!(error.contains(told), "{device}: {error}");
    }
}

#[test]
fn memory_that_is_private_on_purpose_is_refused() {
    let arguments = ["--vhost-user", "a,type=blk", "--memory", "16M,backing=private"];
    let Some(error) = refused(&arguments) else { return };
    assert!(error.contains("needs guest RAM that its back end can map"), "{error}");
    assert!(error.contains("say backing=shared in --memory, or leave it out"), "{error}");
}
