//! Devices that another process serves.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
};

use ::net::Mac;
use ::vhost_user::Settings;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Backing, Config, ConfigError, Part, net, scalar};

/// A device that another process serves:
/// `--vhost-user SOCKET,type=blk|fs|net|NUMBER[,queues=N][,queue-size=N][,tag=..][,mac=..]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct VhostUser {
    /// The unix socket at which the back end listens.
    pub socket: PathBuf,
    /// What the device is. It has to be given.
    #[serde(rename = "type")]
    pub kind: Option<Kind>,
    /// How many queues it has: a file system beside the one for urgent requests, a network card pairs
    /// (it has one). Default: 1.
    #[serde(deserialize_with = "scalar::some_count")]
    pub queues: Option<u32>,
    /// How many entries each of them has at most. Default: what is usual for the type.
    #[serde(deserialize_with = "scalar::some_count")]
    pub queue_size: Option<u32>,
    /// What the guest mounts a file system by.
    pub tag: Option<String>,
    /// The address of a network card. Default: a random one.
    #[serde(deserialize_with = "net::mac", serialize_with = "net::show_mac")]
    pub mac: Option<Mac>,
}

impl Part for VhostUser {
    const MAIN: &'static str = "socket";
}

/// What a device is: `blk`, `fs`, `net`, or the number of any other type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(u32);

const NET: u32 = 1;
const BLK: u32 = 2;
const FS: u32 = 26;

/// The types of device that other processes are known to serve, with the bytes of configuration that
/// these have (virtio 1.3 §5): console, random numbers, SCSI, graphics, input, sockets, encryption,
/// sound, SCMI, I2C, CAN, GPIO, SPI.
const OTHERS: [(u32, u16); 13] = [
    (3, 12),
    (4, 0),
    (8, 36),
    (16, 16),
    (18, 136),
    (19, 8),
    (20, 56),
    (25, 12),
    (32, 0),
    (34, 0),
    (36, 2),
    (41, 8),
    (45, 24),
];

impl Kind {
    /// The number of the device type (virtio 1.3 §5).
    pub fn id(self) -> u32 {
        self.0
    }

    fn other(self) -> Option<u16> {
        OTHERS.iter().find(|(id, _)| *id == self.0).map(|(_, config)| *config)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "blk, fs, net or the number of another type of virtio device";
        let parse = |text: &str| {
            let id = match text {
                "net" => NET,
                "blk" => BLK,
                "fs" => FS,
                number => number.parse().unwrap_or(0),
            };
            let kind = Self(id);
            if [NET, BLK, FS].contains(&id) || kind.other().is_some() {
                return Ok(kind);
            }
            let others: Vec<_> = OTHERS.iter().map(|(id, _)| id.to_string()).collect();
            let others = others.join(", ");
            Err(format!("{text:?} is no type of device; one is blk, fs, net, {others}"))
        };
        scalar::text(deserializer, FORM, parse)
    }
}

impl VhostUser {
    /// What the device is, and what it is to be like.
    ///
    /// # Errors
    /// No device can be like that.
    pub(crate) fn settings(&self) -> Result<(u32, Settings), ConfigError> {
        let wrong = |why: String| ConfigError::VhostUser { socket: self.socket.clone(), why };
        if self.socket.as_os_str().is_empty() {
            return Err(wrong("needs a path; say --vhost-user SOCKET,type=...".into()));
        }
        let Some(kind) = self.kind else {
            return Err(wrong("needs a type: type=blk, fs, net or a number".into()));
        };
        let id = kind.id();
        if self.tag.is_some() && id != FS {
            return Err(wrong("has a tag; only type=fs can have one".into()));
        }
        if self.mac.is_some() && id != NET {
            return Err(wrong("has a MAC address; only type=net can have one".into()));
        }
        let refused = |error: ::vhost_user::SettingsError| wrong(format!("cannot be: {error}"));
        let mut settings = match (id, &self.tag) {
            (NET, _) => Settings::net(self.address().bytes()),
            (BLK, _) => Settings::block(),
            (FS, Some(tag)) => Settings::fs(tag).map_err(refused)?,
            (FS, None) => return Err(wrong("needs a tag to be mounted by; say tag=NAME".into())),
            _ => Settings::other(1, kind.other().unwrap_or(0)).map_err(refused)?,
        };
        let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        if let Some(queues) = self.queues {
            settings = settings.queues(number(queues)).map_err(refused)?;
        }
        if let Some(size) = self.queue_size {
            settings = settings.queue_size(number(size)).map_err(refused)?;
        }
        Ok((id, settings))
    }

