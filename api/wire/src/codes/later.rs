//! Codes from RW1100 on, as [`super`] says.

use super::{Code, Exit};
use tonic::Code as Grpc;

catalogue! {
    /// Projections against truth.
    TABLES_DIFFER = "RW1100" "journal" Differs DataLoss
        "the tables are not what the segments say"
        reason "The segments are sound, but a table made from them has wrong, missing or surplus rows: points may be shown wrong. No history is lost."
        action "Stop the scenario, `restorectl journal rebuild SCENARIO`, and verify again; then look for a failing disk or report the rows that were named.";
    /// Pieces and manifests.
    ARCHIVE_DAMAGED = "RW1110" "archive" Differs DataLoss
        "the archive is damaged"
        reason "An object of the archived journal is missing, is not what was stored, or does not fit the session it is to be replayed over. Nothing was restored."
        action "Bring the named object back from a copy of the store. Else rescue an earlier moment with `--at`, or a session by its id: sessions do not need the archive.";
    /// What was never archived.
    ARCHIVE_GAP = "RW1111" "archive" Refused FailedPrecondition
        "the archive has a gap"
        reason "The journal gave segments back before they were archived, because the store could not be reached for longer than the journal's retention; or no session is old enough to start from."
        action "Choose a moment that the message names as reachable, or rescue a session by its id.";
    /// Two writers, or an older copy.
    ARCHIVE_FORKED = "RW1112" "archive" Refused FailedPrecondition
        "the archive holds another history of this journal"
        reason "Somebody else archives under the same journal, or the journal here is an older copy: the data directory was copied or restored. Nothing is archived, so that nothing archived is lost."
        action "Stop the other daemon; or switch archiving off with `scenario set NAME archive=off`, rescue what only the archive holds, and begin anew with a new scenario.";
    /// Nothing unusual.
    NO_BURST = "RW1120" "journal" NotFound NotFound
        "no burst is found"
        reason "`last-good` is the last version before a burst of rewritten or renamed files, and the window holds none, or none that touched these paths. A slow change is no burst."
        action "Look at `restorectl points SCENARIO --burst` and at `restorectl catalog versions PATH`; rewind to a time or an LSN.";
    /// Memory.
    BURST_TOO_LARGE = "RW1121" "journal" Refused ResourceExhausted
        "the burst is too large for a rewind file by file"
        reason "It holds millions of changes, more than are remembered to tell each file's own last version."
        action "Rewind to the point before it, `lsn:N` with N the first LSN of the burst less one, as a whole or with --path part by part.";
    /// Under way.
    JOB_BEGAN = "RW1122" "job" Refused FailedPrecondition
        "the job has begun"
        reason "Only a job that waits can be held: half of a job's work would stand about until it is released."
        action "Wait for it, or cancel it with `restorectl job cancel ID`.";
    /// Over.
    JOB_ENDED = "RW1123" "job" Refused FailedPrecondition
        "the job has ended"
        reason "A job that has ended is neither held nor released."
        action "`restorectl job show ID` shows what it came to; give the command again for another attempt.";
    /// Drive.
    TAPE_DRIVE_FAILED = "RW1124" "tape" Failed Unavailable
        "the tape drive failed"
        reason "The drive, or the directory that is used as one, is not there, is used by somebody else, or does not do what it must."
        action "Look at the message for what the system says; end whoever has the drive, or correct the address, then try again.";
    /// What is written stays.
    TAPE_WOULD_OVERWRITE = "RW1125" "tape" Refused FailedPrecondition
        "the medium holds data and is not written over"
        reason "It is a volume with sessions, holds data of another program, or is write protected."
        action "`restorectl tape inventory` shows what is on it. Take another medium, or force the label: then all on it is lost.";
    /// TLS.
    UNENCRYPTED = "RW1126" "repository" Refused FailedPrecondition
        "the endpoint of the store is not encrypted"
        reason "The endpoint begins with http://: whoever is on the way could read names, sizes and who asks, and change answers."
        action "Give the daemon an https:// endpoint, or allow this one in its environment: AWS_ALLOW_HTTP=true, AZURE_ALLOW_HTTP=true or GOOGLE_ALLOW_HTTP=true.";
    /// Not an empty store.
    NO_BUCKET = "RW1127" "repository" NotFound NotFound
        "the bucket is missing"
        reason "The store answers, but it has no bucket or container of this name, or does not show it to these credentials."
        action "Correct the address, or make the bucket: Rewind makes none, for its settings are yours to choose (docs/stores.md).";
    /// Another one.
    TAPE_VOLUME_WANTED = "RW1128" "tape" NotFound NotFound
        "the volume that is wanted is not in the drive"
        reason "The drive is empty, or holds another volume, one of another pool, or one without a label."
        action "Put the volume that the message names into the drive, or label a new one with `restorectl tape label`.";
    /// Bytes.
    TAPE_DAMAGED = "RW1129" "tape" Differs DataLoss
        "the volume is damaged"
        reason "What was read is not what was written; the message says where."
        action "Keep the medium and take a copy of the session from another place; nothing on it was changed.";
    /// Not listed here.
    TAPE_NOT_READ = "RW1130" "tape" Refused FailedPrecondition
        "what the session holds is not known here"
        reason "The session lies on tape, and the daemon's listing of it is gone or was never made."
        action "Put the volumes that the message names at hand and run `restorectl catalog rebuild --repository NAME`.";
    /// Somebody else.
    TAPE_BUSY = "RW1131" "tape" Refused FailedPrecondition
        "the tape drive is in use"
        reason "A drive does one thing at a time, and somebody has it."
        action "Wait until that job has ended (`restorectl job list`), then try again.";
    /// No password.
    TAPE_PASSWORD_WANTED = "RW1132" "tape" Refused FailedPrecondition
        "the session is encrypted and there is no password"
        reason "What it holds was encrypted when it was written to tape, and none was given, or the repository was added without one."
        action "Give `--password-file`: to `rescue`, or to `restorectl repository add` for a repository at the same volumes. Nobody can read it without.";
    /// Not this one.
    TAPE_PASSWORD_WRONG = "RW1133" "tape" NotPermitted PermissionDenied
        "the session is encrypted with another password"
        reason "The password or secret key is not the one that the session was encrypted with; the message says which of the two it takes."
        action "Give the one that the repository had when the session was written, with `--password-file`.";
    /// As it was added.
    TAPE_ENCODING_KEPT = "RW1134" "tape" Refused FailedPrecondition
        "the repository on tape was added with other settings"
        reason "Its password and its compression stay as they were added: what lies on its volumes needs the password."
        action "Add it with the same password and compression, or under another name with a drive of its own.";
    /// Where it lies now.
    COPY_DAMAGED = "RW1135" "repository" Differs DataLoss
        "the session is damaged where it lies and was not copied"
        reason "Something that it needs cannot be read as it was stored; the message says what. Nothing was recorded in the other repository: there is no session that lacks something."
        action "`restorectl session verify ID` lists all that is damaged. Copy the session from another repository that holds it, or back up the same point anew with `restorectl backup SCENARIO --at lsn:N --to NAME`.";
    /// The same twice.
    COPY_BUSY = "RW1136" "repository" Refused FailedPrecondition
        "the session is being copied there already"
        reason "Another job copies the same session into the same repository; the two would make two records of one session."
        action "Wait for that job (`restorectl job list`).";
    /// Given up as it grew old.
    THINNED = "RW1140" "journal" NotFound OutOfRange
        "the point was thinned out"
        reason "The scenario thins out older points (`thin-after`, `thin-minutes`), and this one was given up with what only it needed."
        action "Choose one of the two points next to it, which the message names.";
    /// No progress.
    THINNING_STOPPED = "RW1141" "journal" Failed Unavailable
        "thinning has stopped"
        reason "It failed several times in a row, and is tried again after some hours or a restart. Nothing is lost; space is not given back meanwhile."
        action "See to what the message names; `restorectl journal verify SCENARIO` finds damage.";
    /// Drift, or a change that capture missed.
    SCRUB_DIFFERS = "RW1145" "scenario" Differs DataLoss
        "master and replica are not the same"
        reason "A scrub read both sides and found differences. The replica was changed or has rotted, or capture had missed a change, which is captured now. Or the master has bytes that were not captured in a file whose change time is the captured one: they rotted, or were written through a memory map; the replica is left as it is."
        action "The report names them. `restorectl scenario scrub NAME --repair` puts right what the replica has wrong; what stood there stays in the journal, and what somebody put there is moved to `.NAME.rewind/kept/strange` beside the replica. What is missing there is made again if the master still has what was captured. What rotted on the master is restored from the replica (`restorectl restore`); what is right there is captured after a `touch`. Tell us of changes that capture missed.";
    /// An older daemon.
    SCRUB_NOT_SUPPORTED = "RW1146" "scenario" Refused Unimplemented
        "the master cannot be scrubbed"
        reason "The daemon of the master is of a version that answers no scrub."
        action "Bring the daemon of the master to the version of the replica, then try again.";
    /// Gone, silent, or unwilling.
    SCRUB_FAILED = "RW1147" "scenario" Failed Unavailable
        "the scrub did not come to its end"
        reason "The master did not answer, or could not; the message says why. Nothing was concluded from that."
        action "Look at `restorectl scenario status` and at the log of the daemon on the master, then scrub again.";
}
