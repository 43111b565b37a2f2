//! A person at a terminal, played by a test.
use crate::{Cluster, PATIENCE, until};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// kubectl with a terminal of its own. Ended when dropped.
pub struct Terminal {
    child: Child,
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `kubectl ARGS` at a terminal of so many columns and rows.
    pub fn run(cluster: &Cluster, args: &[&str], (columns, rows): (u16, u16)) -> Self {
        let (master, slave) = sys::pty::open().unwrap();
        sys::pty::resize(&master, columns, rows).unwrap();
        let kubectl = cluster.kubectl_command(args);
        // The terminal's size is told to the processes that it controls only.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(kubectl.get_program()).args(kubectl.get_args());
        for (name, value) in kubectl.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::from(slave.try_clone().unwrap()));
        command.stdout(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        let master = File::from(master);
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut from, to) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is how a terminal says that its last user has gone.
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..n]);
            }
        });
        Self { child, master, seen }
    }

    /// Everything that the terminal has shown.
    pub fn seen(&self) -> String {
        crate::text(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn type_line(&mut self, line: &str) {
        self.type_keys(line);
        self.type_keys("\r");
    }

    /// Waits until the terminal has shown `wanted`.
    pub fn expect(&self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(wanted) {
            assert!(Instant::now() < deadline, "no {wanted:?} on the terminal: {}", self.seen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        sys::pty::resize(&self.master, columns, rows).unwrap();
    }

    /// Waits for kubectl's end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        until("the end of kubectl", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
