//! **A test instrument**: a drive that fails on demand, in front of any other.
//!
//! It does what the fault model of [`super::drive`] allows: a block that cannot be read or written, a medium that ends
//! early and without warning, and a process that is killed at any call: before it had an effect, or after it and before
//! anybody knows. After a kill each call fails until somebody revives it. What a kill tears is the business of the disk or
//! the medium behind; [`FaultyDrive::on_kill`] lets a test tear it.

use super::drive::{Drive, DriveError, DriveErrorKind, Medium, Met, Position, Wanted, Wrote};
use parking_lot::Mutex;
use std::sync::Arc;

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Before the call had an effect.
    Before,
    /// When it has had its effect.
    After,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reading this block of this volume fails.
    Read(String, Position),
    /// Writing this block of this volume fails.
    Write(String, Position),
    /// Writing the filemark behind this tape file of this volume fails; whether it happened nevertheless.
    Filemark(String, u32, bool),
    /// This volume ends before this block.
    End(String, Position),
    /// The call of this number, from 1, is the last.
    Kill(u64, Kill),
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    calls: u64,
    is_dead: bool,
    on_kill: Option<Hook>,
}

/// What a test holds of a drive that fails.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Adds a fault. All stay until [`Faults::heal`].
    pub fn add(&self, fault: Fault) {
        self.0.lock().faults.push(fault);
    }

    /// Forgets faults, counts from nothing and lets calls pass again.
    pub fn heal(&self) {
        *self.0.lock() = State::default();
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Called once, when the process is killed.
    pub fn on_kill(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.lock().on_kill = Some(Box::new(hook));
    }
}

/// A drive that fails on demand. A test instrument.
pub struct FaultyDrive<D> {
    behind: D,
    faults: Faults,
    volume: Option<String>,
}

impl<D: Drive> FaultyDrive<D> {
    /// Stands in front of a drive, and lets everything pass.
    pub fn new(mut behind: D) -> (Self, Faults) {
        let faults = Faults::default();
        let volume = behind.medium().ok().and_then(|medium| medium.name);
        (Self { behind, faults: faults.clone(), volume }, faults)
    }

    /// The drive behind.
    pub fn into_inner(self) -> D {
        self.behind
    }

    fn failed(&self, operation: &'static str, kind: DriveErrorKind) -> DriveError {
        let source = Some(std::io::Error::other("the drive was told to fail"));
        DriveError { operation, volume: self.volume.clone(), at: self.behind.position(), kind, source }
    }

    fn has(&self, is_it: impl Fn(&str, &Fault) -> bool) -> bool {
        let volume = self.volume.as_deref().unwrap_or_default();
        self.faults.0.lock().faults.iter().any(|fault| is_it(volume, fault))
    }

    /// A call, unless the process is or gets killed.
    fn call<T>(
        &mut self,
        operation: &'static str,
        act: impl FnOnce(&mut Self) -> Result<T, DriveError>,
    ) -> Result<T, DriveError> {
        let kill = {
            let mut state = self.faults.0.lock();
            state.calls += 1;
            let calls = state.calls;
            let kill = state.faults.iter().find_map(|fault| match fault {
                Fault::Kill(call, kill) if *call == calls => Some(*kill),
                _ => None,
            });
            if state.is_dead {
                drop(state);
                return Err(self.failed(operation, DriveErrorKind::Io));
            }
            state.is_dead = kill.is_some();
            kill
        };
        let Some(kill) = kill else { return act(self) };
        if kill == Kill::After {
            drop(act(self));
        }
        let hook = self.faults.0.lock().on_kill.take();
        if let Some(hook) = hook {
            hook();
        }
        Err(self.failed(operation, DriveErrorKind::Io))
    }
}

impl<D: Drive> Drive for FaultyDrive<D> {
    fn serial(&self) -> &str {
        self.behind.serial()
    }

    fn medium(&mut self) -> Result<Medium, DriveError> {
        self.call("look at", |this| this.behind.medium())
    }

    fn block_bytes(&self) -> usize {
        self.behind.block_bytes()
    }

    fn set_block_bytes(&mut self, bytes: usize) -> Result<(), DriveError> {
        self.call("set block", |this| this.behind.set_block_bytes(bytes))
    }

    fn position(&self) -> Position {
        self.behind.position()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Met, DriveError> {
        self.call("read", |this| {
            let at = this.behind.position();
            if this.has(|volume, fault| matches!(fault, Fault::Read(of, bad) if of == volume && *bad == at)) {
                return Err(this.failed("read", DriveErrorKind::Media));
            }
            this.behind.read(buffer)
        })
    }

    fn read_start(&mut self, limit: usize) -> Result<Vec<u8>, DriveError> {
        self.call("read", |this| {
            let is_first = |at: &Position| at.file == 0;
            if this
                .has(|volume, fault| matches!(fault, Fault::Read(of, bad) if of == volume && is_first(bad)))
            {
                return Err(this.failed("read", DriveErrorKind::Media));
            }
            this.behind.read_start(limit)
        })
    }

    fn write(&mut self, block: &[u8]) -> Result<Wrote, DriveError> {
        self.call("write", |this| {
            let at = this.behind.position();
            if this.has(|volume, fault| matches!(fault, Fault::Write(of, bad) if of == volume && *bad == at))
            {
                return Err(this.failed("write", DriveErrorKind::Media));
            }
            if this.has(|volume, fault| matches!(fault, Fault::End(of, end) if of == volume && *end <= at)) {
                return Ok(Wrote::EndOfMedium);
            }
            this.behind.write(block)
        })
    }

    fn filemark(&mut self) -> Result<(), DriveError> {
        self.call("write filemark", |this| {
            let at = this.behind.position().file;
            let is_it = |happens: bool| {
                move |volume: &str, fault: &Fault| {
                    matches!(fault, Fault::Filemark(of, file, does) if of == volume && *file == at && *does == happens)
                }
            };
            if this.has(is_it(false)) {
                return Err(this.failed("write filemark", DriveErrorKind::Media));
            }
            this.behind.filemark()?;
            if this.has(is_it(true)) {
                return Err(this.failed("write filemark", DriveErrorKind::Media));
            }
            Ok(())
        })
    }

    fn locate(&mut self, file: u32) -> Result<(), DriveError> {
        self.call("locate", |this| this.behind.locate(file))
    }

    fn locate_last_block(&mut self, file: u32) -> Result<Option<u64>, DriveError> {
        self.call("locate", |this| this.behind.locate_last_block(file))
    }

    fn end_of_data(&mut self) -> Result<Position, DriveError> {
        self.call("locate", |this| this.behind.end_of_data())
    }

    fn load(&mut self, wanted: Wanted<'_>) -> Result<(), DriveError> {
        self.call("load", |this| {
            this.behind.load(wanted)?;
            this.volume = this.behind.medium()?.name;
            Ok(())
        })
    }

    fn eject(&mut self) -> Result<(), DriveError> {
        self.call("eject", |this| {
            this.volume = None;
            this.behind.eject()
        })
    }
}
