//! The device: requests out of chains, answers into them.

use std::{
    ffi::CString,
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use device::{Persist, RestoreError, SaveError, Versioned};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};
use virtio::{Chain, Device, Reader, Served, Writer};

use crate::{
    FsConfig, FsState, Tag,
    server::{self, Server},
    wire::{Body, Header, IN_HEADER, OUT_HEADER, Reply, opcode},
};

/// Requests but those that forget.
const REQUESTS: u32 = 1;
/// The most bytes of a request besides data to write: the value of an attribute and its name.
const BODY: usize = (64 << 10) + 512;
/// Bytes of a WRITE before its data.
const WRITE: usize = 40;
/// Bytes of an element of BATCH_FORGET.
const FORGET_ONE: usize = 16;
/// The most nodes that one request forgets: as many as any other request has room for.
const MOST_FORGOTTEN: u32 = 4096;

/// The file system device.
pub struct Fs {
    server: Server,
    path: PathBuf,
    tag: Tag,
    config: [u8; Tag::LEN + 4],
    /// The request that is being served.
    body: Vec<u8>,
    reply: Reply,
}

/// A directory that cannot be shared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is not there, or not a directory, or may not be looked at.
    #[error("{} cannot be shared; it must be a directory that may be opened", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// Files are opened by way of `/proc`.
    #[error("/proc/self/fd cannot be opened; sharing a directory needs it")]
    Proc(#[source] io::Error),
}

impl Fs {
    /// A device that shares the directory at `path`.
    ///
    /// # Errors
    /// It cannot be shared.
    pub fn open(path: impl AsRef<Path>, config: FsConfig) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed =
            |error: Errno| OpenError::Directory { path: path.to_owned(), source: error.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(path, flags, Mode::empty()).map_err(failed)?;
        let proc = open("/proc/self/fd", flags, Mode::empty());
        let proc = proc.map_err(|error| OpenError::Proc(error.into()))?;
        let server = Server::new(root, proc, &config).map_err(failed)?;
        let mut space = [0; Tag::LEN + 4];
        let bytes = config.tag.bytes().into_iter().chain(REQUESTS.to_le_bytes());
        space.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        let (tag, path) = (config.tag, path.to_owned());
        Ok(Self { server, path, tag, config: space, body: Vec::new(), reply: Reply::default() })
    }

    /// Adds `file` to the directory under `name`, where only the guest sees it. Lists of names do not
    /// have it, but looking it up finds it, before anything that the directory has under that name.
    /// The guest may write to it, even if the directory is read-only: seal it if it shall not.
    ///
    /// # Errors
    /// `name` is not the name of a file, or the host does not say what `file` is.
    pub fn with_file(mut self, name: &str, file: File) -> io::Result<Self> {
        let name = CString::new(name)?;
        Body::new(name.to_bytes_with_nul()).name()?;
        self.server.add(name, file.into())?;
        Ok(self)
    }

    /// Serves a request: how many bytes of answer there are.
    fn request(&mut self, chain: &mut Chain<'_>) -> io::Result<usize> {
        let mut header = [0; IN_HEADER];
        chain.reader.read_exact(&mut header)?;
        let Some(header) = Header::decode(&header) else { return Ok(0) };
        if self.forgets(&header, &mut chain.reader) {
            return Ok(0);
        }
        let mut data = chain.writer.split_at(OUT_HEADER)?;
        let result = self.answer(&header, &mut chain.reader, &mut data);
        let (error, len) = match result {
            Ok(()) => (0, data.bytes_written()),
            Err(error) => (-error.raw_os_error(), 0),
        };
        let total = OUT_HEADER + len;
        chain.writer.write_all(&u32::try_from(total).unwrap_or(u32::MAX).to_le_bytes())?;
        chain.writer.write_all(&error.to_le_bytes())?;
        chain.writer.write_all(&header.unique.to_le_bytes())?;
        Ok(total)
    }

