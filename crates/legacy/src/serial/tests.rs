//! The serial port from both ends: a guest at its registers, the host at its descriptors.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::{
        fs::OpenOptionsExt,
        net::{UnixListener, UnixStream},
    },
    sync::mpsc,
    thread,
    time::Duration,
};

use device::{FakeWiring, Subscriber};
use event_manager::{EventManager, SubscriberOps};
use nix::fcntl::OFlag;
use vmm_sys_util::tempdir::TempDir;

use super::*;

const DATA: u16 = 0x3f8;
const IER: u16 = 0x3f9;
const IIR: u16 = 0x3fa;
const MCR: u16 = 0x3fc;
const LSR: u16 = 0x3fd;

/// A machine with one COM1, an I/O thread that runs when told, and a guest made of port accesses.
struct Machine {
    wiring: FakeWiring,
    buses: bus::Buses,
    events: EventManager<Subscriber>,
    handle: SerialHandle,
}

impl Machine {
    fn new(serial: Serial) -> Self {
        let mut wiring = FakeWiring::new().unwrap();
        let handle = wiring.attach(serial).unwrap();
        let buses = wiring.freeze().unwrap();
        let mut events = EventManager::new().unwrap();
        for subscriber in wiring.subscribers.drain(..) {
            events.add_subscriber(subscriber);
        }
        Self { wiring, buses, events, handle }
    }

    fn with(backend: Backend) -> Self {
        Self::new(Serial::new(Com::Com1, backend))
    }

    fn inb(&self, port: u16) -> u8 {
        let mut data = [0];
        self.buses.pio.read(port, &mut data);
        data[0]
    }

    fn outb(&self, port: u16, value: u8) {
        self.buses.pio.write(port, &[value]);
    }

    fn say(&self, text: &[u8]) {
        text.iter().for_each(|byte| self.outb(DATA, *byte));
    }

    /// Lets the I/O thread work until nothing is left to do; returns how often it woke.
    fn settle(&mut self) -> usize {
        let wakes = (0..1000).take_while(|_| self.events.run_with_timeout(0).unwrap() > 0);
        let wakes = wakes.count();
        assert!(wakes < 1000, "the I/O thread spins");
        wakes
    }

    fn drain(&self, into: &mut Vec<u8>) {
        while self.inb(LSR) & 1 != 0 {
            into.push(self.inb(DATA));
        }
    }

    /// What the guest reads when it waits for `len` bytes.
    fn hear(&mut self, len: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < len {
            let events = self.events.run_with_timeout(10_000).unwrap();
            assert!(events > 0, "nothing came within 10 s after {} bytes", heard.len());
            self.drain(&mut heard);
        }
        heard
    }
}

/// A sink that a test can look into.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().push(b'|');
        Ok(())
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[test]
fn every_byte_is_written_and_flushed_at_once() {
    let out = Shared::default();
    let machine = Machine::new(Serial::com1(out.clone()));
    machine.say(b"hi");
    assert_eq!(out.text(), b"h|i|");
}

#[test]
fn standard_input_is_read_by_a_descriptor_of_its_own() {
    let serial = Serial::com1(io::stdout()).input(io::stdin());
    let source = input::Source::fd(serial.backend.source.as_ref().unwrap());
    assert!(source > 2, "descriptor {source} has the standard library's buffer before it");
    FakeWiring::new().unwrap().attach(serial).unwrap();
    FakeWiring::new().unwrap().attach(Serial::new(Com::Com1, Backend::stdio().unwrap())).unwrap();
}

#[test]
fn each_port_is_where_software_expects_it() {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(Serial::com1(io::sink())).unwrap();
    wiring.attach(Serial::com2(io::sink())).unwrap();
    wiring.attach(Serial::com3(io::sink())).unwrap();
    wiring.attach(Serial::com4(io::sink())).unwrap();
    let ports = |node: &Node| match node {
        Node::Uart { port, gsi } => (*port, *gsi),
        other => panic!("{other:?} is not a serial port"),
    };
    let announced: Vec<_> = wiring.nodes.iter().map(ports).collect();
    assert_eq!(announced, [(0x3f8, 4), (0x2f8, 3), (0x3e8, 16), (0x2e8, 17)]);
    let ranges: Vec<_> = wiring.freeze().unwrap().pio.ranges().map(|at| at.first()).collect();
    assert_eq!(ranges, [0x2e8, 0x2f8, 0x3e8, 0x3f8]);
}

