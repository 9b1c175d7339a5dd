//! What a request says, in our memory.

use std::ffi::CStr;

use rustix::io::Errno;

/// The longest name that there is, bytes.
const NAME: usize = 255;

/// Reads a request from its start on. What does not fit is `EINVAL`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*first))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*first))
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Errno> {
        let (first, rest) = self.0.split_at_checked(len).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(first)
    }

    /// Text up to the next NUL.
    pub(crate) fn text(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.bytes(text.to_bytes_with_nul().len())?;
        Ok(text)
    }

    /// The name of something in a directory: one step down, never up, sideways or nowhere.
    pub(crate) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.text()?;
        match name.to_bytes() {
            b"" | b"." | b".." => Err(Errno::INVAL),
            bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
            bytes if bytes.len() > NAME => Err(Errno::NAMETOOLONG),
            _ => Ok(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian_and_end_with_the_request() {
        let mut body = Body::new(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 9]);
        assert_eq!(body.u32(), Ok(1));
        assert_eq!(body.u64(), Ok(1 << 56 | 2));
        assert_eq!(body.u32(), Err(Errno::INVAL));
        assert_eq!(body.bytes(2), Err(Errno::INVAL));
        assert_eq!(body.bytes(1), Ok(&[9][..]));
    }

    #[test]
    fn names_follow_each_other() {
        let mut body = Body::new(b"a\0bc\0d");
        assert_eq!(body.name(), Ok(c"a"));
        assert_eq!(body.name(), Ok(c"bc"));
        assert_eq!(body.name(), Err(Errno::INVAL), "there is no end");
    }

    #[test]
    fn a_name_is_one_step_down() {
        for wrong in ["", ".", "..", "/", "a/b", "/etc", "../x", "a/", "./a"] {
            let text = format!("{wrong}\0");
            assert_eq!(Body::new(text.as_bytes()).name(), Err(Errno::INVAL), "{wrong}");
        }
        for right in ["...", "..a", ".a", "a b", "\n", "ü", &"n".repeat(255)] {
            let text = format!("{right}\0");
            assert!(Body::new(text.as_bytes()).name().is_ok(), "{right}");
        }
        let long = format!("{}\0", "n".repeat(256));
        assert_eq!(Body::new(long.as_bytes()).name(), Err(Errno::NAMETOOLONG));
    }
}
