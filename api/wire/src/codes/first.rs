//! Codes up to RW1099, as [`super`] says; a number that is here stays here.

use super::{Code, Exit};
use tonic::Code as Grpc;

catalogue! {
    /// The scenario cannot be suspended now, or its application not quiesced.
    CANNOT_SUSPEND = "RW0457" "scenario" Refused FailedPrecondition
        "the scenario cannot be suspended, or its application not quiesced"
        reason "Only a scenario that replicates can be suspended. With `--consistent`: the quiesce hook failed, hung or died, or the barrier did not come through while the application was held; the thaw hook has run."
        action "Look at `restorectl scenario status`; run the scenario first, or wait until synchronization has completed. Correct the hook; what it wrote is in the log of the daemon on the master.";
    /// Sessions could not be made.
    BACKUP_FAILED = "RW0458" "backup" Failed Internal
        "the backup could not be made"
        reason "Making or storing the sessions failed; the message says where."
        action "See the log of the job and of the daemon, remove the cause, and try again.";
    /// The peer may not do this.
    NOT_PERMITTED = "RW0459" "api" NotPermitted PermissionDenied
        "insufficient credentials"
        reason "The daemon does not accept this user or this certificate for the call."
        action "Run the command as root or as the user of the daemon, or present a client certificate the daemon's configuration names.";
    /// The other side of the scenario cannot be reached.
    CANNOT_ATTACH = "RW0463" "scenario" Failed Unavailable
        "could not attach to the scenario"
        reason "The daemon on the master is not running, is not connected, or the network between the two sides is down."
        action "Start rewindd on the master, check its log and the network, then try again.";
    /// The scenario does not stop.
    CANNOT_STOP = "RW0464" "scenario" Failed Internal
        "the scenario could not be stopped"
        reason "Capture or apply did not come to an end."
        action "Look at `restorectl log --scenario NAME` and at the daemon's log, then try again.";
    /// Needs a scenario that replicates.
    NOT_REPLICATING = "RW0465" "scenario" Refused FailedPrecondition
        "the scenario is not in replication state"
        reason "The operation needs a scenario that replicates; this one is stopped, suspended, detached, synchronizing or in trouble."
        action "Look at `restorectl scenario status NAME`; use `scenario run` or `scenario resume`, or wait, then try again.";
    /// Not supported on that host.
    NOT_SUPPORTED_THERE = "RW0467" "scenario" Usage Unimplemented
        "the operation is not supported on this master or replica"
        reason "The host named is not one this daemon serves, or its system lacks what the operation needs."
        action "Check the host's name in `--master`, and what `restorectl scenario verify NAME` says about both sides.";
    /// A request that makes no sense.
    BAD_PARAMETERS = "RW0468" "api" Usage InvalidArgument
        "bad parameters"
        reason "A request holds a value that is missing, malformed or too large."
        action "Correct the request; if restorectl made it, the two programs differ in version: install the same version on both sides.";
    /// Took too long.
    TIMED_OUT = "RW0469" "api" TimedOut DeadlineExceeded
        "the operation timed out"
        reason "It did not finish within the time allowed, 180 s unless `--timeout` says otherwise."
        action "Find out what is slow (`restorectl scenario status NAME`, the daemon's log), then try again or raise `--timeout`.";
    /// Another job holds the scenario.
    BUSY = "RW0470" "job" Refused FailedPrecondition
        "another job is attached to the scenario"
        reason "Only one job that changes a scenario may be active at a time."
        action "Wait for the job (`restorectl job wait ID`) or cancel it, then try again.";
    /// The scenario is not configured for it.
    NOT_CONFIGURED = "RW0471" "scenario" Refused FailedPrecondition
        "the scenario is not configured for this"
        reason "The operation needs a property the scenario does not have, such as `rewind=on`."
        action "Stop the scenario, set the property with `restorectl scenario set NAME KEY=VALUE`, run it again.";
    /// Unclassified.
    INTERNAL = "RW0472" "daemon" Failed Internal
        "general error"
        reason "Something failed that has no code of its own."
        action "Look at the daemon's log; report it if it comes again.";
    /// No daemon behind the endpoint.
    UNREACHABLE = "RW1001" "client" Failed Unavailable
        "the daemon cannot be reached"
        reason "Nothing answers at the endpoint."
        action "Start rewindd, or name its endpoint with `--endpoint` or REWIND_ENDPOINT.";
    /// Unknown scenario.
    NO_SUCH_SCENARIO = "RW1002" "scenario" NotFound NotFound
        "no such scenario"
        reason "No scenario has this name."
        action "`restorectl scenario list` shows those there are.";
    /// Name is taken.
    SCENARIO_EXISTS = "RW1003" "scenario" Refused AlreadyExists
        "the scenario exists"
        reason "Names of scenarios are unique."
        action "Choose another name, or delete the scenario that has it.";
    /// Unknown bookmark.
    NO_SUCH_BOOKMARK = "RW1004" "journal" NotFound NotFound
        "no such bookmark"
        reason "No bookmark of the scenario has this name."
        action "`restorectl bookmark list SCENARIO` shows those there are.";
    /// Name is taken.
    BOOKMARK_EXISTS = "RW1005" "journal" Refused AlreadyExists
        "the bookmark exists"
        reason "Names of bookmarks are unique within a scenario."
        action "Choose another name, or delete the bookmark that has it.";
    /// Unknown job.
    NO_SUCH_JOB = "RW1006" "job" NotFound NotFound
        "no such job"
        reason "No job has this number, or it is so old that it was forgotten."
        action "`restorectl job list` shows those there are.";
    /// Not a point.
    BAD_POINT = "RW1007" "journal" Usage InvalidArgument
        "the point is not understood"
        reason "A point is a bookmark's name, `bookmark:NAME`, `lsn:N`, `lsn:N.k`, `time:RFC3339`, a time ago such as `-10m`, `now`, `last-good` or `last-good:FIRST-LAST`."
        action "Write the point in one of these forms; `restorectl points SCENARIO` lists points.";
    /// Not in the window.
    OUTSIDE_WINDOW = "RW1008" "journal" NotFound OutOfRange
        "the point is outside the window"
        reason "The point lies before the first synchronization completed, before what retention has kept, or in the future."
        action "`restorectl journal stats SCENARIO` shows the window; choose a point within it.";
    /// Not built yet.
    NOT_AVAILABLE = "RW1009" "api" Usage Unimplemented
        "not available in this version"
        reason "The type, mode or form of point is known, but this version cannot do it."
        action "Choose another one, or a later version.";
    /// The root is not there.
    NO_SUCH_ROOT = "RW1010" "scenario" NotFound NotFound
        "the root does not exist"
        reason "A root must be an existing directory on the master, and no symbolic link."
        action "Create the directory or correct the path.";
    /// Roots overlap.
    ROOTS_OVERLAP = "RW1011" "scenario" Usage InvalidArgument
        "roots overlap"
        reason "Two roots are equal or one lies inside the other, so that a change would be captured twice or a capture would feed itself."
        action "Choose roots apart from one another, and replica directories outside of every root.";
    /// Something is in the replica root.
    REPLICA_NOT_EMPTY = "RW1012" "scenario" Refused FailedPrecondition
        "the replica root is not empty"
        reason "Synchronization would overwrite what lies there."
        action "Choose an empty directory, or allow it with `--adopt`, which records undo for all it changes.";
    /// Not a name.
    BAD_NAME = "RW1013" "api" Usage InvalidArgument
        "the name cannot be used"
        reason "A scenario's name has 1 to 64 letters, digits, `-`, `_` or `.` and begins with a letter or digit; a bookmark's has 1 to 200 bytes without `:`, `/` or control characters and does not begin with `-`."
        action "Choose another name.";
    /// Unknown key or bad value.
    BAD_SETTING = "RW1014" "scenario" Usage InvalidArgument
        "the setting is not understood"
        reason "The key is unknown, cannot be changed after creation, or the value does not suit it."
        action "`restorectl scenario show NAME` shows keys and values; sizes are written `50GiB`, durations `7d`.";
    /// Only while stopped.
    NOT_STOPPED = "RW1015" "scenario" Refused FailedPrecondition
        "the scenario is not stopped"
        reason "A scenario is changed or deleted only while it is stopped."
        action "Stop it with `restorectl scenario stop NAME` first.";
    /// No points yet.
    SYNCHRONIZING = "RW1016" "scenario" Refused FailedPrecondition
        "synchronization has not completed"
        reason "Rewind points and bookmarks exist only from the end of the first synchronization."
        action "Wait until `restorectl scenario status NAME` shows `replicating`.";
    /// Rot.
    DAMAGED = "RW1017" "journal" Differs DataLoss
        "the journal is damaged"
        reason "Stored bytes are not what was written: the disk or something that writes to it is at fault."
        action "Check the disk; `restorectl journal verify SCENARIO` names each damaged place. Points behind the damage may still be read.";
    /// No room.
    DISK_FULL = "RW1018" "daemon" Failed ResourceExhausted
        "the disk is full"
        reason "A file system the daemon writes to has no room left."
        action "Make room; the scenario goes on by itself.";
    /// Two daemons.
    DATA_IN_USE = "RW1019" "daemon" Refused FailedPrecondition
        "the data directory is in use"
        reason "Another daemon runs on it."
        action "Stop the other daemon, or choose another directory.";
    /// Configuration.
    BAD_CONFIG = "RW1020" "daemon" Usage InvalidArgument
        "the configuration is not valid"
        reason "The file cannot be read, holds a key that is unknown, or a value that does not suit its key."
        action "Correct the line named; `config.example.toml` documents every key; `rewindd --config FILE --check` checks.";
    /// Certificates.
    BAD_CERTIFICATE = "RW1021" "api" NotPermitted Unauthenticated
        "no trust between client and daemon"
        reason "A certificate is missing, expired, for another name, or signed by an authority the other side does not trust."
        action "Check `--ca`, `--cert` and `--key`, the dates of the certificates, and the host name in the endpoint.";
    /// Would be open to all.
    OPEN_LISTENER = "RW1022" "daemon" Usage FailedPrecondition
        "listening there without TLS and authentication is refused"
        reason "Anybody who reaches the address could change and read every protected tree."
        action "Configure `[tls]` with certificate, key and the authority of clients, or listen on loopback or a Unix socket.";
    /// The tree was changed behind our back.
    DRIFT = "RW1023" "journal" Differs DataLoss
        "the replica tree is not as the journal says"
        reason "Something other than Rewind changed the replica tree."
        action "Find out who wrote there; `restorectl scenario stop` and `run` synchronize again and keep undo of what is replaced.";
    /// The system refused.
    IO = "RW1024" "daemon" Failed Internal
        "reading or writing failed"
        reason "The operating system refused an operation on a file."
        action "The message names file and cause; correct it and try again.";
    /// Somebody asked for it.
    CANCELLED = "RW1025" "job" Cancelled Cancelled
        "cancelled"
        reason "The job was asked to cancel and did."
        action "Start it again if it is still wanted; nothing is half done.";
    /// Nobody there to ask.
    NOT_CONFIRMED = "RW1026" "client" Usage FailedPrecondition
        "not confirmed"
        reason "The command changes or removes data, and there was no terminal to ask on, or the answer was no."
        action "Look at the plan (`--dry-run`), then give `--yes`.";
    /// Which one?
    WHICH_SCENARIO = "RW1027" "client" Usage InvalidArgument
        "which scenario?"
        reason "The scenario may be left out only where there is exactly one."
        action "Name the scenario; `restorectl scenario list` shows them.";
    /// Wrong usage.
    USAGE = "RW1028" "client" Usage InvalidArgument
        "wrong usage"
        reason "An option or argument is unknown, missing or malformed."
        action "`restorectl help` and `restorectl help COMMAND` show how it is used.";
    /// Preflight found errors.
    PREFLIGHT_FAILED = "RW1029" "scenario" Refused FailedPrecondition
        "the scenario does not pass verification"
        reason "The checks made before every start found errors."
        action "`restorectl scenario verify NAME` lists them; correct them and try again.";
    /// No such code.
    NO_SUCH_CODE = "RW1030" "client" NotFound NotFound
        "no such error code"
        reason "The catalogue of this version has no such code."
        action "`restorectl explain` without a code lists them all.";
    /// Bounded.
    TOO_MANY = "RW1031" "api" Refused ResourceExhausted
        "too much at once"
        reason "The daemon already works on as many requests or jobs as it may hold."
        action "Try again when some have finished.";
    /// No such path.
    NO_SUCH_PATH = "RW1032" "rewind" NotFound NotFound
        "no such path"
        reason "The path lies in no root of the scenario, or exists neither now nor at the point."
        action "Give an absolute path of the master below one of the roots; `restorectl points SCENARIO --path GLOB` shows what there was.";
    /// Somebody's files are there.
    TARGET_NOT_EMPTY = "RW1033" "rewind" Refused FailedPrecondition
        "the target directory is not empty"
        reason "A rewind into a directory does not overwrite what lies there."
        action "Choose an empty directory or one that does not exist.";
    /// Comparison failed.
    DIFFERS = "RW1034" "client" Differs DataLoss
        "trees that should be equal differ"
        reason "A comparison of every byte and all metadata found differences; they are listed."
        action "Keep the directory and report it: this should not happen.";
    /// Written by a newer program.
    NEWER_FORMAT = "RW1035" "journal" Failed FailedPrecondition
        "the journal was written by a newer version"
        reason "A record has a format version this program does not know."
        action "Run the version that wrote it, or a later one.";
    /// fsync failed.
    POISONED = "RW1036" "journal" Failed Internal
        "the journal takes no more writes"
        reason "An fsync failed, or the tables could not be written: what the disk holds since the last success is not known, so nothing more is taken."
        action "Check the disk, then restart the daemon: it recovers from what is known to be durable.";
    /// A master does not run what the replica sends.
    HOOKS_NOT_ALLOWED = "RW1037" "scenario" NotPermitted PermissionDenied
        "the master does not allow the hook"
        reason "A master with a replica elsewhere runs only the hooks that its own configuration allows: none, unless it says otherwise."
        action "On the master, list the command in `hooks` of [master] (`config.example.toml` shows how), and restart its rewindd.";
    /// The application may be held still.
    THAW_FAILED = "RW1038" "scenario" Failed Internal
        "the thaw hook failed"
        reason "The point was captured while the application was held, but the hook that lets it go on failed, hung or died."
        action "Make sure at once that the application goes on, then correct the hook: its output is in the log of the daemon on the master, which runs it again when it starts.";
    /// No such repository.
    NO_SUCH_REPOSITORY = "RW1050" "repository" NotFound NotFound
        "no such repository"
        reason "No repository has this name."
        action "`restorectl repository list` shows them; `restorectl repository add NAME URL` adds one.";
    /// Name taken.
    REPOSITORY_EXISTS = "RW1051" "repository" Refused AlreadyExists
        "the repository exists already"
        reason "Another repository has this name, or the same place has another name."
        action "Choose another name, or use the repository that is there.";
    /// Not an address.
    BAD_URL = "RW1052" "repository" Usage InvalidArgument
        "the address is not understood"
        reason "The address names no kind of store that this version knows, or misses a part."
        action "Write file:///DIR, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX.";
    /// Password.
    WRONG_PASSWORD = "RW1053" "repository" NotPermitted PermissionDenied
        "the password opens no key of the repository"
        reason "The password is wrong, or its key was removed."
        action "Give the right password with --password-file; without one of its passwords nobody can read a repository.";
    /// Does not answer.
    STORE_UNAVAILABLE = "RW1054" "repository" Failed Unavailable
        "the store does not answer"
        reason "The store cannot be reached, or answers with failures; calls have been repeated for a while."
        action "Check the address, the network and the store, then try again: a backup goes on where it was.";
    /// Rights.
    STORE_NOT_PERMITTED = "RW1055" "repository" NotPermitted PermissionDenied
        "the store does not permit it"
        reason "Credentials are missing or wrong, or do not allow the operation."
        action "Give the daemon credentials in its environment or in the files that docs/stores.md names.";
    /// Room.
    STORE_FULL = "RW1056" "repository" Failed ResourceExhausted
        "the store is full"
        reason "The file system or the quota of the store has no room left."
        action "Make room (`forget` and `prune` give space back), then try again.";
    /// Lock.
    REPOSITORY_LOCKED = "RW1057" "repository" Refused FailedPrecondition
        "the repository is locked"
        reason "Another program works on the repository alone, and its lock is not stale."
        action "Wait until it has ended; `restorectl repository stats NAME` shows the locks, and `restorectl repository unlock NAME` removes those whose holders are gone.";
    /// Rot.
    REPOSITORY_DAMAGED = "RW1058" "repository" Differs DataLoss
        "the repository is damaged"
        reason "Stored bytes are not what was written; the message names the object."
        action "Keep a copy of it; `restorectl repository check NAME --read-data` lists what is damaged; a new backup stores again what is missing.";
    /// Version.
    REPOSITORY_VERSION = "RW1059" "repository" Failed FailedPrecondition
        "the repository has a version that is not known"
        reason "Its config names a format version this program does not read."
        action "Use a program that does, or another repository.";
    /// Unknown session.
    NO_SUCH_SESSION = "RW1070" "restore" NotFound NotFound
        "no such session"
        reason "No session of the repositories has this id, or it was forgotten."
        action "`restorectl session list` shows those this daemon made; of others the repository must have been added.";
    /// Short ids.
    SESSION_AMBIGUOUS = "RW1071" "restore" Usage InvalidArgument
        "the session's id is ambiguous"
        reason "More than one session has an id that begins so."
        action "Give more digits of the id.";
    /// In the way.
    WOULD_OVERWRITE = "RW1072" "restore" Refused FailedPrecondition
        "the restore would overwrite what is there"
        reason "Objects stand where the session would be written, and the rule is `fail`, or something that is no directory stands above them. Nothing was written."
        action "Choose another directory, or say with `--if-exists` what shall become of what is there; `--dry-run` lists it.";
    /// A tree of ours.
    TARGET_REFUSED = "RW1073" "restore" Refused FailedPrecondition
        "the directory cannot be restored into"
        reason "It lies in or around a tree that Rewind keeps, a protected one or the daemon's own, or the same restore into it is running."
        action "Choose another directory; `--onto replica` and `--onto master` restore into the scenario's own trees.";
    /// The system or the target failed.
    RESTORE_FAILED = "RW1074" "restore" Failed Internal
        "the restore could not be made"
        reason "Reading the session or writing the target failed; the message says where. What was written is whole and stays."
        action "Remove the cause and start the same restore again: it goes on from what is there.";
    /// Compared and different.
    VERIFICATION_FAILED = "RW1075" "restore" Differs DataLoss
        "the verification found damage"
        reason "Something that was read is not what was stored or written; it is listed."
        action "Check the disks; `restorectl session verify ID` looks at the session, `restic check --read-data` at its repository.";
    /// Bounded.
    QUERY_TOO_LARGE = "RW1076" "restore" Refused ResourceExhausted
        "the query finds too much for one restore"
        reason "A restore by query remembers each path; 10,000 paths, 750 KiB of them and 300,000 matches are the most. Directories that match count once, with all below them."
        action "Narrow it (--scenario, --master, --since, --size, a longer pattern) and restore in several steps, or restore the directory with `restorectl restore tree`.";
    /// Not what was shown.
    QUERY_CHANGED = "RW1077" "restore" Refused Aborted
        "the query finds something else than the plan showed"
        reason "A session was added or forgotten, or files went or came back, between the plan and the start. Nothing was restored."
        action "Give the command again and look at the new plan.";
    /// Removing by what is not complete.
    SESSION_LACKS = "RW1078" "restore" Refused FailedPrecondition
        "the session lacks objects"
        reason "Some objects could not be read when the session was made. Removing what it does not hold would remove them too, maybe their last copies."
        action "Restore without `--delete`, or from a session that missed nothing: `restorectl session list` shows what each one missed.";
    /// Place.
    REPOSITORY_OVERLAPS = "RW1080" "repository" Refused FailedPrecondition
        "the repository lies in a place that is used for something else"
        reason "A directory that is protected, replicated into or used by the daemon must not hold a repository, nor lie in one: each would store, overwrite or remove the other."
        action "Choose a directory of its own, on another disk if there is one.";
    /// Retention.
    EMPTY_POLICY = "RW1081" "repository" Usage InvalidArgument
        "the retention would keep nothing"
        reason "Without a rule that keeps sessions every one of them would be forgotten."
        action "Give at least one of --keep-last, --keep-hourly, --keep-daily, --keep-weekly, --keep-monthly, --keep-yearly and --keep-within.";
    /// Between plan and job.
    PLAN_CHANGED = "RW1082" "repository" Refused FailedPrecondition
        "the plan changed after it was confirmed"
        reason "Sessions came or went meanwhile, and one that was not shown would be forgotten now. Nothing was forgotten."
        action "Start the same command again and look at the new plan.";
    /// Not a pattern.
    BAD_PATTERN = "RW1090" "catalog" Usage InvalidArgument
        "the pattern is not understood"
        reason "The text is no glob, or with --regex no regular expression, or it is too long or too complex."
        action "Correct the pattern at the place that the message names; quote it, so that the shell leaves it alone.";
    /// Found nothing.
    NOTHING_MATCHES = "RW1091" "client" NotFound NotFound
        "nothing matches"
        reason "No session and no point of the window holds a path that passes the pattern and the filters."
        action "Look for less: a piece of the name without wildcards, fewer filters.";
    /// Id of a snapshot.
    NO_SUCH_SNAPSHOT = "RW1093" "snapshot" NotFound NotFound
        "no such snapshot"
        reason "No snapshot has this id; those of backups make room for newer ones."
        action "`restorectl snapshot list` shows those there are.";
    /// FUSE.
    MOUNT_FAILED = "RW1094" "snapshot" Failed FailedPrecondition
        "the point cannot be mounted"
        reason "The directory is not there or cannot be used, or the kernel allows no FUSE file system here."
        action "Mount at an existing directory, with /dev/fuse at hand and the rights to mount; after a crash of the daemon `umount` what it left.";
}
