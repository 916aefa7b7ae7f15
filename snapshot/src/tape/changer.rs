//! Who puts volumes in.
//!
//! [`Automatic`] leaves it to the drive, which has a changer or does not. [`Asking`] asks a person where the drive cannot
//! help itself, and asks again if what was put in is not what is wanted: a wrong cartridge is no reason to lose a session.

use super::drive::{Drive, DriveErrorKind, Wanted};
use super::error::{TapeError, TapeErrorKind};
use super::volume;

/// Puts volumes into a drive.
pub trait Changer: Send {
    /// Puts a volume in. Whoever asked verifies the label nevertheless.
    ///
    /// # Errors
    /// `Drive` with `NoVolume` or `NoMedium` if it is not at hand; what verifying may raise.
    fn load(&mut self, drive: &mut dyn Drive, wanted: Wanted<'_>) -> Result<(), TapeError>;
}

/// The drive's own changer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Automatic;

impl Changer for Automatic {
    fn load(&mut self, drive: &mut dyn Drive, wanted: Wanted<'_>) -> Result<(), TapeError> {
        Ok(drive.load(wanted)?)
    }
}

/// Asks a person. The question is put with why the volume in the drive, or its absence, will not do; the answer is
/// whether to look again.
pub struct Asking<A>(pub A);

impl<A> Changer for Asking<A>
where
    A: FnMut(Wanted<'_>, &TapeError) -> bool + Send,
{
    fn load(&mut self, drive: &mut dyn Drive, wanted: Wanted<'_>) -> Result<(), TapeError> {
        let (media, pool, except) = match wanted {
            Wanted::Named(media) => (Some(media), None, &[][..]),
            Wanted::Blank { pool, except } => (None, Some(pool), except),
        };
        loop {
            let loaded = drive.load(wanted).map_err(TapeError::from);
            let error = match loaded.and_then(|()| volume::verify(drive, media, pool)) {
                // The one that was just put out, put in again.
                Ok(label) if except.contains(&label.id) => {
                    TapeError::WrongVolume { wanted: "another one".to_owned(), found: label.media }
                }
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let is_wrong = error.kind() == TapeErrorKind::WrongVolume
                || error.drive().is_some_and(volume::wants_a_person)
                || error.drive() == Some(DriveErrorKind::WriteProtected);
            if !is_wrong || !(self.0)(wanted, &error) {
                return Err(error);
            }
            drive.eject()?;
        }
    }
}
