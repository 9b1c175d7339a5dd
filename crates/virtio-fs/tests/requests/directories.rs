//! Lists of names.

use std::fs;

use crate::guest::{
    Directory, Guest, OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, ROOT, names, u32s, u64_at, u64s,
};

fn opendir(guest: &mut Guest, node: u64) -> u64 {
    u64_at(&guest.ask(OPENDIR, node, &[u32s([0, 0])]).unwrap(), 0)
}

/// All names, asked for `size` bytes at a time.
fn list(guest: &mut Guest, node: u64, size: u32, plus: bool) -> Vec<(String, u64)> {
    let handle = opendir(guest, node);
    let opcode = if plus { READDIRPLUS } else { READDIR };
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let body = [u64s([handle, offset]), u32s([size, 0]), u64s([0, 0])];
        let answer = guest.ask(opcode, node, &body).unwrap();
        assert!(answer.len() <= usize::try_from(size).unwrap());
        let names = names(&answer, plus);
        let Some(last) = names.last() else { break };
        offset = last.1;
        found.extend(names.into_iter().map(|(name, _, node)| (name, node)));
    }
    guest.ask(RELEASEDIR, node, &[u64s([handle, 0, 0])]).unwrap();
    found.sort();
    found
}

fn many(directory: &Directory, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|index| format!("file-{index:04}")).collect();
    for name in &names {
        directory.write(name, name);
    }
    names.extend([".".into(), "..".into()]);
    names.sort();
    names
}

#[test]
fn every_name_comes_once_whatever_the_room() {
    let directory = Directory::new();
    let expected = many(&directory, 700);
    let mut guest = directory.guest();
    for (size, plus) in [(64, false), (4096, false), (1 << 20, false), (512, true), (9000, true)] {
        let found = list(&mut guest, ROOT, size, plus);
        let found: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, expected, "{size} {plus}");
    }
}

#[test]
fn what_is_told_with_its_attributes_is_known() {
    let directory = Directory::new();
    many(&directory, 20);
    let mut guest = directory.guest();
    let found = list(&mut guest, ROOT, 4096, true);
    for (name, node) in found {
        if name.starts_with('.') {
            assert_eq!(node, 0, "{name}");
            continue;
        }
        assert_eq!(guest.lookup(ROOT, &name), Ok(node));
        let handle = guest.open(node, 0).unwrap();
        assert_eq!(guest.read(handle, 0, 100).unwrap(), name.as_bytes());
        guest.forget(node, 2);
        assert_eq!(guest.stat(node), Err(116), "it was told exactly twice");
    }
}

#[test]
fn a_directory_that_is_removed_meanwhile_ends() {
    let directory = Directory::new();
    fs::create_dir(directory.path("dir")).unwrap();
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "dir").unwrap();
    let handle = opendir(&mut guest, node);
    fs::remove_dir(directory.path("dir")).unwrap();
    let body = [u64s([handle, 0]), u32s([4096, 0]), u64s([0, 0])];
    for opcode in [READDIR, READDIRPLUS] {
        let answer = guest.ask(opcode, node, &body);
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_empty()));
    }
}

#[test]
fn where_the_directory_lies_is_not_told() {
    let directory = Directory::new();
    let mut guest = directory.guest();
    let other = {
        directory.write("file", "");
        guest.lookup(ROOT, "file").unwrap()
    };
    let handle = opendir(&mut guest, ROOT);
    let body = [u64s([handle, 0]), u32s([4096, 0]), u64s([0, 0])];
    let outer = fs::metadata(directory.outside("")).unwrap();
    let outer = std::os::unix::fs::MetadataExt::ino(&outer);
    // The handle says which directory it is, whatever the request says.
    for node in [ROOT, other, 77] {
        let answer = guest.ask(READDIR, node, &body).unwrap();
        let mut at = 0;
        while at < answer.len() {
            assert_ne!(u64_at(&answer, at), outer, "{node}");
            at += 32;
        }
        assert_eq!(at, 96, "three short names");
    }
}

#[test]
fn only_directories_are_listed() {
    let directory = Directory::new();
    directory.write("file", "");
    let mut guest = directory.guest();
    let node = guest.lookup(ROOT, "file").unwrap();
    assert_eq!(guest.ask(OPENDIR, node, &[u32s([0, 0])]), Err(20));
    let handle = guest.open(node, 0).unwrap();
    let body = [u64s([handle, 0]), u32s([4096, 0]), u64s([0, 0])];
    assert_eq!(guest.ask(READDIR, node, &body), Err(20));
}