#[test]
fn transmitting_raises_the_interrupt_that_says_there_is_room() {
    let machine = Machine::new(Serial::com1(io::sink()));
    machine.outb(IER, 2);
    assert_eq!(machine.wiring.raised(4), Some(1));
    assert_eq!(machine.inb(IIR) & 0xf, 2);
    machine.outb(DATA, b'x');
    assert_eq!(machine.wiring.raised(4), Some(2));
    assert_eq!(machine.inb(IIR) & 0xf, 2);
    assert_eq!(machine.inb(IIR) & 0xf, 1);
}

#[test]
fn received_bytes_raise_the_interrupt() {
    let (mut host, source) = UnixStream::pair().unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(source));
    machine.outb(IER, 1);
    host.write_all(b"ok").unwrap();
    machine.settle();
    assert_eq!(machine.wiring.raised(4), Some(1));
    assert_eq!(machine.inb(IIR) & 0xf, 4);
    assert_eq!((machine.inb(DATA), machine.inb(DATA)), (b'o', b'k'));
    assert_eq!(machine.inb(LSR) & 1, 0);
}

#[test]
fn loopback_returns_what_is_sent_and_holds_input_back() {
    let (mut host, source) = UnixStream::pair().unwrap();
    let out = Shared::default();
    let mut machine = Machine::new(Serial::com1(out.clone()).input(source));
    machine.outb(MCR, 0x10);
    host.write_all(b"typed").unwrap();
    machine.settle();
    machine.outb(DATA, b'L');
    assert_eq!(machine.inb(DATA), b'L');
    machine.outb(MCR, 0);
    assert_eq!(machine.hear(5), b"typed");
    assert!(out.text().is_empty());
}

#[test]
fn a_megabyte_pasted_into_the_console_arrives_whole() {
    let (mut host, source) = UnixStream::pair().unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(source));
    let text = pattern(1 << 20);
    let sent = text.clone();
    let paste = thread::spawn(move || host.write_all(&sent));
    let heard = machine.hear(text.len());
    paste.join().unwrap().unwrap();
    assert!(heard == text, "the bytes differ");
}

#[test]
fn a_full_fifo_stops_the_watch_until_the_guest_has_drained_it() {
    let (mut host, source) = UnixStream::pair().unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(source));
    host.write_all(&pattern(200)).unwrap();
    machine.settle();
    assert_eq!(machine.settle(), 0);
    let mut heard = Vec::new();
    machine.drain(&mut heard);
    assert_eq!(heard.len(), 64);
    while heard.len() < 200 {
        assert!(machine.settle() > 0);
        machine.drain(&mut heard);
    }
    assert_eq!(heard, pattern(200));
}

#[test]
fn the_end_of_input_is_quiet_and_what_came_before_it_arrives() {
    let (mut host, source) = UnixStream::pair().unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(source));
    host.write_all(&pattern(100)).unwrap();
    drop(host);
    assert_eq!(machine.hear(100), pattern(100));
    machine.settle();
    assert_eq!(machine.settle(), 0);
}

#[test]
fn a_regular_file_is_an_input_although_epoll_refuses_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("input");
    std::fs::write(&path, pattern(1000)).unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(File::open(&path).unwrap()));
    let mut heard = Vec::new();
    while heard.len() < 1000 {
        machine.drain(&mut heard);
        machine.settle();
    }
    assert_eq!(heard, pattern(1000));
    assert_eq!(machine.settle(), 0);
}

#[test]
fn dev_null_is_an_input_without_a_byte() {
    let null = File::open("/dev/null").unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(null));
    assert_eq!(machine.settle(), 0);
    assert_eq!(machine.inb(LSR) & 1, 0);
}

