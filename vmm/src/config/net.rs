//! Network cards.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    num::NonZeroU64,
    path::PathBuf,
};

use net::Mac;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{ConfigError, Part, scalar};

/// A network card: `--net user`, `--net tap=NAME`, `--net fd=N` or `--net socket=PATH`, and
/// `[,mac=..][,mtu=N][,queues=N]` and limits.
///
/// It is on one network: the first of `tap`, `fd` and `socket` that is given, else user-mode
/// networking. [`check`](Self::check) refuses two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Net {
    /// User-mode networking by the program `passt`. Default, if nothing else is given.
    #[serde(rename = "to")]
    pub user: Option<User>,
    /// A tap device, made if it is not there.
    pub tap: Option<String>,
    /// A tap device that was left open at this descriptor.
    #[serde(deserialize_with = "scalar::some_count")]
    pub fd: Option<u32>,
    /// A unix socket at which somebody serves what QEMU calls `-netdev stream`.
    pub socket: Option<PathBuf>,
    /// The card's address. Default: a random one.
    #[serde(deserialize_with = "mac", serialize_with = "show_mac")]
    pub mac: Option<Mac>,
    /// What the guest is told that a packet can have, bytes. Default: nothing, which means 1500.
    #[serde(deserialize_with = "scalar::some_count")]
    pub mtu: Option<u32>,
    /// Pairs of queues, which only a tap can have several of. Default: 1.
    #[serde(deserialize_with = "scalar::count")]
    pub queues: u32,
    /// TCP ports of the host that lead to the guest, as `HOST:GUEST,...`; user networking only.
    pub tcp_ports: Option<String>,
    /// The same for UDP.
    pub udp_ports: Option<String>,
    /// Bytes that the guest may receive in a second. Default: as many as come, as for the others.
    #[serde(deserialize_with = "scalar::rate")]
    pub rx_bytes_per_sec: Option<NonZeroU64>,
    /// How many of them at once after a pause. Default: those of a second.
    #[serde(deserialize_with = "scalar::rate")]
    pub rx_bytes_burst: Option<NonZeroU64>,
    /// Packets that it may receive.
    #[serde(deserialize_with = "scalar::rate")]
    pub rx_packets_per_sec: Option<NonZeroU64>,
    /// How many of them at once after a pause. Default: those of a second.
    #[serde(deserialize_with = "scalar::rate")]
    pub rx_packets_burst: Option<NonZeroU64>,
    /// Bytes that it may send.
    #[serde(deserialize_with = "scalar::rate")]
    pub tx_bytes_per_sec: Option<NonZeroU64>,
    /// How many of them at once after a pause. Default: those of a second.
    #[serde(deserialize_with = "scalar::rate")]
    pub tx_bytes_burst: Option<NonZeroU64>,
    /// Packets that it may send.
    #[serde(deserialize_with = "scalar::rate")]
    pub tx_packets_per_sec: Option<NonZeroU64>,
    /// How many of them at once after a pause. Default: those of a second.
    #[serde(deserialize_with = "scalar::rate")]
    pub tx_packets_burst: Option<NonZeroU64>,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            user: None,
            tap: None,
            fd: None,
            socket: None,
            mac: None,
            mtu: None,
            queues: 1,
            tcp_ports: None,
            udp_ports: None,
            rx_bytes_per_sec: None,
            rx_bytes_burst: None,
            rx_packets_per_sec: None,
            rx_packets_burst: None,
            tx_bytes_per_sec: None,
            tx_bytes_burst: None,
            tx_packets_per_sec: None,
            tx_packets_burst: None,
        }
    }
}

impl Part for Net {
    const MAIN: &'static str = "to";
}

/// The word that stands for user-mode networking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User;

impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("user")
    }
}

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "user" | "passt" => Ok(Self),
            _ => Err(D::Error::custom(format!(
                "{text:?} is no network; one is user, tap=NAME, fd=NUMBER or socket=PATH"
            ))),
        }
    }
}

