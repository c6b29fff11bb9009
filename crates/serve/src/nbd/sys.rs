//! The ioctls of /dev/nbdN, which need `unsafe`. Nothing here decides anything.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, NoArg, Opcode, ioctl};

// From linux/nbd.h: _IO(0xab, n).
const SET_SOCKET: Opcode = 0xab00;
const SET_BLOCK_SIZE: Opcode = 0xab01;
const DO_IT: Opcode = 0xab03;
const CLEAR_SOCKET: Opcode = 0xab04;
const CLEAR_QUEUE: Opcode = 0xab05;
const SET_SIZE_BLOCKS: Opcode = 0xab07;
const DISCONNECT: Opcode = 0xab08;
const SET_FLAGS: Opcode = 0xab0a;

/// Gives the device its other end; the kernel keeps a reference of its own.
pub(super) fn set_socket(device: &File, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // A descriptor that is open is not negative.
    set::<SET_SOCKET>(device, usize::try_from(socket.as_raw_fd()).unwrap_or(usize::MAX))
}

/// Sets the size of the device's blocks in bytes.
pub(super) fn set_block_size(device: &File, block_bytes: u32) -> Result<(), Errno> {
    set::<SET_BLOCK_SIZE>(device, usize::try_from(block_bytes).unwrap_or(usize::MAX))
}

/// Sets the size of the device in its blocks.
pub(super) fn set_size_blocks(device: &File, blocks: u64) -> Result<(), Errno> {
    set::<SET_SIZE_BLOCKS>(device, usize::try_from(blocks).unwrap_or(usize::MAX))
}

/// Says what can be done with the device, as the protocol says it.
pub(super) fn set_flags(device: &File, flags: u16) -> Result<(), Errno> {
    set::<SET_FLAGS>(device, usize::from(flags))
}

/// Lets the device work; returns when it has been disconnected.
pub(super) fn work(device: &File) -> Result<(), Errno> {
    call::<DO_IT>(device)
}

/// Disconnects the device.
pub(super) fn disconnect(device: &File) -> Result<(), Errno> {
    call::<DISCONNECT>(device)
}

/// Forgets the other end and what was asked of it.
pub(super) fn clear(device: &File) -> Result<(), Errno> {
    call::<CLEAR_QUEUE>(device).and(call::<CLEAR_SOCKET>(device))
}

fn set<const CODE: Opcode>(device: &File, value: usize) -> Result<(), Errno> {
    // SAFETY: all codes here are of ioctls of nbd that take an integer and write to no memory of ours; a device of
    // another kind refuses them with ENOTTY.
    unsafe { ioctl(device, IntegerSetter::<CODE>::new_usize(value)) }
}

fn call<const CODE: Opcode>(device: &File) -> Result<(), Errno> {
    // SAFETY: all codes here are of ioctls of nbd without an argument that write to no memory of ours; a device of
    // another kind refuses them with ENOTTY.
    unsafe { ioctl(device, NoArg::<CODE>::new()) }
}
