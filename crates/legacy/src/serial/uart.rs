//! The 16550 as a state machine: registers, receive FIFO, interrupts.

use std::io::{self, Write};

use device::{
    AccessError, Action, EventFd, IrqLine, MutBusDevice, Persist, RestoreError, SaveError,
    Versioned,
};
use serde::{Deserialize, Serialize};
use vm_superio::serial::{NoEvents, SerialState};

use crate::line::Line;

/// Registers of a 16550.
pub(super) const PORTS: u16 = 8;
/// What vm-superio's receive FIFO holds.
const FIFO: usize = 64;
const MCR: u8 = 4;
const MCR_LOOP: u8 = 1 << 4;
const LSR_DATA_READY: u8 = 1;
const LSR_TRANSMITTER_EMPTY: u8 = 0x60;

/// The byte that the guest has transmitted and nobody took yet.
#[derive(Debug, Default)]
struct Transmitted(Option<u8>);

impl Write for Transmitted {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 = data.last().copied();
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// vm-superio's 16550 without a world around it: transmitted bytes wait in
/// [`transmitted`](Uart::transmitted), received ones come by [`receive`](Uart::receive).
#[derive(Debug)]
pub(super) struct Uart {
    port: vm_superio::Serial<Line, NoEvents, Transmitted>,
    line: Line,
    /// Signalled when the FIFO that kept [`room`](Uart::room) at zero has been drained.
    drained: EventFd,
    starved: bool,
}

impl Uart {
    pub(super) fn new(line: IrqLine, drained: EventFd) -> Self {
        let line = Line::new(line);
        let port = vm_superio::Serial::new(line.clone(), Transmitted::default());
        Self { port, line, drained, starved: false }
    }

    /// Takes the byte that the last write transmitted.
    pub(super) fn transmitted(&mut self) -> Option<u8> {
        self.port.writer_mut().0.take()
    }

    /// How many bytes [`receive`](Self::receive) would take now. If it is none, the `drained` event
    /// is signalled as soon as that has changed.
    pub(super) fn room(&mut self) -> usize {
        let room = if self.loops_back() { 0 } else { self.port.fifo_capacity() };
        self.starved = room == 0;
        room
    }

    /// Puts bytes into the FIFO; returns how many it took, from the front.
    pub(super) fn receive(&mut self, data: &[u8]) -> usize {
        // The one error besides a full FIFO is a failed interrupt, which `Line` never reports.
        self.port.enqueue_raw_bytes(data).unwrap_or(0)
    }

    fn loops_back(&mut self) -> bool {
        self.port.read(MCR) & MCR_LOOP != 0
    }

    fn call_for_input(&mut self) {
        if self.starved && self.port.fifo_capacity() == FIFO && !self.loops_back() {
            self.signal_drained();
        }
    }

    fn signal_drained(&mut self) {
        self.starved = false;
        if let Err(error) = self.drained.write(1) {
            log::warn!("serial input stops: its event cannot be signalled: {error}");
        }
    }
}

impl MutBusDevice for Uart {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let [byte] = data else { return Err(AccessError::Width) };
        *byte = self.port.read(register(offset)?);
        self.call_for_input();
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let [byte] = data else { return Err(AccessError::Width) };
        // Neither `Line` nor `Transmitted` fails, and they are all that can.
        let _infallible = self.port.write(register(offset)?, *byte);
        self.call_for_input();
        Ok(Action::Continue)
    }
}

fn register(offset: u64) -> Result<u8, AccessError> {
    match u8::try_from(offset) {
        Ok(register) if u16::from(register) < PORTS => Ok(register),
        _ => Err(AccessError::NoRegister),
    }
}

/// The registers and the receive FIFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSerial {
    divisor: u16,
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    received: Vec<u8>,
}

impl Versioned for SavedSerial {
    const KIND: &'static str = "legacy.serial";
    const VERSION: u32 = 1;
}

impl SavedSerial {
    fn check(&self) -> Result<(), RestoreError> {
        let invalid = |why: String| Err(RestoreError::Invalid { kind: Self::KIND, why });
        if self.received.len() > FIFO {
            let found = self.received.len();
            return invalid(format!("{found} received bytes; the FIFO holds at most {FIFO}"));
        }
        let ready = if self.received.is_empty() { 0 } else { LSR_DATA_READY };
        let status = LSR_TRANSMITTER_EMPTY | ready;
        if self.line_status != status {
            let found = self.line_status;
            return invalid(format!(
                "line status {found:#x} is not {status:#x}, as the FIFO has it"
            ));
        }
        if self.interrupt_enable > 0x0f {
            let found = self.interrupt_enable;
            return invalid(format!("interrupt enable {found:#x} has bits beyond 0xf"));
        }
        if !matches!(self.interrupt_identification, 1 | 2 | 4 | 6) {
            let found = self.interrupt_identification;
            return invalid(format!("interrupt identification {found:#x} is not 1, 2, 4 or 6"));
        }
        Ok(())
    }
}

impl Persist for Uart {
    type State = SavedSerial;

    fn save(&mut self) -> Result<SavedSerial, SaveError> {
        let state = self.port.state();
        Ok(SavedSerial {
            divisor: u16::from_le_bytes([state.baud_divisor_low, state.baud_divisor_high]),
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            received: state.in_buffer,
        })
    }

    fn restore(&mut self, saved: SavedSerial) -> Result<(), RestoreError> {
        saved.check()?;
        let [baud_divisor_low, baud_divisor_high] = saved.divisor.to_le_bytes();
        let state = SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.received,
        };
        // Raises the line again for what is pending.
        let line = self.line.clone();
        self.port = vm_superio::Serial::from_state(&state, line, NoEvents, Transmitted::default())
            .map_err(|error| RestoreError::Invalid {
                kind: SavedSerial::KIND,
                why: error.to_string(),
            })?;
        self.signal_drained();
        Ok(())
    }
}
