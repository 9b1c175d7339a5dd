//! The device.

use std::os::fd::{AsRawFd, RawFd};

use device::{Persist, RestoreError, SaveError, Versioned};
use net::{HEADER, Link, MAX_PACKET, Mac};
use rate::{Rates, Throttle};
use virtio::{Chain, Device, Served};

use crate::{
    Counters, MAX_PAIRS, NetConfig, NetError, NetState,
    control::{self, Command},
    feature::{self, CTRL_VQ, GUEST_OFFLOADS, MQ},
    pair::{Pair, Shared},
    space::Space,
};

/// Entries of each queue for packets.
const QUEUE: u16 = 256;
/// Entries of the control queue.
const CONTROL: u16 = 64;

/// The network card: packets between a guest and one [`Link`] for each pair of queues.
#[derive(Debug)]
pub struct Net {
    pairs: Vec<Pair>,
    shared: Shared,
    config: NetConfig,
    offered: u64,
    queues: Vec<u16>,
    space: Space,
    /// How many pairs the driver uses.
    active: u16,
    /// What the driver has set by a command.
    offloads: Option<u64>,
}

impl Net {
    /// A card with one pair of queues.
    ///
    /// # Errors
    /// The configuration cannot be, or the host has no descriptors left.
    pub fn new(link: impl Link + 'static, config: NetConfig) -> Result<Self, NetError> {
        Self::with_pairs(vec![Box::new(link)], config)
    }

    /// A card with one pair of queues for each of `links`, which are of one kind.
    ///
    /// # Errors
    /// There are none or too many or different ones, the configuration cannot be, or the host has
    /// no descriptors left.
    pub fn with_pairs(links: Vec<Box<dyn Link>>, config: NetConfig) -> Result<Self, NetError> {
        config.check()?;
        let count = links.len();
        let pairs = u16::try_from(count).ok().filter(|_| (1..=MAX_PAIRS).contains(&count));
        let pairs = pairs.ok_or(NetError::Pairs(count))?;
        let abilities = links.first().map(|link| link.abilities()).unwrap_or_default();
        if links.iter().any(|link| link.abilities() != abilities) {
            return Err(NetError::Links);
        }
        let mut queues = vec![QUEUE; 2 * count];
        queues.push(CONTROL);
        let shared = Shared {
            features: 0,
            plugged: true,
            receive: Throttle::new(config.receive)?,
            transmit: Throttle::new(config.transmit)?,
            counters: Counters::default(),
            bounce: vec![0; HEADER + MAX_PACKET].into_boxed_slice(),
            failures: 0,
        };
        let mut net = Self {
            pairs: links.into_iter().map(Pair::new).collect(),
            shared,
            config,
            offered: feature::offered(abilities, count, config.mtu.is_some()),
            queues,
            space: Space::new(config.mac, pairs, config.mtu),
            active: 1,
            offloads: None,
        };
        net.spread();
        net.refresh();
        Ok(net)
    }

    /// What the card has done.
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// Whether the guest sees a link: the cable is plugged in, and the other end is there.
    pub fn is_up(&self) -> bool {
        self.shared.plugged && self.pairs.iter().all(|pair| pair.link.is_up())
    }

    /// Plugs the cable in, or out: then packets are dropped in both directions. The guest is told.
    pub fn set_link(&mut self, plugged: bool) {
        self.shared.plugged = plugged;
        self.refresh();
    }

    /// The card's address, as the guest has set it or was told it.
    pub fn mac(&self) -> [u8; 6] {
        self.space.mac()
    }

    /// Changes how many packets and bytes the guest may receive and send in a time.
    pub fn set_rates(&mut self, receive: Rates, transmit: Rates) {
        self.shared.receive.set(receive);
        self.shared.transmit.set(transmit);
    }

    fn refresh(&mut self) {
        let up = self.is_up();
        self.space.set_link(up);
    }

    /// Has packets come to those pairs that the driver uses, with what it understands. A host that
    /// refuses goes on as before, which costs packets at worst.
    fn spread(&mut self) {
        let bits = self.offloads.unwrap_or(self.shared.features & GUEST_OFFLOADS);
        let offloads = feature::offloads(bits & self.shared.features);
        let several = self.pairs.len() > 1;
        for (pair, index) in self.pairs.iter_mut().zip(0..) {
            let mut set = pair.link.set_offloads(offloads);
            if several {
                set = set.and(pair.link.set_active(index < self.active));
            }
            if let Err(error) = set
                && pair.link.is_up()
            {
                self.shared.failures = self.shared.failures.saturating_add(1);
                if self.shared.failures.is_power_of_two() {
                    log::warn!("a network link cannot be set up as its guest wants: {error}");
                }
            }
        }
    }

