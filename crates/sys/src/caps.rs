//! Capabilities: names, sets, and giving them up.
use std::io;

use crate::check;

/// Names by number, without `CAP_`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers have unless they ask otherwise: the set that Docker made customary.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

pub const SYS_ADMIN: u32 = 21;
pub const SYS_RESOURCE: u32 = 24;

/// A set of capabilities, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u64);

impl Set {
    pub const ALL: Set = Set((1 << NAMES.len()) - 1);

    pub fn standard() -> Set {
        DEFAULT.iter().fold(Set::default(), |set, name| set.with(name).unwrap_or(set))
    }

    /// The default set with changes: drops first when everything is dropped, so that
    /// `drop: [ALL], add: [X]` leaves X, and `add: [ALL], drop: [X]` all but X.
    ///
    /// # Errors
    /// The name that is no capability.
    pub fn changed(add: &[String], drop: &[String]) -> Result<Set, String> {
        let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
        let mut set = Set::standard();
        if add.iter().any(is_all) {
            set = Set::ALL;
        }
        if drop.iter().any(is_all) {
            set = Set::default();
        }
        for name in add.iter().filter(|n| !is_all(n)) {
            set.0 |= 1 << number(name).ok_or_else(|| name.clone())?;
        }
        for name in drop.iter().filter(|n| !is_all(n)) {
            set.0 &= !(1 << number(name).ok_or_else(|| name.clone())?);
        }
        Ok(set)
    }

    pub fn has(self, capability: u32) -> bool {
        self.0 & (1 << capability) != 0
    }

    fn with(self, name: &str) -> Option<Set> {
        Some(Set(self.0 | (1 << number(name)?)))
    }
}

/// The number of a capability named with or without `CAP_`, in any case.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == short).map(|n| n as u32)
}

/// What this process may use.
pub fn permitted() -> io::Result<Set> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let bits = field.and_then(|f| u64::from_str_radix(f.trim(), 16).ok());
    bits.map(Set).ok_or_else(|| io::Error::other("/proc/self/status tells no CapPrm"))
}

/// Takes every capability outside of `set` from the bounding set: no exec can bring it back.
pub fn bound(set: Set) -> io::Result<()> {
    for capability in 0..64 {
        if set.has(capability) {
            continue;
        }
        // SAFETY: passes integers.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(done.into()) {
            // Past the last capability that this kernel knows.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        };
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets effective and permitted to `set` (what of it is available), inheritable and ambient to
/// none.
pub fn apply(set: Set) -> io::Result<()> {
    let set = set.0 & permitted()?.0;
    let half = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data = [half(set & 0xffff_ffff), half(set >> 32)];
    // SAFETY: header and the two data records of version 3 outlive the calls.
    unsafe {
        let all = libc::PR_CAP_AMBIENT_CLEAR_ALL;
        check(libc::prctl(libc::PR_CAP_AMBIENT, all, 0, 0, 0).into())?;
        check(libc::syscall(libc::SYS_capset, &header, data.as_ptr())).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_compose_as_kubernetes_says() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let one = |name: &str| 1_u64 << number(name).expect(name);
        let changed = |add: &[&str], drop: &[&str]| Set::changed(&names(add), &names(drop));
        assert_eq!(changed(&[], &[]), Ok(Set::standard()));
        assert_eq!(changed(&["NET_ADMIN"], &["ALL"]), Ok(Set(one("NET_ADMIN"))));
        assert_eq!(changed(&["all"], &["cap_sys_admin"]), Ok(Set(Set::ALL.0 & !one("SYS_ADMIN"))));
        assert_eq!(changed(&[], &["CHOWN"]), Ok(Set(Set::standard().0 & !one("CHOWN"))));
        assert_eq!(changed(&["NOPE"], &[]), Err("NOPE".to_owned()));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("SYS_ADMIN"), Some(SYS_ADMIN));
        assert_eq!(number("SYS_RESOURCE"), Some(SYS_RESOURCE));
    }
}
