//! What a start needs: what it is told while it goes on, and what a container is given for it.
use super::*;

/// A child that has not executed its program yet.
pub(super) struct Start {
    pub(super) channel: OwnedFd,
    pub(super) caller: Caller,
    pub(super) subject: Subject,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) failure: Option<String>,
    pub(super) done: bool,
}

impl Start {
    pub(super) fn new(channel: OwnedFd, caller: Caller, subject: Subject) -> Self {
        Start { channel, caller, subject, terminal: None, failure: None, done: false }
    }

    /// Takes what the child said; `true` once it has said all.
    pub(super) fn listen(&mut self) -> bool {
        let mut buffer = [0_u8; 4096];
        loop {
            let mut fds = Vec::new();
            match sys::socket::receive(&self.channel, &mut buffer, &mut fds) {
                Ok(0) => return true,
                Ok(n) if buffer[0] == FAILED => {
                    self.failure = Some(String::from_utf8_lossy(&buffer[1..n]).into_owned());
                }
                Ok(_) if buffer[0] == TERMINAL => self.terminal = fds.pop(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return true,
            }
        }
    }
}

pub(super) fn hold_layer(config: &ContainerConfig) -> Result<Option<Flock<File>>, String> {
    let Some(top) = config.layers.last() else { return Ok(None) };
    let fail = |e: io::Error| format!("image layer {}: {}", top.display(), sys::reason(&e));
    let folder = File::open(top).map_err(fail)?;
    // Refused only while the store is removing it.
    let lock = Flock::lock(folder, FlockArg::LockSharedNonblock);
    lock.map(Some).map_err(|(_, e)| fail(e.into()))
}

pub(super) fn never_started(message: &str) -> Exit {
    let now = layout::now();
    Exit {
        code: NEVER_STARTED,
        signal: None,
        oom_killed: false,
        started_at: now,
        finished_at: now,
        message: message.to_owned(),
        start_failed: true,
    }
}

/// Ours (which never blocks), theirs.
pub(super) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    streams::nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// Pipes for a container without a terminal: our ends go to `streams`.
pub(super) fn pipes(config: &ContainerConfig, streams: &mut Streams) -> io::Result<Stdio> {
    let mut stdio = Stdio::default();
    if config.tty {
        return Ok(stdio);
    }
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
    let (reader, writer) = pipe()?;
    (streams.stdout, stdio.stdout) = (Some(reader), Some(writer));
    let (reader, writer) = pipe()?;
    (streams.stderr, stdio.stderr) = (Some(reader), Some(writer));
    if config.stdin {
        let (reader, writer) = pipe()?;
        (streams.stdin, stdio.stdin) = (Some(writer), Some(reader));
    }
    let ours = [&streams.stdout, &streams.stderr, &streams.stdin];
    ours.into_iter().flatten().try_for_each(streams::nonblocking)?;
    Ok(stdio)
}

pub(super) fn device_rules(config: &ContainerConfig) -> Result<Vec<DeviceRule>, String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    if config.security.privileged {
        return Ok(DeviceRule::everything());
    }
    let mut rules = DeviceRule::standard();
    for device in &config.devices {
        let path = &device.host_path;
        let meta = std::fs::metadata(path)
            .map_err(|e| format!("device {}: {}", path.display(), sys::reason(&e)))?;
        let may = |letter| device.permissions.is_empty() || device.permissions.contains(letter);
        rules.push(DeviceRule {
            block: meta.file_type().is_block_device(),
            major: Some(nix::sys::stat::major(meta.rdev()) as u32),
            minor: Some(nix::sys::stat::minor(meta.rdev()) as u32),
            read: may('r'),
            write: may('w'),
            mknod: may('m'),
        });
    }
    Ok(rules)
}
