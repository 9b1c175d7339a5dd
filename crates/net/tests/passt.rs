//! The passt of the host, if there is one, and stand-ins for what it does not do on demand.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking and says what it skips"
)]

mod receive;

use std::{
    env,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use purlin_net::{Link, Passt, PasstConfig, PasstError};
use receive::{LIMIT, receive};

/// A passt that runs; `None` where there is none, or no network for it.
fn passt(test: &str) -> Option<Passt> {
    let started = Passt::start(&PasstConfig::default()).and_then(|mut passt| {
        passt.ready(LIMIT)?;
        Ok(passt)
    });
    match started {
        Ok(passt) => Some(passt),
        Err(error @ (PasstError::Missing | PasstError::Ended { .. })) => {
            let needed = env::var_os("REQUIRE_PEERS").is_some();
            assert!(!needed || !matches!(error, PasstError::Missing), "{test}: {error}");
            eprintln!("SKIPPED {test}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A DHCP DISCOVER from 02:00:00:00:00:01.
fn discover() -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 1];
    let mut bootp = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x80, 0];
    bootp.resize(28, 0);
    bootp.extend(mac);
    bootp.resize(236, 0);
    bootp.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    bootp.resize(300, 0);
    let udp_len = u16::try_from(bootp.len() + 8).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend((udp_len + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    let words = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [0, 68, 0, 67].into_iter().chain(udp_len.to_be_bytes()).chain([0, 0]);
    let ethernet = [&[0xff; 6][..], &mac, &[8, 0]].concat();
    ethernet.into_iter().chain(ip).chain(udp).chain(bootp).collect()
}

#[test]
fn passt_offers_an_address_by_dhcp_and_ends_with_us() {
    let Some(mut passt) = passt("passt_offers_an_address_by_dhcp_and_ends_with_us") else { return };
    passt.send(&discover()).unwrap();
    let is_offer = |packet: &[u8]| {
        packet.len() > 282 && packet[12..14] == [8, 0] && packet[34..38] == [0, 67, 0, 68]
    };
    let offer = receive(&mut passt, is_offer);
    assert_eq!(offer[46..50], [0x12, 0x34, 0x56, 0x78], "another transaction");
    assert_ne!(offer[58..62], [0; 4], "no address");
    let process = PathBuf::from(format!("/proc/{}", passt.id()));
    assert!(process.exists());
    drop(passt);
    assert!(!process.exists());
}

#[test]
fn wrong_options_are_told_in_passt_s_words() {
    let config = PasstConfig { tcp_ports: Some("nonsense".into()), ..PasstConfig::default() };
    let mut passt = match Passt::start(&config) {
        Ok(passt) => passt,
        Err(error) => {
            assert!(env::var_os("REQUIRE_PEERS").is_none(), "{error}");
            return eprintln!("SKIPPED wrong_options_are_told_in_passt_s_words: {error}");
        }
    };
    let error = passt.ready(LIMIT).unwrap_err().to_string();
    assert!(error.contains("does not run") && error.contains("nonsense"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_missing_program_is_told_with_its_package() {
    let error = Passt::start_program("no-such-passt", &PasstConfig::default()).unwrap_err();
    assert!(matches!(error, PasstError::Missing));
    assert!(error.to_string().contains("install the package `passt`"), "{error}");
}

/// A program that does as `script` says.
fn stand_in(name: &str, script: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn start(path: &Path) -> Passt {
    start_with(path, &PasstConfig::default())
}

fn start_with(path: &Path, config: &PasstConfig) -> Passt {
    loop {
        match Passt::start_program(path.to_str().unwrap(), config) {
            // Another test has forked while the file was being written.
            Err(PasstError::Start(error)) if error.kind() == ErrorKind::ExecutableFileBusy => {}
            other => return other.unwrap(),
        }
    }
}

#[test]
fn a_passt_that_says_more_than_anybody_reads_is_not_held_up() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo a long and useless warning of passt >&2 || :; \
                  i=$((i+1)); done; exec cat <&0 >/dev/null";
    let path = stand_in("chatty", &format!("{script} 2>/dev/null"));
    let mut passt = start(&path);
    passt.send(&[0; 60]).unwrap();
    let end = Instant::now() + LIMIT;
    let program = || std::fs::read_link(format!("/proc/{}/exe", passt.id())).unwrap();
    let is_cat =
        |path: &Path| ["cat", "busybox", "coreutils"].iter().any(|name| path.ends_with(name));
    while !is_cat(&program()) {
        assert!(Instant::now() < end, "it is held up in {:?}", program());
        std::thread::yield_now();
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_passt_that_dies_takes_the_link_down() {
    let path = stand_in("mortal", "read -r _; echo out of luck >&2; exit 3");
    let mut passt = start(&path);
    passt.send(b"fourteen byte\n").unwrap();
    let end = Instant::now() + LIMIT;
    while passt.is_up() {
        assert!(Instant::now() < end);
        drop(passt.peek());
    }
    let error = passt.ready(LIMIT).unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("out of luck"), "{error}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn passt_is_told_what_was_asked_for_and_is_out_of_the_terminal_s_reach() {
    let path = stand_in("told", "cat /proc/$$/stat >&2; echo \"|$*|\" >&2; exit 1");
    let config = PasstConfig {
        mtu: Some(9000),
        tcp_ports: Some("2222:22".into()),
        udp_ports: Some("53".into()),
    };
    let mut passt = start_with(&path, &config);
    let error = passt.ready(LIMIT).unwrap_err().to_string();
    let told = error.split('|').nth(1).unwrap();
    // Not the host's loopback by the gateway's address.
    let always = "--foreground --quiet --no-map-gw --fd 0";
    assert_eq!(told, format!("{always} --mtu 9000 --tcp-ports 2222:22 --udp-ports 53"));
    // What follows the name in its brackets: state, parent, group.
    let group = error.split(") ").nth(1).unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, passt.id().to_string(), "{error}");
    std::fs::remove_file(path).unwrap();
}
