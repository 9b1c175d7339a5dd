//! vCPUs on line, arranged as asked.

use crate::{Guest, number, value};

#[test]
fn four_vcpus_have_the_threads_cores_and_sockets_asked_for() {
    let test = "four_vcpus_have_the_threads_cores_and_sockets_asked_for";
    let Some(guest) = Guest::new(test, "cpus") else { return };
    let output = guest.arguments(["--cpus", "4,threads=2,cores=1,sockets=2"]).run().output;
    assert_eq!(number(&output, "PURLIN-CPUS "), 4, "{output}");
    let first = value(&output, "PURLIN-TOPOLOGY cpu1 ").expect("cpu1 is on line");
    let last = value(&output, "PURLIN-TOPOLOGY cpu3 ").expect("cpu3 is on line");
    assert_eq!(first, "package=0 core=0 threads=0-1 cores=0-1");
    assert_eq!(last, "package=1 core=0 threads=2-3 cores=2-3");
}

#[test]
fn two_vcpus_are_two_cores_by_default() {
    let test = "two_vcpus_are_two_cores_by_default";
    let Some(guest) = Guest::new(test, "cpus") else { return };
    let output = guest.arguments(["--cpus", "2"]).run().output;
    let second = value(&output, "PURLIN-TOPOLOGY cpu1 ").expect("cpu1 is on line");
    assert_eq!(second, "package=0 core=1 threads=1 cores=0-1");
}
