//! The kernel's command line: the user's text and what the devices announce.

use arch::Node;
use memory::GuestMemory;

use crate::{BootError, Tables, place, ram};

/// Why a kernel cannot have that command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmdlineError {
    /// A character that no kernel expects.
    #[error(
        "the command line has {character:?} at byte {position}; \
         expected printable ASCII characters only"
    )]
    Character {
        /// The first such character.
        character: char,
        /// Its offset in bytes.
        position: usize,
    },
    /// Longer than the kernel reads.
    #[error(
        "the command line has {length} bytes ({user} from the user, the rest for devices); \
         the kernel takes at most {most}"
    )]
    TooLong {
        /// Length in bytes, without the NUL.
        length: u64,
        /// How many of them are the user's.
        user: u64,
        /// The most that the kernel takes, without the NUL.
        most: u64,
    },
}

/// A checked command line.
#[derive(Debug)]
pub(crate) struct Cmdline {
    text: String,
    user: usize,
}

impl Cmdline {
    /// `user`, with what `nodes` need to be found by a kernel that has no ACPI.
    pub(crate) fn new(user: &str, nodes: &[Node], tables: Tables) -> Result<Self, CmdlineError> {
        let bad = |&(_, c): &(usize, char)| !(c == ' ' || c == '\t' || c.is_ascii_graphic());
        if let Some((position, character)) = user.char_indices().find(bad) {
            return Err(CmdlineError::Character { character, position });
        }
        let announced = if tables.acpi() { Vec::new() } else { announcements(nodes) };
        // With ACPI the devices are in the DSDT; named twice, each would be probed twice.
        let text = if announced.is_empty() { user.to_owned() } else { join(user, announced) };
        Ok(Self { text, user: user.len() })
    }

    /// Writes the text and its NUL, and says where.
    pub(crate) fn write(&self, memory: &GuestMemory, most: u64) -> Result<u64, BootError> {
        let most = most.min(place::CMDLINE_ROOM - 1);
        let bytes = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let length = bytes(self.text.len());
        if length > most {
            Err(CmdlineError::TooLong { length, user: bytes(self.user), most })?;
        }
        let mut terminated = self.text.clone().into_bytes();
        terminated.push(0);
        ram::put(memory, "the command line", place::CMDLINE, &terminated)?;
        Ok(place::CMDLINE)
    }
}

/// `announced` at the end of the kernel's part of `user`: what follows `--` is for init.
fn join(user: &str, announced: Vec<String>) -> String {
    let mut end = 0;
    let words = user.split_inclusive([' ', '\t']);
    for word in words.take_while(|word| word.trim() != "--") {
        end += word.len();
    }
    let (kernel, init) = user.split_at_checked(end).unwrap_or((user, ""));
    let mut words = announced;
    if !kernel.trim().is_empty() {
        words.insert(0, kernel.trim_end().to_owned());
    }
    if !init.is_empty() {
        words.push(init.to_owned());
    }
    words.join(" ")
}

/// `virtio_mmio.device=SIZE@BASE:IRQ` for every device on that transport.
fn announcements(nodes: &[Node]) -> Vec<String> {
    let announce = |node: &Node| match node {
        Node::VirtioMmio { base, len, gsi } => {
            Some(format!("virtio_mmio.device={len}@{base:#x}:{gsi}"))
        }
        _ => None,
    };
    nodes.iter().filter_map(announce).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Node = Node::VirtioMmio { base: 0xc000_0000, len: 4096, gsi: 16 };

    fn text(user: &str, tables: Tables) -> String {
        Cmdline::new(user, &[DISK], tables).unwrap().text
    }

    #[test]
    fn devices_are_announced_only_without_acpi() {
        assert_eq!(text("quiet", Tables::Both), "quiet");
        assert_eq!(text("quiet", Tables::Acpi), "quiet");
        let announced = "quiet virtio_mmio.device=4096@0xc0000000:16";
        assert_eq!(text("quiet", Tables::MpTable), announced);
    }

    #[test]
    fn devices_are_announced_before_the_arguments_of_init() {
        let announced = "a virtio_mmio.device=4096@0xc0000000:16 -- b";
        assert_eq!(text("a -- b", Tables::MpTable), announced);
        let alone = "virtio_mmio.device=4096@0xc0000000:16 -- b";
        assert_eq!(text("-- b", Tables::MpTable), alone);
    }

    #[test]
    fn characters_that_no_kernel_expects_are_refused_by_position() {
        for (user, character, position) in [("a\0", '\0', 1), ("ab\nc", '\n', 2), ("é", 'é', 0)] {
            let error = Cmdline::new(user, &[], Tables::Both).unwrap_err();
            assert_eq!(error, CmdlineError::Character { character, position });
        }
    }
}
