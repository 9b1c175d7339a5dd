//! Scripted vCPUs on real threads: the order of answers, pauses and ends.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use bus::{AccessError, Action, BusBuilder, Buses, Mmio, MutBusDevice, Pio, Range};
use hypervisor::{
    Fault, FaultReason, Hypervisor, Vcpu, VmConfig,
    mock::{Host, Played, Script},
};
use purlin_vcpu::{Step, Stop, Vcpus, VcpusError, step};

/// Remembers accesses; answers reads with 0x5a; obeys a table of actions.
#[derive(Default)]
struct Recorder {
    seen: Vec<(u64, Vec<u8>)>,
    action: Action,
    /// Told of each read, and waits until it may answer.
    gate: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
}

impl MutBusDevice for Recorder {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        if let Some((reached, go)) = &self.gate {
            reached.send(()).unwrap();
            go.recv().unwrap();
        }
        self.seen.push((offset, Vec::new()));
        data.fill(0x5a);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        self.seen.push((offset, data.to_vec()));
        Ok(self.action)
    }
}

fn buses(recorder: Recorder) -> (Arc<Buses>, Arc<Mutex<Recorder>>) {
    let recorder = Arc::new(Mutex::new(recorder));
    let mut pio = BusBuilder::<Pio>::new();
    pio.claim("ports", Range::new(0x100, 0x10).unwrap(), recorder.clone());
    let mut mmio = BusBuilder::<Mmio>::new();
    mmio.claim("registers", Range::new(0x1000, 0x10).unwrap(), recorder.clone());
    let buses = Buses { pio: pio.freeze().unwrap(), mmio: mmio.freeze().unwrap() };
    (Arc::new(buses), recorder)
}

fn vcpus(scripts: Vec<Script>) -> Vec<Box<dyn Vcpu>> {
    let count = u32::try_from(scripts.len()).unwrap();
    let vm = Host::new(scripts).create_vm(&VmConfig::default()).unwrap();
    (0..count).map(|index| vm.create_vcpu(index).unwrap()).collect()
}

fn outcome(exits: Vec<Played>, action: Action) -> (Stop, Vec<(u64, Vec<u8>)>) {
    let (buses, recorder) = buses(Recorder { action, ..Recorder::default() });
    let cpus = Vcpus::spawn(vcpus(vec![Script::new(exits)]), buses).unwrap();
    cpus.resume();
    let stop = cpus.join().unwrap();
    let seen = std::mem::take(&mut recorder.lock().unwrap().seen);
    (stop, seen)
}

/// A running vCPU whose port read waits in its device until the sender lets it answer.
fn at_a_port_read() -> (Vcpus, mpsc::Sender<()>) {
    let (reached, at_device) = mpsc::channel();
    let (answer, go) = mpsc::channel();
    let (buses, _) = buses(Recorder { gate: Some((reached, go)), ..Recorder::default() });
    let cpus = Vcpus::spawn(vcpus(vec![Script::new([Played::pio_in(0x100, 1)])]), buses).unwrap();
    cpus.resume();
    at_device.recv().unwrap();
    (cpus, answer)
}

#[test]
fn string_output_reaches_the_device_at_its_real_width() {
    let exits = vec![Played::PioOut { port: 0x100, width: 2, data: vec![1, 2, 3, 4] }];
    let (_, seen) = outcome(exits, Action::Continue);
    assert_eq!(seen, [(0, vec![1, 2]), (0, vec![3, 4])]);
}

#[test]
fn string_input_is_answered_access_by_access() {
    let script = Script::new([Played::PioIn { port: 0x104, width: 1, count: 3 }]);
    let answers = script.answers();
    let (buses, recorder) = buses(Recorder::default());
    let cpus = Vcpus::spawn(vcpus(vec![script]), buses).unwrap();
    cpus.resume();
    cpus.join().unwrap();
    assert_eq!(answers.get(), [vec![0x5a; 3]]);
    assert_eq!(recorder.lock().unwrap().seen.len(), 3);
}

#[test]
fn memory_accesses_reach_their_device_and_nobody_answers_ones() {
    let read = |addr| Played::MmioRead { addr, len: 4 };
    let script = Script::new([read(0x1004), read(0x2000)]);
    let answers = script.answers();
    let (buses, _) = buses(Recorder::default());
    let cpus = Vcpus::spawn(vcpus(vec![script]), buses).unwrap();
    cpus.resume();
    cpus.join().unwrap();
    assert_eq!(answers.get(), [vec![0x5a; 4], vec![0xff; 4]]);
}