#[test]
fn a_non_blocking_source_without_data_is_asked_again_later() {
    let (mut host, source) = UnixStream::pair().unwrap();
    source.set_nonblocking(true).unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(source));
    machine.settle();
    host.write_all(b"later").unwrap();
    assert_eq!(machine.hear(5), b"later");
}

/// Blocks every write until it is told to go on.
struct Gate(mpsc::Receiver<()>, mpsc::Sender<()>);

impl Write for Gate {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.1.send(()).unwrap();
        self.0.recv().unwrap();
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_blocks_holds_one_vcpu_and_nothing_else() {
    let (open, gate) = mpsc::channel();
    let (entered, blocked) = mpsc::channel();
    let (mut host, source) = UnixStream::pair().unwrap();
    let mut machine = Machine::new(Serial::com1(Gate(gate, entered)).input(source));
    let buses = Arc::new(std::mem::take(&mut machine.buses));
    let vcpu = Arc::clone(&buses);
    let vcpu = thread::spawn(move || vcpu.pio.write(DATA, b"x"));
    blocked.recv_timeout(Duration::from_secs(10)).unwrap();

    host.write_all(b"i").unwrap();
    machine.settle();
    let mut data = [0];
    buses.pio.read(DATA, &mut data);
    machine.wiring.save_and_restore().unwrap();

    assert_eq!(data, *b"i");
    open.send(()).unwrap();
    vcpu.join().unwrap();
}

#[test]
fn a_sink_that_fails_is_counted_and_the_guest_goes_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let machine = Machine::new(Serial::com1(full));
    machine.say(&[b'x'; 100]);
    assert_eq!(machine.handle.lost(), 100);
    assert_eq!(machine.inb(LSR), 0x60);
}

#[test]
fn a_file_is_truncated_or_continued_as_asked() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("log");
    for (mode, expected) in
        [(FileMode::Truncate, "ab"), (FileMode::Append, "abab"), (FileMode::Truncate, "ab")]
    {
        let machine = Machine::with(Backend::file(&path, mode).unwrap());
        machine.say(b"ab");
        assert_eq!(machine.handle.path(), Some(path.as_path()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
    assert!(Backend::file(dir.as_path(), FileMode::Append).is_err());
}

fn open_pty(machine: &Machine) -> File {
    let path = machine.handle.path().unwrap();
    let flags = OFlag::O_NOCTTY.bits();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

#[test]
fn a_pty_serves_one_client_after_another_without_spinning() {
    let mut machine = Machine::with(Backend::pty().unwrap());
    for round in 0..3 {
        machine.say(b"nobody hears this");
        let mut client = open_pty(&machine);
        machine.say(b"login: ");
        let mut prompt = [0; 7];
        client.read_exact(&mut prompt).unwrap();
        assert_eq!(&prompt, b"login: ", "round {round}");
        client.write_all(b"root\r").unwrap();
        assert_eq!(machine.hear(5), b"root\r", "neither edited nor echoed");
        drop(client);
        machine.settle();
        assert_eq!(machine.settle(), 0);
    }
    assert_eq!(machine.handle.lost(), 0);
}

#[test]
fn a_megabyte_pasted_into_a_pty_arrives_whole() {
    let mut machine = Machine::with(Backend::pty().unwrap());
    let mut client = open_pty(&machine);
    let text = pattern(1 << 20);
    let sent = text.clone();
    let paste = thread::spawn(move || client.write_all(&sent).map(|()| client));
    let heard = machine.hear(text.len());
    let _client = paste.join().unwrap().unwrap();
    assert!(heard == text, "the bytes differ");
}

#[test]
fn a_flood_into_a_pty_or_socket_that_nobody_reads_does_not_hang_the_guest() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("com1");
    let mut socket = Machine::with(Backend::unix_socket(&path).unwrap());
    let _client = UnixStream::connect(&path).unwrap();
    socket.settle();
    let pty = Machine::with(Backend::pty().unwrap());
    let _other = open_pty(&pty);
    for machine in [socket, pty] {
        machine.say(&vec![b'x'; 300_000]);
        assert!(machine.handle.lost() > 0);
    }
}

#[test]
fn a_socket_serves_one_client_after_another() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("com1");
    let mut machine = Machine::with(Backend::unix_socket(&path).unwrap());
    for round in 0..3 {
        machine.say(b"nobody hears this");
        let mut client = UnixStream::connect(&path).unwrap();
        machine.settle();
        machine.say(b"login: ");
        let mut prompt = [0; 7];
        client.read_exact(&mut prompt).unwrap();
        assert_eq!(&prompt, b"login: ", "round {round}");
        client.write_all(&pattern(200)).unwrap();
        drop(client);
        assert_eq!(machine.hear(200), pattern(200));
        machine.settle();
        assert_eq!(machine.settle(), 0);
    }
    assert_eq!(machine.handle.lost(), 0);
    drop(machine);
    assert!(!path.exists(), "the socket stays behind");
}

#[test]
fn the_second_client_waits_for_the_first_to_leave() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("com1");
    let mut machine = Machine::with(Backend::unix_socket(&path).unwrap());
    let first = UnixStream::connect(&path).unwrap();
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(b"2").unwrap();
    machine.settle();
    assert_eq!(machine.inb(LSR) & 1, 0);
    drop(first);
    assert_eq!(machine.hear(1), b"2");
}

