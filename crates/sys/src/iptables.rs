//! What legacy iptables does with packets that none of its rules is about.
//!
//! Its tables are not among those of nf_tables, and a packet has to pass both.
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const NAME: [u8; 6] = *b"filter";
const NAME_BYTES: usize = 32;
const FORWARD: usize = 2;
/// `struct ipt_entry` up to its matches, and where in it the target's offset is.
const ENTRY_BYTES: usize = 112;
const TARGET_OFFSET: usize = 88;
/// `struct xt_entry_target` up to a standard target's verdict.
const TARGET_BYTES: usize = 32;
/// The verdict is stored as `-verdict - 1`.
const DROP: i32 = -1;
/// A table of more than this is not looked at.
const TABLE_MAX_BYTES: usize = 64 << 20;

/// `struct ipt_getinfo`.
#[repr(C)]
struct Info {
    name: [u8; NAME_BYTES],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// Whether legacy iptables, where it is in use, drops by default what the machine forwards.
pub fn forward_policy_is_drop() -> io::Result<bool> {
    // To ask for a table would make it.
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    if !names.unwrap_or_default().lines().any(|name| name.as_bytes() == NAME) {
        return Ok(false);
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Inet, SockType::Raw, flags, nix::sys::socket::SockProtocol::Raw)?;
    let mut info = vec![0; size_of::<Info>()];
    info[..NAME.len()].copy_from_slice(&NAME);
    get(&socket, GET_INFO, &mut info)?;
    let word = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let underflow = word(std::mem::offset_of!(Info, underflow) + 4 * FORWARD) as usize;
    let size = word(std::mem::offset_of!(Info, size)) as usize;
    if size > TABLE_MAX_BYTES {
        return Ok(false);
    }
    // `struct ipt_get_entries`: the name, the size, and the entries at an address of 8.
    let start = NAME_BYTES + 8;
    let mut table = vec![0; start + size];
    table[..NAME.len()].copy_from_slice(&NAME);
    table[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&(size as u32).to_ne_bytes());
    get(&socket, GET_ENTRIES, &mut table)?;
    Ok(verdict(&table[start..], underflow) == Some(DROP))
}

/// The verdict of the entry at an offset, if its target is a standard one.
fn verdict(entries: &[u8], at: usize) -> Option<i32> {
    let entry = entries.get(at..at.checked_add(ENTRY_BYTES)?)?;
    let target = u16::from_ne_bytes([entry[TARGET_OFFSET], entry[TARGET_OFFSET + 1]]);
    let target = Some(usize::from(target)).filter(|target| *target >= ENTRY_BYTES)?;
    let verdict = at + target + TARGET_BYTES;
    let bytes = entries.get(verdict..verdict + 4)?;
    Some(i32::from_ne_bytes(bytes.try_into().ok()?))
}

fn get(socket: &OwnedFd, option: libc::c_int, buf: &mut [u8]) -> io::Result<()> {
    let mut length = buf.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `buf`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            option,
            buf.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    crate::check(libc::c_long::from(result)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_found_behind_their_entries() {
        let mut table = vec![0; 16 + ENTRY_BYTES + 8 + TARGET_BYTES + 8];
        let target = (ENTRY_BYTES + 8) as u16;
        table[16 + TARGET_OFFSET..16 + TARGET_OFFSET + 2].copy_from_slice(&target.to_ne_bytes());
        let at = 16 + ENTRY_BYTES + 8 + TARGET_BYTES;
        table[at..at + 4].copy_from_slice(&DROP.to_ne_bytes());
        assert_eq!(verdict(&table, 16), Some(DROP));
        assert_eq!(verdict(&table[..at + 3], 16), None);
        assert_eq!(verdict(&table, table.len() - ENTRY_BYTES + 1), None);
        assert_eq!(verdict(&table, usize::MAX), None);
    }
}
