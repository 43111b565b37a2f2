//! Pressure stall information: the kernel tells when memory runs short, on machines of either
//! version of cgroups. See `Documentation/accounting/psi.rst` of the kernel.
use std::fs::File;
use std::io::{self, Write};

/// Some task stalls for want of memory for a tenth of a second within a second.
const TRIGGER: &[u8] = b"some 100000 1000000\0";

/// A file that reports priority (`POLLPRI`) when memory runs short, at most once in a second and
/// for as long as it is open. An error where the kernel does not measure stalls.
pub fn memory_alarm() -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open("/proc/pressure/memory")?;
    file.write_all(TRIGGER)?;
    Ok(file)
}