#[test]
fn nothing_runs_after_the_write_that_stops_the_machine() {
    let exits = vec![Played::pio_out(0x101, &[7]), Played::pio_out(0x102, &[8])];
    let (stop, seen) = outcome(exits, Action::Reset);
    assert_eq!(stop, Stop::Reset);
    assert_eq!(seen, [(1, vec![7])]);
}

#[test]
fn the_rest_of_a_string_is_dropped_once_the_machine_stops() {
    let exits = vec![Played::PioOut { port: 0x100, width: 1, data: vec![1, 2, 3] }];
    let (stop, seen) = outcome(exits, Action::PowerOff);
    assert_eq!((stop, seen.len()), (Stop::PowerOff, 1));
}

#[test]
fn every_action_and_ending_has_its_own_stop() {
    let out = || vec![Played::pio_out(0x100, &[0])];
    let fault = Fault { reason: FaultReason::TripleFault, registers: None, code: Vec::new() };
    assert_eq!(outcome(out(), Action::Panic).0, Stop::Panic);
    assert_eq!(outcome(out(), Action::Exit(33)).0, Stop::Exit(33));
    assert_eq!(outcome(vec![Played::Halted], Action::Continue).0, Stop::Halted);
    assert_eq!(outcome(vec![Played::Reset], Action::Continue).0, Stop::Reset);
    assert_eq!(outcome(vec![Played::Debug { pc: 3 }], Action::Continue).0, Stop::Debug { pc: 3 });
    let faulty = vec![Played::Fault(Box::new(fault.clone()))];
    assert_eq!(outcome(faulty, Action::Continue).0, Stop::Fault(Box::new(fault)));
}

#[test]
fn a_host_that_fails_is_an_error_of_join() {
    let (buses, _) = buses(Recorder::default());
    let cpus = Vcpus::spawn(vcpus(vec![Script::new([Played::Fail])]), buses).unwrap();
    cpus.resume();
    assert!(matches!(cpus.join(), Err(VcpusError::Run(_))));
}

#[test]
fn an_interrupted_vcpu_may_park_and_goes_on_if_it_need_not() {
    let (buses, _) = buses(Recorder::default());
    let mut vcpu = Script::new([Played::Interrupted, Played::PowerOff]);
    assert_eq!(step(&mut vcpu, &buses).unwrap(), Step::Park);
    assert_eq!(step(&mut vcpu, &buses).unwrap(), Step::Stop(Stop::PowerOff));
}

/// The bug that other monitors have: state read between the answer to a port read and its commit.
#[test]
fn a_pause_in_the_middle_of_a_port_read_waits_for_its_commit() {
    let script = Script::new([Played::pio_in(0x100, 1), Played::Wait]);
    let answers = script.answers();
    let (reached, at_device) = mpsc::channel();
    let (answer, go) = mpsc::channel();
    let gate = Some((reached, go));
    let (buses, _) = buses(Recorder { gate, ..Recorder::default() });
    let cpus = Vcpus::spawn(vcpus(vec![script]), buses).unwrap();
    cpus.resume();
    at_device.recv().unwrap();

    let saved = thread::scope(|scope| {
        let paused = scope.spawn(|| cpus.pause().unwrap().save());
        answer.send(()).unwrap();
        paused.join().unwrap()
    });

    // The mock refuses to be saved while an answer is uncommitted.
    assert_eq!(saved.unwrap().len(), 1);
    assert_eq!(answers.get(), [vec![0x5a]]);
}

#[test]
fn all_vcpus_are_parked_while_paused_and_go_on_afterwards() {
    let (buses, recorder) = buses(Recorder::default());
    let busy = |port| Script::endless([Played::pio_out(port, &[0]), Played::Interrupted]);
    let cpus = Vcpus::spawn(vcpus(vec![busy(0x100), busy(0x101)]), buses).unwrap();
    cpus.resume();
    let count = || recorder.lock().unwrap().seen.len();

    let paused = cpus.pause().unwrap();
    let (before, after) = (count(), (0..1000).map(|_| count()).max());
    assert_eq!(Some(before), after);
    drop(paused);

    while count() == before {
        thread::yield_now();
    }
}

