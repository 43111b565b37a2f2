//! Redirections, and how the descriptors get back to what they were.
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use sys::descriptors::{close, copy_onto, put_aside};

use super::ast::{Redirect, Redirection, Word};
use super::{Flow, Shell};
use crate::common::reason;

/// What descriptors were before; `None` when one was closed.
#[derive(Default)]
pub(super) struct Saved(Vec<(i32, Option<OwnedFd>)>);

impl Saved {
    fn note(&mut self, fd: i32) {
        self.0.push((fd, put_aside(fd).ok()));
    }

    /// Undoes the redirections, last first.
    pub(super) fn restore(self) {
        for (fd, before) in self.0.into_iter().rev() {
            match before {
                // What was open a moment ago can be copied back; there is no other way to go on.
                Some(before) => drop(copy_onto(before.as_raw_fd(), fd)),
                None => close(fd),
            }
        }
    }
}

/// A redirection that failed: the command does not run.
pub(super) enum Failure {
    Message(String),
    Flow(Flow),
}

impl From<Flow> for Failure {
    fn from(flow: Flow) -> Self {
        Failure::Flow(flow)
    }
}

impl Shell {
    /// Redirects in order; `saved` takes what has to be restored.
    pub(super) fn redirect(
        &mut self,
        redirections: &[Redirection],
        saved: &mut Saved,
    ) -> Result<(), Failure> {
        for redirection in redirections {
            let fd = redirection.fd;
            match &redirection.kind {
                Redirect::Duplicate(word) => self.duplicate(fd, word, saved)?,
                Redirect::Here(body) => {
                    let body = body.borrow().clone();
                    let text = self.text(&body)?;
                    saved.note(fd);
                    here(fd, &text).map_err(|e| Failure::Message(reason(&e)))?;
                }
                Redirect::Both(word) => {
                    self.open(
                        1,
                        word,
                        File::options().write(true).create(true).truncate(true),
                        saved,
                    )?;
                    saved.note(2);
                    copy_onto(1, 2).map_err(|e| Failure::Message(reason(&e)))?;
                }
                Redirect::Read(word) => self.open(fd, word, File::options().read(true), saved)?,
                Redirect::Write(word) => {
                    let mut options = File::options();
                    options.write(true).create(true).truncate(true);
                    self.open(fd, word, &options, saved)?;
                }
                Redirect::Append(word) => {
                    self.open(fd, word, File::options().append(true).create(true), saved)?;
                }
                Redirect::ReadWrite(word) => {
                    let mut options = File::options();
                    options.read(true).write(true).create(true);
                    self.open(fd, word, &options, saved)?;
                }
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        fd: i32,
        word: &Word,
        options: &std::fs::OpenOptions,
        saved: &mut Saved,
    ) -> Result<(), Failure> {
        let path = self.text(word)?;
        let fault = |e| Failure::Message(format!("cannot open {path}: {}", reason(&e)));
        let file = options.open(&path).map_err(fault)?;
        saved.note(fd);
        put(file.into(), fd).map_err(fault)
    }

    fn duplicate(&mut self, fd: i32, word: &Word, saved: &mut Saved) -> Result<(), Failure> {
        let text = self.text(word)?;
        if text == "-" {
            saved.note(fd);
            close(fd);
            return Ok(());
        }
        let Some(from) = text.parse::<i32>().ok().filter(|n| (0..=9).contains(n)) else {
            return Err(Failure::Message(format!("{text}: bad file descriptor")));
        };
        saved.note(fd);
        copy_onto(from, fd).map_err(|_| Failure::Message(format!("{from}: bad file descriptor")))
    }
}

/// Gives an open file the number `fd`.
pub(super) fn put(file: OwnedFd, fd: i32) -> std::io::Result<()> {
    copy_onto(file.as_raw_fd(), fd)?;
    if file.as_raw_fd() == fd {
        // It stays open under this number until the redirection is undone.
        let _ = file.into_raw_fd();
    }
    Ok(())
}

fn here(fd: i32, text: &str) -> std::io::Result<()> {
    let mut file = File::from(memfd_create(c"here-document", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    put(file.into(), fd)
}
