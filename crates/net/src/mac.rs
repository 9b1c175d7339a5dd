//! Hardware addresses.

use std::{fmt, str::FromStr};

/// The hardware address of one network card: 48 bits, written `52:54:00:12:34:56`.
///
/// ```
/// use purlin_net::Mac;
///
/// let mac: Mac = "02:00:00:00:00:01".parse()?;
/// assert_eq!(mac.bytes(), [2, 0, 0, 0, 0, 1]);
/// assert!("01:00:5e:00:00:01".parse::<Mac>().is_err()); // a group of cards
/// # Ok::<(), purlin_net::MacError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

/// A text or six bytes that cannot be the address of a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacError {
    /// Not six numbers.
    #[error(
        "`{0}` is no hardware address; one is six bytes in hexadecimal, as in 52:54:00:12:34:56"
    )]
    Form(String),
    /// An address of many cards, or of none.
    #[error(
        "{0} cannot be the address of a card: the first byte must be even and not all may be 0, as in \
         52:54:00:12:34:56"
    )]
    Group(String),
}

impl Mac {
    /// The address with these bytes.
    ///
    /// # Errors
    /// It is a multicast address, or all zeroes.
    pub fn new(bytes: [u8; 6]) -> Result<Self, MacError> {
        let mac = Self(bytes);
        let [first, ..] = bytes;
        if first & 1 != 0 || bytes == [0; 6] {
            return Err(MacError::Group(mac.to_string()));
        }
        Ok(mac)
    }

    /// A locally administered address made from `bytes`, which should be random: two of its 48 bits
    /// are fixed.
    pub fn local(bytes: [u8; 6]) -> Self {
        let [first, rest @ ..] = bytes;
        let [b, c, d, e, f] = rest;
        Self([first & !1 | 2, b, c, d, e, f])
    }

    /// The bytes, as they are sent.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let form = || MacError::Form(text.into());
        let mut bytes = [0; 6];
        let mut digits = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = digits.next().filter(|pair| pair.len() == 2 && !pair.starts_with('+'));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(form)?;
        }
        if digits.next().is_some() {
            return Err(form());
        }
        Self::new(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_what_it_is_shown_as() {
        let mac = Mac::new([0x52, 0x54, 0, 0x12, 0x0a, 0xff]).unwrap();
        assert_eq!(mac.to_string(), "52:54:00:12:0a:ff");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("52-54-00-12-0A-FF".parse(), Ok(mac));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form() {
        for text in ["", "52", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:5g"] {
            let error = text.parse::<Mac>().unwrap_err();
            assert_eq!(error, MacError::Form(text.into()));
        }
        assert!("52:54:00:12:34:+5".parse::<Mac>().is_err());
        assert!("52:54:00:12:34:é".parse::<Mac>().is_err());
    }

    #[test]
    fn groups_and_nobody_are_refused() {
        for bytes in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            assert!(matches!(Mac::new(bytes), Err(MacError::Group(_))));
        }
    }

    #[test]
    fn random_bytes_make_a_local_address() {
        assert_eq!(Mac::local([0xff; 6]).bytes(), [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(Mac::local([0; 6]).bytes(), [2, 0, 0, 0, 0, 0]);
        assert!(Mac::new(Mac::local([0xff; 6]).bytes()).is_ok());
    }
}