impl Net {
    /// Whether a card can be like this.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |why: &str| Err(ConfigError::Network(why.into()));
        let given = [self.user.is_some(), self.tap.is_some(), self.fd.is_some()];
        let given = given.into_iter().chain([self.socket.is_some()]);
        if given.filter(|given| *given).count() > 1 {
            return wrong(
                "on several networks; give one of user, tap, fd and socket for each --net",
            );
        }
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            let why = format!("with {} queues; it has 1 to {MAX_QUEUES}", self.queues);
            return wrong(&why);
        }
        if self.queues > 1 && self.tap.is_none() {
            return wrong("with several queues; only one with tap=NAME can have them");
        }
        if self.mtu.is_some_and(|mtu| !(68..=65_520).contains(&mtu)) {
            let mtu = self.mtu.unwrap_or(0);
            return wrong(&format!("with an MTU of {mtu}; it must be 68 to 65520"));
        }
        let bursts = [
            ("rx-bytes", self.rx_bytes_per_sec, self.rx_bytes_burst),
            ("rx-packets", self.rx_packets_per_sec, self.rx_packets_burst),
            ("tx-bytes", self.tx_bytes_per_sec, self.tx_bytes_burst),
            ("tx-packets", self.tx_packets_per_sec, self.tx_packets_burst),
        ];
        let lone = bursts.iter().find(|(_, rate, burst)| rate.is_none() && burst.is_some());
        if let Some((what, ..)) = lone {
            return wrong(&format!("with {what}-burst= but without {what}-per-sec="));
        }
        let ports = self.tcp_ports.is_some() || self.udp_ports.is_some();
        if ports && !self.is_user() {
            return wrong(
                "with ports that lead to it; only one with user networking can have them",
            );
        }
        Ok(())
    }

    /// Whether this is user-mode networking.
    pub fn is_user(&self) -> bool {
        self.tap.is_none() && self.fd.is_none() && self.socket.is_none()
    }

    /// Gives the card an address at random if it has none, so that it is the same after a reboot.
    pub(super) fn settle(&mut self) {
        self.mac = Some(self.address());
    }

    /// The card's address, or one at random.
    pub(crate) fn address(&self) -> Mac {
        self.mac.unwrap_or_else(|| {
            let [bytes @ .., _, _] = RandomState::new().build_hasher().finish().to_le_bytes();
            Mac::local(bytes)
        })
    }
}

/// The most pairs of queues of a card.
const MAX_QUEUES: u32 = 64;

pub(super) fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
pub(super) fn show_mac<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
    match mac {
        Some(mac) => serializer.collect_str(mac),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(list: &str) -> Net {
        let net = Net::default().with(list).unwrap();
        net.check().unwrap();
        net
    }

    fn refusal(list: &str) -> String {
        let checked = Net::default().with(list).and_then(|net| net.check());
        checked.unwrap_err().to_string()
    }

    #[test]
    fn user_networking_is_the_default() {
        for list in ["user", "passt", "mac=02:00:00:00:00:01", "mtu=1400"] {
            assert!(net(list).is_user(), "{list}");
        }
        assert!(!net("tap=tap0").is_user() && !net("fd=3").is_user() && !net("socket=s").is_user());
    }

    #[test]
    fn every_key_is_read() {
        let list = "tap=tap0,mac=02:00:00:00:00:01,mtu=9000,queues=4,rx-bytes-per-sec=10M,\
                    rx-packets-per-sec=5,tx-bytes-per-sec=1000,tx-packets-per-sec=1K,\
                    rx-bytes-burst=1,rx-packets-burst=2,tx-bytes-burst=3,tx-packets-burst=4";
        let number = |number| NonZeroU64::new(number);
        let expected = Net {
            tap: Some("tap0".into()),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            mtu: Some(9000),
            queues: 4,
            rx_bytes_per_sec: number(10 << 20),
            rx_packets_per_sec: number(5),
            tx_bytes_per_sec: number(1000),
            tx_packets_per_sec: number(1024),
            rx_bytes_burst: number(1),
            rx_packets_burst: number(2),
            tx_bytes_burst: number(3),
            tx_packets_burst: number(4),
            ..Net::default()
        };
        assert_eq!(net(list), expected);
        assert_eq!(expected.with("mtu=1500").unwrap().mac, expected.mac);
        let ports = net("tcp-ports=2222:22,,80,udp-ports=53");
        assert_eq!(ports.tcp_ports.as_deref(), Some("2222:22,80"));
        assert_eq!(net("fd=7").fd, Some(7));
    }

    #[test]
    fn what_is_no_network_is_answered_with_those_that_are() {
        let error = refusal("tap0");
        assert!(error.contains("\"tap0\" is no network; one is user, tap=NAME"), "{error}");
        assert!(refusal("tap=a,mca=1").contains("did you mean `mac`"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (list, why) in [
            ("tap=a,fd=3", "a network card on several networks"),
            ("user,socket=s", "a network card on several networks"),
            ("tap=a,queues=0", "with 0 queues; it has 1 to 64"),
            ("tap=a,queues=65", "with 65 queues"),
            ("user,queues=2", "only one with tap=NAME"),
            ("mtu=67", "MTU of 67; it must be 68 to 65520"),
            ("mtu=65521", "MTU of 65521"),
            ("tap=a,tcp-ports=80", "only one with user networking"),
            ("mac=01:00:00:00:00:00", "cannot be the address of a card"),
            ("tx-bytes-burst=1", "with tx-bytes-burst= but without tx-bytes-per-sec="),
            ("mac=1", "is no hardware address"),
            ("rx-bytes-per-sec=0", "a rate of 0"),
            ("rx-bytes-per-sec=fast", "\"fast\" is no number"),
        ] {
            assert!(refusal(list).contains(why), "{list}: {}", refusal(list));
        }
    }

    #[test]
    fn an_address_is_made_where_none_is_given() {
        let (mut first, mut second) = (net("user"), net("user"));
        first.settle();
        second.settle();
        assert!(first.mac.is_some() && first.mac != second.mac);
        let kept = first.mac;
        first.settle();
        assert_eq!(first.mac, kept);
    }
}
