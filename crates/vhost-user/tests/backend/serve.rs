//! One connection of a back end: the protocol.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::atomic::Ordering::SeqCst,
    thread,
    time::Duration,
};

use device::EventFd;
use memory::{Backing, GuestAddress, Ram};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{setsockopt, sockopt::Linger},
    },
};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    sock_ctrl_msg::ScmSocket,
};

use super::{Lie, Options, disk::Ring};

pub const INDIRECT: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
pub const PROTOCOL: u64 = 1 << 30;
pub const VERSION_1: u64 = 1 << 32;
pub const MQ: u64 = 1 << 0;
pub const REPLY_ACK: u64 = 1 << 3;
pub const BACKEND_REQ: u64 = 1 << 5;
pub const CONFIG: u64 = 1 << 9;
pub const INFLIGHT: u64 = 1 << 12;
pub const RESET: u64 = 1 << 13;

const SOCKET: u64 = 1000;
const END: u64 = 1001;

struct Message {
    code: u32,
    flags: u32,
    body: Vec<u8>,
    file: Option<File>,
}

impl Message {
    fn word(&self, index: usize) -> u32 {
        u32::from_ne_bytes(self.body[4 * index..][..4].try_into().unwrap())
    }

    fn number(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.body[offset..][..8].try_into().unwrap())
    }
}

