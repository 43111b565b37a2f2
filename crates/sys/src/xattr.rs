//! Extended attributes of opened files.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::check;

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}

pub fn set(file: impl AsFd, name: &str, value: &[u8]) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: name and value outlive the call, and the value's length is given.
    let done = unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    check(done.into()).map(drop)
}

/// The value, at most 64 KiB; `None`: there is no such attribute.
pub fn get(file: impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let name = c_name(name)?;
    let mut value = vec![0_u8; 1 << 16];
    // SAFETY: the buffer outlives the call, and its length is given.
    let got = unsafe {
        libc::fgetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match check(got as libc::c_long) {
        Ok(length) => {
            value.truncate(length as usize);
            Ok(Some(value))
        }
        Err(e) if e.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(e) => Err(e),
    }
}