    /// Gives a network card an address at random if it has none, so that it is the same after a reboot.
    pub(super) fn settle(&mut self) {
        if self.kind == Some(Kind(NET)) {
            self.mac = Some(self.address());
        }
    }

    fn address(&self) -> Mac {
        self.mac.unwrap_or_else(|| {
            let [bytes @ .., _, _] = RandomState::new().build_hasher().finish().to_le_bytes();
            Mac::local(bytes)
        })
    }
}

impl Config {
    /// Where the bytes of guest RAM are, decided: other processes can be given them if they serve
    /// devices.
    pub(crate) fn backing(&self) -> Backing {
        match &self.memory.backing {
            Backing::Auto if self.vhost_user.is_empty() => Backing::Private,
            Backing::Auto => Backing::Shared,
            given => given.clone(),
        }
    }

    pub(super) fn check_vhost_user(&self) -> Result<(), ConfigError> {
        for device in &self.vhost_user {
            device.settings()?;
            if self.memory.backing == Backing::Private {
                let why = "needs guest RAM that its back end can map; say backing=shared in --memory, \
                           or leave it out";
                let socket = device.socket.clone();
                return Err(ConfigError::VhostUser { socket, why: why.into() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Memory;

    fn device(list: &str) -> VhostUser {
        VhostUser::default().with(list).unwrap()
    }

    fn refusal(list: &str) -> String {
        let checked = VhostUser::default().with(list).and_then(|device| device.settings());
        checked.unwrap_err().to_string()
    }

    #[test]
    fn every_key_is_read() {
        let list = "a,type=net,queues=1,queue-size=512,mac=02:00:00:00:00:01";
        let expected = VhostUser {
            socket: "a".into(),
            kind: Some(Kind(1)),
            queues: Some(1),
            queue_size: Some(512),
            tag: None,
            mac: Some(Mac::new([2, 0, 0, 0, 0, 1]).unwrap()),
        };
        assert_eq!(device(list), expected);
        assert_eq!(device(list).with("b").unwrap(), VhostUser { socket: "b".into(), ..expected });
        assert_eq!(device("a,type=fs,tag=home").tag.as_deref(), Some("home"));
        for (list, id) in [("a,type=blk", 2), ("a,type=26,tag=t", 26), ("a,type=18,queues=2", 18)] {
            assert_eq!(device(list).settings().unwrap().0, id);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (list, told) in [
            ("a", "needs a type: type=blk, fs, net or a number"),
            ("type=blk", "needs a path"),
            ("a,type=disk", "\"disk\" is no type of device; one is blk, fs, net, 3, 4"),
            ("a,type=0", "\"0\" is no type of device"),
            ("a,type=fs", "needs a tag to be mounted by; say tag=NAME"),
            ("a,type=fs,tag=a-tag-that-is-longer-than-36-letters-is", "a tag has 1 to 36"),
            ("a,type=blk,tag=x", "only type=fs can have one"),
            ("a,type=blk,mac=02:00:00:00:00:01", "only type=net can have one"),
            ("a,type=net,mac=01:00:00:00:00:01", "cannot be the address of a card"),
            ("a,type=net,queues=2", "2 queues"),
            ("a,type=blk,queues=0", "0 queues; a vhost-user device has 1 to 64"),
            ("a,type=blk,queues=65537", "65535 queues"),
            ("a,type=blk,queue-size=100", "sizes are powers of two from 2 to 1024"),
            ("a,type=blk,queue-size=2048", "sizes are powers of two from 2 to 1024"),
        ] {
            let error = refusal(list);
            assert!(error.contains(told), "{list}: {error}");
        }
    }

    #[test]
    fn ram_is_shared_as_soon_as_somebody_needs_it() {
        let mut config = Config { kernel: "vmlinuz".into(), ..Config::default() };
        assert_eq!(config.backing(), Backing::Private);
        config.vhost_user = vec![device("a,type=blk")];
        assert_eq!(config.backing(), Backing::Shared);
        config.check().unwrap();
        config.memory = Memory::default().with("64M,backing=file:ram").unwrap();
        assert_eq!(config.backing(), Backing::File("ram".into()));
        config.check().unwrap();
    }

    #[test]
    fn ram_that_is_private_on_purpose_is_refused() {
        let vhost_user = vec![device("/run/a,type=blk")];
        let memory = Memory::default().with("64M,backing=private").unwrap();
        let config = Config { kernel: "vmlinuz".into(), vhost_user, memory, ..Config::default() };
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("/run/a") && error.contains("say backing=shared"), "{error}");
    }

    #[test]
    fn a_network_card_keeps_the_address_that_it_got() {
        let mut card = device("a,type=net");
        card.settle();
        let address = card.mac.unwrap();
        card.settle();
        assert_eq!(card.mac, Some(address));
    }
}
