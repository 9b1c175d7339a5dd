//! Network cards and what they are connected to.

use std::{num::NonZeroU64, os::fd::RawFd, time::Duration};

use ::virtio::Handle;
use board::BoardBuilder;
use net::{Link, Passt, PasstConfig, Stream, Tap};
use rate::{Rate, Rates};
use virtio_net::{Net, NetConfig};

use super::{BuildError, virtio};
use crate::config::{self, Config, ConfigError};

/// How long a passt has to find its options or its host wrong; it takes some hundredths of a second. What
/// it finds later is in the log, and takes the guest's link down.
const EARLY: Duration = Duration::from_secs(5);

/// Attaches the cards that `config` names, in their order.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
) -> Result<Vec<Handle<Net>>, BuildError> {
    let mut nets = Vec::new();
    for (index, net) in config.net.iter().enumerate() {
        let card = Net::with_pairs(links(net)?, card(net)?)?;
        nets.push(virtio::attach(board, config.transport(), &format!("net{index}"), card)?);
    }
    Ok(nets)
}

fn links(net: &config::Net) -> Result<Vec<Box<dyn Link>>, BuildError> {
    if let Some(name) = &net.tap {
        let count = usize::try_from(net.queues).unwrap_or(usize::MAX);
        let taps = Tap::open_queues(name, count)?;
        return Ok(taps.into_iter().map(|tap| Box::new(tap) as _).collect());
    }
    if let Some(fd) = net.fd {
        return Ok(vec![Box::new(Tap::from_fd(RawFd::try_from(fd).unwrap_or(-1))?)]);
    }
    if let Some(path) = &net.socket {
        return Ok(vec![Box::new(Stream::connect(path)?)]);
    }
    let mut passt = Passt::start(&passt(net)?)?;
    passt.ready(EARLY)?;
    Ok(vec![Box::new(passt)])
}

fn passt(net: &config::Net) -> Result<PasstConfig, ConfigError> {
    Ok(PasstConfig {
        mtu: mtu(net)?,
        tcp_ports: net.tcp_ports.clone(),
        udp_ports: net.udp_ports.clone(),
    })
}

fn card(net: &config::Net) -> Result<NetConfig, ConfigError> {
    Ok(NetConfig {
        mtu: mtu(net)?,
        receive: Rates {
            ops: limit(net.rx_packets_per_sec, net.rx_packets_burst),
            bytes: limit(net.rx_bytes_per_sec, net.rx_bytes_burst),
        },
        transmit: Rates {
            ops: limit(net.tx_packets_per_sec, net.tx_packets_burst),
            bytes: limit(net.tx_bytes_per_sec, net.tx_bytes_burst),
        },
        ..NetConfig::new(net.address())
    })
}

fn limit(per_second: Option<NonZeroU64>, size: Option<NonZeroU64>) -> Option<Rate> {
    let rate = Rate::new(per_second?);
    Some(size.map_or(rate, |size| rate.size(size.get())))
}

fn mtu(net: &config::Net) -> Result<Option<u16>, ConfigError> {
    let wrong = |_| ConfigError::Network("with an MTU that no packet has".into());
    net.mtu.map(u16::try_from).transpose().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Part;

    fn net(list: &str) -> config::Net {
        config::Net::default().with(list).unwrap()
    }

    #[test]
    fn a_card_is_as_its_network_says() {
        let list = "tap=t,mac=02:00:00:00:00:01,mtu=9000,\
                    rx-bytes-per-sec=1,rx-bytes-burst=2,rx-packets-per-sec=3,rx-packets-burst=4,\
                    tx-bytes-per-sec=5,tx-bytes-burst=6,tx-packets-per-sec=7,tx-packets-burst=8";
        let rate = |per_second, size| {
            NonZeroU64::new(per_second).map(|per_second| Rate::new(per_second).size(size))
        };
        let expected = NetConfig {
            mtu: Some(9000),
            receive: Rates { ops: rate(3, 4), bytes: rate(1, 2) },
            transmit: Rates { ops: rate(7, 8), bytes: rate(5, 6) },
            ..NetConfig::new("02:00:00:00:00:01".parse().unwrap())
        };
        assert_eq!(card(&net(list)).unwrap(), expected);
        let second = card(&net("rx-bytes-per-sec=9")).unwrap();
        assert_eq!((second.receive.bytes, second.mtu), (rate(9, 9), None));
    }

    #[test]
    fn passt_hears_of_the_mtu_and_of_ports() {
        let passt = passt(&net("mtu=1400,tcp-ports=2222:22,udp-ports=53")).unwrap();
        let expected = PasstConfig {
            mtu: Some(1400),
            tcp_ports: Some("2222:22".into()),
            udp_ports: Some("53".into()),
        };
        assert_eq!(passt, expected);
    }
}