#[test]
fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let dir = TempDir::new().unwrap();
    let file = dir.as_path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = Backend::unix_socket(&file).unwrap_err();
    assert!(error.to_string().contains("is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let path = dir.as_path().join("com1");
    let live = UnixListener::bind(&path).unwrap();
    let error = Backend::unix_socket(&path).unwrap_err();
    assert!(error.to_string().contains("another process listens"), "{error}");

    drop(live);
    assert!(Backend::unix_socket(&path).is_ok());
}

#[test]
fn only_single_bytes_are_answered() {
    let out = Shared::default();
    let machine = Machine::new(Serial::com1(out.clone()));
    machine.buses.pio.write(DATA, b"ab");
    let mut data = [0; 2];
    machine.buses.pio.read(DATA, &mut data);
    assert_eq!(data, [0xff; 2]);
    assert!(out.text().is_empty());
}

#[test]
fn restoring_keeps_the_fifo_and_raises_the_line_again() {
    let (mut host, source) = UnixStream::pair().unwrap();
    let mut machine = Machine::new(Serial::com1(io::sink()).input(source));
    machine.outb(IER, 1);
    host.write_all(&pattern(100)).unwrap();
    machine.settle();
    machine.wiring.save_and_restore().unwrap();
    assert_eq!(machine.wiring.raised(4), Some(2));
    let mut heard = Vec::new();
    while heard.len() < 100 {
        machine.drain(&mut heard);
        machine.settle();
    }
    assert_eq!(heard, pattern(100));
}

#[test]
fn impossible_states_are_refused() {
    let drained = EventFd::new(EFD_NONBLOCK).unwrap();
    let mut uart = Uart::new(device::IrqLine::null(), drained);
    let good = device::Component::save_section(&mut uart).unwrap();
    for (field, value) in [
        ("received", serde_json::json!(vec![0; 65])),
        ("received", serde_json::json!([1])),
        ("line_status", serde_json::json!(0x61)),
        ("interrupt_enable", serde_json::json!(0x10)),
        ("interrupt_identification", serde_json::json!(0)),
        ("scratch", serde_json::json!(256)),
    ] {
        let mut bad = good.clone();
        bad.state[field] = value;
        assert!(device::Component::restore_section(&mut uart, bad).is_err(), "{field}");
    }
    device::Component::restore_section(&mut uart, good).unwrap();
}

#[test]
fn a_clone_of_a_backend_goes_on_where_the_first_one_stopped() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("log");
    let backend = Backend::file(&path, FileMode::Truncate).unwrap();
    let first = Machine::with(backend.clone());
    first.say(b"a");
    drop(first);
    Machine::with(backend).say(b"b");
    assert_eq!(std::fs::read(&path).unwrap(), b"ab");
}
