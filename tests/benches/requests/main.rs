//! Requests of a driver that costs next to nothing, to devices that do no I/O: `requests CASE BATCHES`.
//! What runs is our own code: worker, chains, device. It prints how often it has allocated per batch.
//! `purlin-bench instructions` runs it under callgrind.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod card;
mod driver;

use std::{env, error::Error};

use disk::Memory;
use virtio_blk::{Blk, BlkConfig};

use crate::{
    card::{FRAME, card},
    driver::{Buffer, Driver},
};

/// So that it can tell how often it allocates.
#[global_allocator]
static ALLOCATOR: floor::Counting = floor::Counting;

/// Bytes of a block request's data.
const BLOCK: u32 = 4096;
/// Batches that are not counted: what grows once has grown then.
const WARM: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: requests blk-read|blk-write|net-transmit|net-receive BATCHES";
    let case = env::args().nth(1).ok_or(usage)?;
    let batches: u32 = env::args().nth(2).ok_or(usage)?.parse()?;
    let mut driver = match case.as_str() {
        "blk-read" => block(0)?,
        "blk-write" => block(1)?,
        "net-transmit" => Driver::new(virtio::mmio(card()?), 1, &[Buffer::Out(12 + FRAME)])?,
        "net-receive" => Driver::new(virtio::mmio(card()?), 0, &[Buffer::In(12 + FRAME)])?,
        _ => return Err(usage.into()),
    };
    (0..WARM).try_for_each(|_| driver.batch())?;
    let before = floor::allocations();
    (0..batches).try_for_each(|_| driver.batch())?;
    println!("{}", floor::allocations() - before);
    Ok(())
}

/// A disk in memory, and requests of this type for its first block.
fn block(request: u32) -> Result<Driver, Box<dyn Error>> {
    let disk = Memory::new(u64::from(BLOCK) / 512 * 16)?;
    let data = if request == 0 { Buffer::In(BLOCK) } else { Buffer::Out(BLOCK) };
    let chain = [Buffer::Out(16), data, Buffer::In(1)];
    let driver = Driver::new(virtio::mmio(Blk::new(disk, BlkConfig::default())), 0, &chain)?;
    driver.write_heads(&request.to_le_bytes())?;
    Ok(driver)
}
