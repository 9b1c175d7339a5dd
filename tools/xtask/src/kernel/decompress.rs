//! Decompression by the usual command-line tools.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use crate::apt::Package;
use crate::error::{Context, Error, Result};

/// The tools that [`decompress`] calls.
pub(super) const TOOLS: &[Package] = &[
    Package { names: &["xz-utils"], provides: &["xz"] },
    Package { names: &["zstd"], provides: &["zstd"] },
    Package { names: &["lz4"], provides: &["lz4"] },
];

/// A compression that kernels and modules are shipped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

impl Format {
    /// Tells the format by the magic number that data starts with.
    pub(super) fn detect(data: &[u8]) -> Option<Self> {
        let magics: [(&[u8], Self); 4] = [
            (&[0x1f, 0x8b, 0x08], Self::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            // The "legacy" frames that kernels are built with.
            (&[0x02, 0x21, 0x4c, 0x18], Self::Lz4),
        ];
        magics.iter().find(|(magic, _)| data.starts_with(magic)).map(|&(_, format)| format)
    }

    fn tool(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }
}

/// The content of `data`, which is exactly one compressed stream.
pub(super) fn decompress(format: Format, data: &[u8]) -> Result<Vec<u8>> {
    let tool = format.tool();
    let mut child = Command::new(tool)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("cannot run {tool}"))?;
    let input = child.stdin.take();
    let output = thread::scope(|scope| {
        // A write error means that the tool gave up; it says why itself.
        scope.spawn(move || input.map(|mut input| input.write_all(data)));
        child.wait_with_output()
    })
    .context(|| format!("cannot read from {tool}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{tool} cannot decompress: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_magic() {
        assert_eq!(Format::detect(b"\xfd7zXZ\0..."), Some(Format::Xz));
        assert_eq!(Format::detect(b"\x7fELF"), None);
    }

    #[test]
    fn a_broken_stream_is_an_error_that_names_the_tool() {
        let error = decompress(Format::Gzip, b"\x1f\x8b\x08 no").unwrap_err();

        assert!(error.to_string().starts_with("gzip cannot decompress"), "{error}");
    }
}