    /// Whether the request is one that gets no answer.
    fn forgets(&mut self, header: &Header, reader: &mut Reader<'_>) -> bool {
        match header.opcode {
            opcode::FORGET => {
                if let Ok(count) = reader.read_obj::<[u8; 8]>() {
                    self.server.forget(header.node, u64::from_le_bytes(count));
                }
            }
            opcode::BATCH_FORGET => {
                let count = reader.read_obj::<[u8; 8]>().unwrap_or_default();
                let count = Body::new(&count).u32().unwrap_or(0);
                for _ in 0..count.min(MOST_FORGOTTEN) {
                    let Ok(one) = reader.read_obj::<[u8; FORGET_ONE]>() else { break };
                    let mut one = Body::new(&one);
                    let (Ok(node), Ok(count)) = (one.u64(), one.u64()) else { break };
                    self.server.forget(node, count);
                }
            }
            // Requests are served one after the other: what is asked for is over.
            opcode::INTERRUPT => {}
            _ => return false,
        }
        true
    }

    /// Serves a request that gets an answer, which goes to `data`.
    fn answer(
        &mut self,
        header: &Header,
        reader: &mut Reader<'_>,
        data: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        let room = data.available_bytes();
        if room < server::answer_size(header.opcode) {
            return Err(Errno::INVAL);
        }
        self.read_body(header, reader)?;
        let mut body = Body::new(&self.body);
        self.reply.clear();
        match header.opcode {
            opcode::READ => return self.server.read(body, data),
            opcode::WRITE => {
                let len = self.server.write(body, reader)?;
                self.reply.u32(len);
                self.reply.u32(0);
            }
            _ => self.server.serve(header, &mut body, (&mut self.reply, room))?,
        }
        data.write_all(self.reply.as_slice()).map_err(|_| Errno::INVAL)
    }

    /// Copies the request, without its header and without data to write.
    fn read_body(&mut self, header: &Header, reader: &mut Reader<'_>) -> Result<(), Errno> {
        let told = usize::try_from(header.len).unwrap_or(usize::MAX).checked_sub(IN_HEADER);
        let len = told.filter(|len| *len <= reader.available_bytes()).ok_or(Errno::INVAL)?;
        let len = if header.opcode == opcode::WRITE { len.min(WRITE) } else { len };
        if len > BODY {
            return Err(Errno::TOOBIG);
        }
        self.body.resize(len, 0);
        reader.read_exact(&mut self.body).map_err(|_| Errno::INVAL)
    }
}

impl Device for Fs {
    const ID: u32 = 26;

    fn queues(&self) -> &[u16] {
        // What forgets, and everything else: 1 MiB in pages and the headers fit the second.
        &[128, 512]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn reset(&mut self) {
        self.server.reset();
    }

    fn serve(&mut self, _: u16, chain: &mut Chain<'_>) -> Served {
        // What has no header, or no room for one, cannot be answered.
        let len = self.request(chain).unwrap_or(0);
        Served::Used(u32::try_from(len).unwrap_or(u32::MAX))
    }
}

impl Persist for Fs {
    type State = FsState;

    fn save(&mut self) -> Result<FsState, SaveError> {
        Ok(self.server.save(self.tag.to_string()))
    }

    fn restore(&mut self, state: FsState) -> Result<(), RestoreError> {
        let invalid = |why| RestoreError::Invalid { kind: FsState::KIND, why };
        let (tag, read_only) = (&state.tag, state.read_only);
        if *tag != self.tag.to_string() {
            let why = format!("the tag was `{tag}` and is `{}`; it must be the same", self.tag);
            return Err(invalid(why));
        }
        if read_only != self.server.is_read_only() {
            let access = if read_only { "read-only" } else { "writable" };
            return Err(invalid(format!("the directory was {access}; share it the same way")));
        }
        self.server.restore(&state).map_err(invalid)
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("path", &self.path)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
