//! Structures of the kernel's ABI as saved bytes, and back.

use std::{collections::BTreeMap, io};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::os;
use crate::{Blob, StateError};

pub(super) type Classes = BTreeMap<String, Blob>;

/// Puts what the host gave under its name.
pub(super) fn put<T: IntoBytes + Immutable>(
    classes: &mut Classes,
    name: &'static str,
    read: Result<T, kvm_ioctls::Error>,
) -> Result<(), StateError> {
    let value = read.map_err(|error| unreadable(name, os(error)))?;
    classes.insert(name.into(), Blob(value.as_bytes().to_vec()));
    Ok(())
}

/// Takes the structure of that name. Any bytes of the right number make one: its fields are integers,
/// which KVM checks itself.
pub(super) fn get<T: FromBytes>(classes: &Classes, name: &'static str) -> Result<T, StateError> {
    let bytes = bytes(classes, name);
    T::read_from_bytes(bytes).map_err(|_| StateError::Size {
        what: name,
        found: bytes.len(),
        expected: size_of::<T>(),
    })
}

/// The bytes of that name; none if there is no such name.
pub(super) fn bytes<'a>(classes: &'a Classes, name: &str) -> &'a [u8] {
    classes.get(name).map(|blob| blob.0.as_slice()).unwrap_or_default()
}

pub(super) fn unreadable(what: &str, source: io::Error) -> StateError {
    StateError::Host { verb: "read", what: what.into(), source }
}

pub(super) fn unwritable(what: &str, source: io::Error) -> StateError {
    StateError::Host { verb: "write", what: what.into(), source }
}

/// The host refused to write `what`.
pub(super) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> StateError {
    move |error| unwritable(what, os(error))
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_mp_state;

    use super::*;

    #[test]
    fn a_structure_comes_back_as_it_was() {
        let mut classes = Classes::new();
        put(&mut classes, "MP_STATE", Ok(kvm_mp_state { mp_state: 3 })).unwrap();
        assert_eq!(get::<kvm_mp_state>(&classes, "MP_STATE").unwrap().mp_state, 3);
    }

    #[test]
    fn the_wrong_number_of_bytes_is_refused_with_the_right_one() {
        let classes = Classes::from([("MP_STATE".into(), Blob(vec![0; 5]))]);
        let error = get::<kvm_mp_state>(&classes, "MP_STATE").unwrap_err();
        assert_eq!(error.to_string(), "saved MP_STATE has 5 bytes; 4 are right");
    }

    #[test]
    fn a_missing_structure_has_no_bytes() {
        let error = get::<kvm_mp_state>(&Classes::new(), "MP_STATE").unwrap_err();
        assert_eq!(error.to_string(), "saved MP_STATE has 0 bytes; 4 are right");
    }
}