pub(super) struct Connection {
    stream: UnixStream,
    options: Options,
    epoll: Epoll,
    ram: Option<Ram>,
    rings: HashMap<u64, Ring>,
    inflight: Option<File>,
    /// For requests of its own.
    channel: Option<File>,
    features: u64,
    protocol: u64,
    wce: u8,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, options: Options) -> Self {
        let epoll = Epoll::new().unwrap();
        let new = Self {
            options,
            epoll,
            ram: None,
            rings: HashMap::new(),
            inflight: None,
            channel: None,
            features: 0,
            protocol: 0,
            wce: 1,
            stream,
        };
        new.watch(new.stream.as_raw_fd(), SOCKET);
        new
    }

    fn watch(&self, fd: i32, what: u64) {
        let event = EpollEvent::new(EventSet::IN, what);
        self.epoll.ctl(ControlOperation::Add, fd, event).unwrap();
    }

    /// Until the front end hangs up, or `end` is signalled.
    pub(super) fn run(mut self, end: &EventFd) {
        self.watch(end.as_raw_fd(), END);
        loop {
            let mut events = [EpollEvent::default(); 1];
            if self.epoll.wait(-1, &mut events).unwrap_or(0) == 0 {
                continue;
            }
            match events[0].data() {
                END => return,
                SOCKET => {
                    let Some(message) = self.receive() else { return };
                    thread::sleep(Duration::from_millis(self.options.slow.load(SeqCst)));
                    // SET_FEATURES, SET_MEM_TABLE, SET_VRING_* and GET_VRING_BASE.
                    if matches!(message.code, 2 | 5 | 8..=13 | 18) {
                        self.options.answered.fetch_add(1, SeqCst);
                    }
                    let lie = self.options.lie.filter(|(code, _)| *code == message.code);
                    match lie {
                        Some((_, lie)) => {
                            if !self.lie(&message, lie, end) {
                                return;
                            }
                        }
                        None => {
                            if let Some((answer, file)) = self.handle(&message) {
                                self.answer(message.code, &answer, file.as_ref());
                            }
                        }
                    }
                }
                queue => self.serve(queue),
            }
        }
    }

    fn receive(&mut self) -> Option<Message> {
        let mut header = [0; 12];
        // A front end that has seen enough leaves answers unread.
        let (count, file) = self.stream.recv_with_fd(&mut header).ok()?;
        if count == 0 {
            return None;
        }
        assert_eq!(count, 12, "the front end sends whole messages");
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; usize::try_from(word(8)).unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        Some(Message { code: word(0), flags: word(4), body, file })
    }

    fn answer(&mut self, code: u32, body: &[u8], file: Option<&File>) {
        let mut message: Vec<u8> = [code, 5, u32::try_from(body.len()).unwrap()]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        message.extend_from_slice(body);
        let fds: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
        // The front end may be gone.
        let _ = self.stream.send_with_fds(&[&message[..]], &fds);
    }

    /// What it answers to a message, if anything.
    fn handle(&mut self, message: &Message) -> Option<(Vec<u8>, Option<File>)> {
        let number = |number: u64| Some((number.to_ne_bytes().to_vec(), None));
        let mut failed = 0_u64;
        match message.code {
            1 => return number(self.options.features),
            15 => return number(self.options.protocol),
            17 => return number(self.options.queues),
            2 => {
                self.features = message.number(0);
                let known = self.features & !self.options.features == 0;
                assert!(known, "the front end accepts {:#x}", self.features);
            }
            16 => self.protocol = message.number(0),
            5 => self.map(message),
            8..=10 | 12 | 13 | 18 => failed = self.set_up(message).is_none().into(),
            11 => {
                let ring = self.rings.remove(&message.word(0).into());
                // It is open elsewhere: closing it does not take it out.
                if let Some(kick) = ring.as_ref().and_then(|ring| ring.kick.as_ref()) {
                    let none = EpollEvent::default();
                    self.epoll.ctl(ControlOperation::Delete, kick.as_raw_fd(), none).unwrap();
                }
                let next = ring.map_or(0, |mut ring| ring.stop(&self.options));
                let body = [message.word(0), next.into()];
                return Some((body.into_iter().flat_map(u32::to_ne_bytes).collect(), None));
            }
            24 => {
                self.options.asked.fetch_add(1, SeqCst);
                if self.options.flickers.load(SeqCst) {
                    self.say_changed();
                }
                let mut body = message.body.clone();
                let config = self.config();
                let len = body.len() - 12;
                body[12..].copy_from_slice(&config[..len]);
                return Some((body, None));
            }
            25 => {
                assert_eq!(
                    (message.word(0), message.word(1)),
                    (32, 1),
                    "only the cache is writable"
                );
                self.wce = message.body[12];
            }
            31 => {
                self.options.regions.fetch_add(1, SeqCst);
                let file: File = memfd_create(c"notes", MFdFlags::MFD_CLOEXEC).unwrap().into();
                file.set_len(64 * 1024).unwrap();
                let mut body = message.body.clone();
                body[..8].copy_from_slice(&(64 * 1024_u64).to_ne_bytes());
                return Some((body, Some(file)));
            }
            32 => self.inflight = Some(message.file.as_ref().unwrap().try_clone().unwrap()),
            34 => assert!(self.rings.is_empty(), "rings run in a reset"),
            3 => {}
            21 => self.channel = Some(message.file.as_ref().unwrap().try_clone().unwrap()),
            code => panic!("the front end sends request {code}"),
        }
        let heard = message.flags & 8 != 0 && self.protocol & REPLY_ACK != 0;
        heard.then(|| (failed.to_ne_bytes().to_vec(), None))
    }

    fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 256];
        config[..8].copy_from_slice(&self.options.capacity.to_le_bytes());
        config[20..24].copy_from_slice(&512_u32.to_le_bytes());
        config[32] = self.wce;
        config
    }

    fn map(&mut self, message: &Message) {
        assert_eq!(message.word(0), 1, "a machine of tests has one region");
        let (addr, len) = (message.number(8), usize::try_from(message.number(16)).unwrap());
        assert_eq!(message.number(32), 0, "it begins where its file does");
        let file = message.file.as_ref().unwrap().try_clone().unwrap();
        let ram = Ram::new(&[(GuestAddress(addr), len)], Backing::Shared(file)).unwrap();
        self.ram = Some(ram);
    }

    fn set_up(&mut self, message: &Message) -> Option<()> {
        let memory = self.ram.as_ref()?.memory();
        let event_file = || message.file.as_ref().map(|file| file.try_clone().unwrap());
        let queue = u64::from(message.word(0));
        let ring = self.rings.entry(queue).or_insert_with(|| Ring::new(memory));
        match message.code {
            8 => ring.size = u16::try_from(message.word(1)).unwrap(),
            9 => ring.places = [8, 24, 16].map(|offset| message.number(offset)),
            10 => ring.next = u16::try_from(message.word(1)).unwrap(),
            13 => {
                let mut call = event_file()?;
                if self.options.blocks.load(SeqCst) {
                    fcntl(&call, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
                    call.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
                }
                ring.call = Some(call);
            }
            18 => return Some(()),
            _ => {
                let kick = event_file()?;
                let fd = kick.as_raw_fd();
                ring.kick = Some(kick);
                let events = self.features & EVENT_IDX != 0;
                ring.start(events, self.inflight.as_ref().map(|file| (file, queue)));
                self.watch(fd, queue);
            }
        }
        Some(())
    }

    fn serve(&mut self, queue: u64) {
        let Some(ring) = self.rings.get_mut(&queue) else { return };
        drop(ring.kick.as_ref().unwrap().read(&mut [0; 8]));
        ring.serve(&self.options);
        if self.options.grows.swap(false, SeqCst) {
            self.options.capacity *= 2;
            self.say_changed();
        }
    }

    fn say_changed(&mut self) {
        let change: Vec<_> = [2_u32, 1, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        if let Some(channel) = &mut self.channel {
            channel.write_all(&change).unwrap();
        }
    }

    /// Does something else than it should: whether the connection goes on.
    fn lie(&mut self, message: &Message, lie: Lie, end: &EventFd) -> bool {
        let (mut body, mut file) = self.handle(message).unwrap_or_default();
        let (mut code, mut flags, mut len) =
            (message.code, 5_u32, u32::try_from(body.len()).unwrap());
        match lie {
            Lie::Silence => {
                let wait = Epoll::new().unwrap();
                let event = EpollEvent::new(EventSet::IN, 0);
                wait.ctl(ControlOperation::Add, end.as_raw_fd(), event).unwrap();
                wait.wait(-1, &mut [EpollEvent::default()]).unwrap();
                return false;
            }
            Lie::Close => return false,
            Lie::HalfHeader => {
                drop(self.stream.write_all(&code.to_ne_bytes()));
                return false;
            }
            Lie::HalfBody => body.truncate(body.len() / 2),
            Lie::Short => len = len.saturating_sub(4),
            Lie::Long => (len, body) = (len + 8, [body, vec![0; 8]].concat()),
            Lie::Giant => len = u32::MAX,
            Lie::WrongCode => code += 1,
            Lie::NoAnswer => flags = 1,
            Lie::WrongVersion => flags = 6,
            Lie::File | Lie::Files | Lie::AllFiles => file = Some(File::open("/dev/null").unwrap()),
            Lie::Lingering => file = Some(lingering()),
            Lie::NoFile => file = None,
            Lie::Ones => body.fill(0xff),
            Lie::Twice => {}
            Lie::Beyond => body[4] += 100,
        }
        let mut bytes: Vec<u8> =
            [code, flags, len].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend_from_slice(&body);
        let mut fds: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
        if lie == Lie::Files {
            fds.extend_from_within(..);
        }
        if lie == Lie::AllFiles {
            fds = fds.repeat(253);
        }
        if lie == Lie::Lingering {
            // Closed here before the front end can have closed it, so that it is the front end that waits.
            let _ = self.stream.send_with_fds(&[&bytes[..4]], &fds);
            drop(file.take());
            fds.clear();
            bytes.drain(..4);
        }
        let times = if lie == Lie::Twice { 2 } else { 1 };
        for _ in 0..times {
            let _ = self.stream.send_with_fds(&[&bytes[..]], &fds);
        }
        lie != Lie::HalfBody
    }
}

/// A connection with data that nobody reads, for which closing it waits.
fn lingering() -> File {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // It lives as long as the test.
    std::mem::forget(listener.accept().unwrap());
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 1 << 16]).is_ok() {}
    setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 30 }).unwrap();
    OwnedFd::from(stream).into()
}
