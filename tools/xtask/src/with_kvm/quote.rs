//! Quoting for the shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// `word` as one word of a POSIX shell, whatever bytes are in it.
pub(super) fn quote(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            // Within single quotes everything is itself, but for the single quote.
            b'\'' => quoted.extend_from_slice(br"'\''"),
            other => quoted.push(other),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_shell_gives_back_what_was_quoted() {
        for word in ["", "plain", "it's", "$HOME `id` \\ \"x\"", "two\nlines", "'", "-n *"] {
            let mut script = b"printf %s ".to_vec();
            script.extend(quote(OsStr::new(word)));
            let script = OsStr::from_bytes(&script);

            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();

            assert_eq!(output.stdout, word.as_bytes());
        }
    }

    #[test]
    fn bytes_that_are_not_text_pass() {
        assert_eq!(quote(OsStr::from_bytes(b"\xff\xfe")), b"'\xff\xfe'");
    }
}