    /// Number of the control queue (§5.1.2): the third, as long as the driver knows of no more pairs.
    fn control_queue(&self) -> u16 {
        if self.shared.features & MQ == 0 { 2 } else { self.space.pairs().saturating_mul(2) }
    }

    fn control(&mut self, chain: &mut Chain<'_>) -> Served {
        let features = self.shared.features;
        if features & CTRL_VQ == 0 || chain.writer.available_bytes() == 0 {
            return Served::Used(0);
        }
        let command = control::decode(&mut chain.reader, features, self.space.pairs());
        match command {
            None | Some(Command::Filter) => {}
            Some(Command::Mac(mac)) => self.space.set_mac(mac),
            Some(Command::Pairs(count)) => {
                self.active = count;
                self.spread();
            }
            Some(Command::Offloads(bits)) => {
                self.offloads = Some(bits);
                self.spread();
            }
        }
        let answer = if command.is_some() { control::OK } else { control::ERR };
        Served::Used(u32::from(chain.writer.write_obj(answer).is_ok()))
    }
}

impl Device for Net {
    const ID: u32 = 1;

    fn features(&self) -> u64 {
        self.offered
    }

    fn queues(&self) -> &[u16] {
        &self.queues
    }

    fn config(&self) -> &[u8] {
        self.space.bytes()
    }

    fn negotiated(&mut self, features: u64) {
        self.shared.features = features;
        self.spread();
    }

    fn reset(&mut self) {
        self.shared.features = 0;
        self.active = 1;
        self.offloads = None;
        self.space.set_mac(self.config.mac);
        self.pairs.iter_mut().for_each(Pair::reset);
        self.spread();
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        if queue == self.control_queue() {
            return self.control(chain);
        }
        let used = queue / 2 < self.active;
        let pair = self.pairs.get_mut(usize::from(queue / 2)).filter(|_| used);
        let served = match (pair, queue.is_multiple_of(2)) {
            (Some(pair), true) => pair.receive(&mut self.shared, chain),
            (Some(pair), false) => pair.transmit(&mut self.shared, chain),
            // Nothing comes there, and nothing may go.
            (None, true) => Served::Stall,
            (None, false) => Served::Used(0),
        };
        // A link that goes down stays down.
        let is_up = |pair: &Pair| pair.link.is_up();
        if !self.pairs.get(usize::from(queue / 2)).is_none_or(is_up) {
            self.refresh();
        }
        served
    }

    fn sources(&self) -> Vec<RawFd> {
        let links = self.pairs.iter().map(|pair| pair.link.fd().as_raw_fd());
        links.chain([self.shared.receive.source(), self.shared.transmit.source()]).collect()
    }
}

impl Persist for Net {
    type State = NetState;

    fn save(&mut self) -> Result<NetState, SaveError> {
        Ok(NetState {
            mac: self.space.mac(),
            pairs: self.space.pairs(),
            mtu: self.config.mtu,
            active: self.active,
            offloads: self.offloads,
            plugged: self.shared.plugged,
        })
    }

    fn restore(&mut self, state: NetState) -> Result<(), RestoreError> {
        let invalid = |why| RestoreError::Invalid { kind: NetState::KIND, why };
        let mac = Mac::new(state.mac).map_err(|error| invalid(error.to_string()))?;
        if (state.pairs, state.mtu) != (self.space.pairs(), self.config.mtu) {
            let own = (self.space.pairs(), self.config.mtu);
            let found = (state.pairs, state.mtu);
            let why = format!("pairs of queues and MTU were {found:?} and are {own:?}");
            return Err(invalid(why));
        }
        if state.active == 0 || state.active > state.pairs {
            return Err(invalid(format!("{} of {} pairs are in use", state.active, state.pairs)));
        }
        if state.offloads.is_some_and(|bits| bits & !(self.offered & GUEST_OFFLOADS) != 0) {
            return Err(invalid(format!("offloads {:?} that the card lacks", state.offloads)));
        }
        self.space.set_mac(mac);
        self.active = state.active;
        self.offloads = state.offloads;
        self.shared.plugged = state.plugged;
        self.refresh();
        Ok(())
    }
}
