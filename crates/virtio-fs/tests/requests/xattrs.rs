//! Extended attributes.

use crate::guest::{
    Directory, EOPNOTSUPP, GETXATTR, Guest, LISTXATTR, REMOVEXATTR, ROOT, SETXATTR, c, u32_at, u32s,
};

const ENODATA: i32 = 61;
const ERANGE: i32 = 34;

fn set(guest: &mut Guest, node: u64, name: &str, value: &[u8]) -> Result<Vec<u8>, i32> {
    let size = u32::try_from(value.len()).unwrap();
    guest.ask(SETXATTR, node, &[u32s([size, 0]), c(name), value.to_vec()])
}

fn get(guest: &mut Guest, node: u64, name: &str, size: u32) -> Result<Vec<u8>, i32> {
    guest.ask(GETXATTR, node, &[u32s([size, 0]), c(name)])
}

#[test]
fn attributes_of_users_are_kept() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    match set(&mut guest, node, "user.name", b"value") {
        // Not every file system has them.
        Err(EOPNOTSUPP) => return,
        answer => assert_eq!(answer.unwrap(), b""),
    }
    assert_eq!(get(&mut guest, node, "user.name", 100).unwrap(), b"value");
    assert_eq!(u32_at(&get(&mut guest, node, "user.name", 0).unwrap(), 0), 5);
    assert_eq!(get(&mut guest, node, "user.name", 4), Err(ERANGE));
    assert_eq!(get(&mut guest, node, "user.none", 4), Err(ENODATA));
    let list = guest.ask(LISTXATTR, node, &[u32s([100, 0])]).unwrap();
    assert_eq!(list, b"user.name\0");
    assert_eq!(guest.ask(LISTXATTR, node, &[u32s([9, 0])]), Err(ERANGE));
    let size = guest.ask(LISTXATTR, node, &[u32s([0, 0])]).unwrap();
    assert!(u32_at(&size, 0) >= 10);
    guest.ask(REMOVEXATTR, node, &[c("user.name")]).unwrap();
    assert_eq!(get(&mut guest, node, "user.name", 4), Err(ENODATA));
}

#[test]
fn attributes_that_mean_something_to_the_host_are_refused() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    for name in ["trusted.a", "security.selinux", "system.posix_acl_access", "usera", ""] {
        assert_eq!(set(&mut guest, node, name, b"1"), Err(EOPNOTSUPP), "{name}");
        assert_eq!(get(&mut guest, node, name, 9), Err(EOPNOTSUPP), "{name}");
        assert_eq!(guest.ask(REMOVEXATTR, node, &[c(name)]), Err(EOPNOTSUPP), "{name}");
    }
}