#[test]
fn a_pause_of_parked_vcpus_leaves_them_parked() {
    let (buses, recorder) = buses(Recorder::default());
    let script = Script::new([Played::pio_out(0x100, &[0])]);
    let cpus = Vcpus::spawn(vcpus(vec![script]), buses).unwrap();
    drop(cpus.pause().unwrap());
    drop(cpus.pause().unwrap());
    assert!(recorder.lock().unwrap().seen.is_empty());
}

#[test]
fn restored_vcpus_continue_where_they_were_saved() {
    let exits = || Script::new([Played::pio_out(0x100, &[1]), Played::Wait]);
    let (buses, recorder) = buses(Recorder::default());
    let first = Vcpus::spawn(vcpus(vec![exits()]), Arc::clone(&buses)).unwrap();
    first.resume();
    while recorder.lock().unwrap().seen.is_empty() {
        thread::yield_now();
    }
    let states = first.pause().unwrap().save().unwrap();

    let second = Vcpus::spawn(vcpus(vec![exits()]), buses).unwrap();
    second.pause().unwrap().restore(states).unwrap();
    second.resume();
    second.request_stop();
    assert_eq!(second.join().unwrap(), Stop::Requested);
    assert_eq!(recorder.lock().unwrap().seen.len(), 1);
}

#[test]
fn states_of_another_number_of_vcpus_are_refused() {
    let (buses, _) = buses(Recorder::default());
    let cpus = Vcpus::spawn(vcpus(vec![Script::new([])]), buses).unwrap();
    let error = cpus.pause().unwrap().restore(Vec::new()).unwrap_err();
    assert!(matches!(error, VcpusError::Count { found: 0, expected: 1 }));
}

#[test]
fn a_stop_from_outside_ends_a_guest_that_never_exits() {
    let (buses, _) = buses(Recorder::default());
    let cpus = Vcpus::spawn(vcpus(vec![Script::endless([Played::Wait])]), buses).unwrap();
    cpus.resume();
    cpus.request_stop();
    assert_eq!(cpus.join().unwrap(), Stop::Requested);
}

#[test]
fn the_first_stop_counts_and_is_signalled() {
    let (buses, _) = buses(Recorder::default());
    let scripts = vec![Script::new([Played::PowerOff]), Script::endless([Played::Wait])];
    let cpus = Vcpus::spawn(vcpus(scripts), buses).unwrap();
    let stop_event = cpus.stop_event().try_clone().unwrap();
    cpus.resume();
    assert_eq!(cpus.join().unwrap(), Stop::PowerOff);
    assert_eq!(stop_event.read().unwrap(), 1);
}

/// A pause that crosses the end of the machine must not bring it back to life.
#[test]
fn a_stopped_machine_is_not_resumed() {
    let (buses, recorder) = buses(Recorder::default());
    let script = Script::new([Played::Reset, Played::pio_out(0x100, &[1])]);
    let cpus = Vcpus::spawn(vcpus(vec![script]), buses).unwrap();
    cpus.resume();
    while cpus.stopped().is_none() {
        thread::yield_now();
    }
    drop(cpus.pause().unwrap());
    cpus.resume();
    // Answered after whatever the thread did with the two calls above.
    drop(cpus.pause().unwrap());
    assert_eq!(cpus.join().unwrap(), Stop::Reset);
    assert!(recorder.lock().unwrap().seen.is_empty());
}

/// Without an abort on panic, nobody would learn of the end of the thread.
#[test]
fn a_vcpu_whose_thread_panics_ends_the_machine() {
    let (reached, at_device) = mpsc::channel();
    drop(at_device); // so that the device panics
    let gate = Some((reached, mpsc::channel().1));
    let (buses, _) = buses(Recorder { gate, ..Recorder::default() });
    let scripts = vec![Script::endless([Played::Wait]), Script::new([Played::pio_in(0x100, 1)])];
    let cpus = Vcpus::spawn(vcpus(scripts), buses).unwrap();
    cpus.resume();
    assert!(matches!(cpus.join(), Err(VcpusError::Gone { index: 1 })));
}

#[test]
fn threads_are_named_after_their_vcpus() {
    let (cpus, answer) = at_a_port_read();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    assert!(names.into_iter().any(|name| name.trim() == "vcpu0"));
    answer.send(()).unwrap();
    cpus.join().unwrap();
}

#[test]
fn a_detached_run_does_not_wait_for_a_device_that_blocks() {
    let (cpus, answer) = at_a_port_read();
    cpus.request_stop();
    assert_eq!(cpus.detach().unwrap(), Stop::Requested);
    answer.send(()).unwrap();
}
