//! Control messages to and from their generated form. Values are checked on receipt; texts for people are cut, not
//! refused, when sent.

use super::ask::{CURSOR_BYTES_MAX, answer_from};
use super::command::{command_from, outcome_from};
use super::control::{
    AgentState, Assignment, AutoResync, Batch, Definition, Dial, Failed, FromMaster, FromReplica, Hello,
    MasterStatus, NamespaceEntry, NamespacePage, Progress, Reason, Refused, RootDefinition, SkippedName,
    SpoolState, SyncMode, Synchronization, Welcome,
};
use super::event::{
    meta_from, meta_into, meta_ok, name_from, node_ok, origin_from, root, what_from, what_into,
};
use super::{ConvertError, JournalId, LIST_MAX, MeetingId, NAMESPACE_ENTRIES_MAX, PATH_BYTES_MAX};
use super::{at_most, clip, count_field, proto, required, text};
use bytes::Bytes;
use journal::{Lsn, NodeId, Timestamp};
use prost::Message;

/// Number of `entries` in `message NamespaceEntries`.
const ENTRIES_TAG: u32 = 1;

pub(super) fn unknown(field: &'static str, value: i32) -> ConvertError {
    ConvertError::Unknown { field, value: i64::from(value) }
}

fn journal_id(bytes: &Bytes) -> Result<JournalId, ConvertError> {
    let bytes = bytes.as_ref().try_into();
    bytes.map(JournalId).map_err(|_| ConvertError::Invalid { field: "journal", what: "not 16 bytes" })
}

fn meeting(bytes: &Bytes) -> Result<MeetingId, ConvertError> {
    let bytes = bytes.as_ref().try_into();
    bytes.map(MeetingId).map_err(|_| ConvertError::Invalid { field: "meeting", what: "not 16 bytes" })
}

/// Two enumerations that are the same, one of them with an unspecified value.
macro_rules! same_enum {
    ($ours:ident, $field:literal, $($value:ident),+) => {
        impl From<$ours> for proto::$ours {
            fn from(value: $ours) -> Self {
                match value { $($ours::$value => proto::$ours::$value),+ }
            }
        }
        impl $ours {
            pub(super) fn from_wire(value: i32) -> Result<Self, ConvertError> {
                match proto::$ours::try_from(value) {
                    $(Ok(proto::$ours::$value) => Ok($ours::$value),)+
                    Ok(proto::$ours::Unspecified) | Err(_) => Err(unknown($field, value)),
                }
            }
        }
    };
}

same_enum!(Synchronization, "synchronization", Never, Begun, Completed, Again);
same_enum!(AutoResync, "auto_resync", Ask, Always, Never);
same_enum!(SpoolState, "spool", Memory, Disk, NearFull, Full);
same_enum!(AgentState, "agent", Stopped, Starting, Synchronizing, Capturing, Rescanning, Problem);
same_enum!(SyncMode, "mode", File, Block);
same_enum!(
    Reason,
    "reason",
    UnknownScenario,
    OtherHost,
    NotAuthorized,
    ProtocolVersion,
    Protocol,
    LostAcknowledged,
    OtherHistory,
    Journal,
    Superseded,
    Unavailable,
    JournalDamaged,
    Diverged
);

impl From<Hello> for proto::Hello {
    fn from(hello: Hello) -> Self {
        proto::Hello {
            protocol: hello.protocol,
            scenario: hello.scenario,
            name: hello.name,
            host: hello.host,
            journal: hello.journal.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0)),
            acknowledged: hello.acknowledged.captured,
            captured: hello.captured.map(|lsn| lsn.captured),
            index_clean_at: hello.index_clean_at.map(|lsn| lsn.captured),
            meeting: hello.meeting.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0)),
            life: hello.dial.life,
            dial: hello.dial.number,
            features: hello.features,
        }
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(hello: proto::Hello) -> Result<Self, ConvertError> {
        Ok(Hello {
            protocol: hello.protocol,
            scenario: hello.scenario,
            name: text("name", hello.name)?,
            host: text("host", hello.host)?,
            journal: if hello.journal.is_empty() { None } else { Some(journal_id(&hello.journal)?) },
            acknowledged: Lsn::captured(hello.acknowledged),
            captured: hello.captured.map(Lsn::captured),
            index_clean_at: hello.index_clean_at.map(Lsn::captured),
            meeting: if hello.meeting.is_empty() { None } else { Some(meeting(&hello.meeting)?) },
            dial: Dial { life: hello.life, number: hello.dial },
            features: hello.features,
        })
    }
}

impl From<Welcome> for proto::Welcome {
    fn from(welcome: Welcome) -> Self {
        proto::Welcome {
            protocol: welcome.protocol,
            journal: Bytes::copy_from_slice(&welcome.journal.0),
            journaled: welcome.journaled.captured,
            parts: welcome.parts,
            journaled_time: welcome.journaled_time.0,
            next_node: welcome.next_node.0,
            incarnation: welcome.incarnation,
            meeting: Bytes::copy_from_slice(&welcome.meeting.0),
            synchronization: proto::Synchronization::from(welcome.synchronization) as i32,
            suspended: welcome.suspended,
            running: welcome.running,
            definition: Some(welcome.definition.into()),
        }
    }
}

impl TryFrom<proto::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: proto::Welcome) -> Result<Self, ConvertError> {
        if welcome.next_node < NodeId::FIRST_FREE.0 {
            return Err(ConvertError::Invalid { field: "next_node", what: "below the first free id" });
        }
        Ok(Welcome {
            protocol: welcome.protocol,
            journal: journal_id(&welcome.journal)?,
            journaled: Lsn::captured(welcome.journaled),
            parts: welcome.parts,
            journaled_time: Timestamp(welcome.journaled_time),
            next_node: NodeId(welcome.next_node),
            incarnation: welcome.incarnation,
            meeting: meeting(&welcome.meeting)?,
            synchronization: Synchronization::from_wire(welcome.synchronization)?,
            suspended: welcome.suspended,
            running: welcome.running,
            definition: required("definition", welcome.definition)?.try_into()?,
        })
    }
}

impl From<Definition> for proto::Definition {
    fn from(definition: Definition) -> Self {
        let root =
            |root: RootDefinition| proto::RootDefinition { root: root.root.0.into(), path: root.path.into() };
        proto::Definition {
            scenario: definition.scenario,
            name: definition.name,
            roots: definition.roots.into_iter().map(root).collect(),
            excludes: definition.excludes,
            auto_resync: proto::AutoResync::from(definition.auto_resync) as i32,
            spool_bytes_max: definition.spool_bytes_max,
            settings: definition
                .settings
                .into_iter()
                .map(|(key, value)| proto::Setting { key, value })
                .collect(),
        }
    }
}

impl TryFrom<proto::Definition> for Definition {
    type Error = ConvertError;

    fn try_from(definition: proto::Definition) -> Result<Self, ConvertError> {
        at_most("roots", definition.roots.len(), LIST_MAX)?;
        at_most("excludes", definition.excludes.len(), LIST_MAX)?;
        at_most("settings", definition.settings.len(), LIST_MAX)?;
        let root = |root: proto::RootDefinition| {
            at_most("root path", root.path.len(), PATH_BYTES_MAX)?;
            if root.path.first() != Some(&b'/') || root.path.contains(&0) {
                return Err(ConvertError::Invalid { field: "root path", what: "not an absolute path" });
            }
            Ok(RootDefinition { root: super::event::root(root.root)?, path: root.path.to_vec() })
        };
        let setting = |s: proto::Setting| Ok((text("key", s.key)?, text("value", s.value)?));
        Ok(Definition {
            scenario: definition.scenario,
            name: text("name", definition.name)?,
            roots: definition.roots.into_iter().map(root).collect::<Result<_, ConvertError>>()?,
            excludes: definition
                .excludes
                .into_iter()
                .map(|glob| text("exclude", glob))
                .collect::<Result<_, _>>()?,
            auto_resync: AutoResync::from_wire(definition.auto_resync)?,
            spool_bytes_max: definition.spool_bytes_max,
            settings: definition.settings.into_iter().map(setting).collect::<Result<_, ConvertError>>()?,
        })
    }
}

impl From<MasterStatus> for proto::MasterStatus {
    fn from(status: MasterStatus) -> Self {
        proto::MasterStatus {
            captured: status.captured.captured,
            acknowledged: status.acknowledged.captured,
            spool_memory_bytes: status.spool_memory_bytes,
            spool_disk_bytes: status.spool_disk_bytes,
            spool: proto::SpoolState::from(status.spool) as i32,
            agent: proto::AgentState::from(status.agent) as i32,
            gaps_open: status.gaps_open,
            time: status.time.0,
            cause: clip(&status.cause),
            files_done: status.files.0,
            files_total: status.files.1,
            bytes_done: status.bytes.0,
            bytes_total: status.bytes.1,
        }
    }
}

impl TryFrom<proto::MasterStatus> for MasterStatus {
    type Error = ConvertError;

    fn try_from(status: proto::MasterStatus) -> Result<Self, ConvertError> {
        Ok(MasterStatus {
            captured: Lsn::captured(status.captured),
            acknowledged: Lsn::captured(status.acknowledged),
            spool_memory_bytes: status.spool_memory_bytes,
            spool_disk_bytes: status.spool_disk_bytes,
            spool: SpoolState::from_wire(status.spool)?,
            agent: AgentState::from_wire(status.agent)?,
            gaps_open: status.gaps_open,
            time: Timestamp(status.time),
            cause: text("cause", status.cause)?,
            files: (status.files_done, status.files_total),
            bytes: (status.bytes_done, status.bytes_total),
        })
    }
}

impl From<Failed> for proto::Failed {
    fn from(failed: Failed) -> Self {
        proto::Failed { code: clip(&failed.code), text: clip(&failed.text) }
    }
}

impl TryFrom<proto::Failed> for Failed {
    type Error = ConvertError;

    fn try_from(failed: proto::Failed) -> Result<Self, ConvertError> {
        Ok(Failed { code: text("code", failed.code)?, text: text("text", failed.text)? })
    }
}

impl From<NamespacePage> for proto::NamespacePage {
    fn from(page: NamespacePage) -> Self {
        let entry = |entry: NamespaceEntry| {
            let (parent, name) = match &entry.at {
                Some((parent, name)) => (parent.0, Bytes::copy_from_slice(name.as_bytes())),
                None => (0, Bytes::new()),
            };
            proto::NamespaceEntry {
                node: entry.node.0,
                parent,
                name,
                meta: Some(meta_into(&entry.meta)),
                origin: entry.origin.as_ref().map(super::event::origin_into),
                content_known: entry.content_known,
            }
        };
        let entries = proto::NamespaceEntries { entries: page.entries.into_iter().map(entry).collect() };
        proto::NamespacePage {
            entries: entries.encode_to_vec().into(),
            next: page.next.unwrap_or_default(),
            at: page.at.captured,
            synchronized: page.synchronized,
            skipped: page.skipped.into_iter().map(skipped_into).collect(),
        }
    }
}

impl TryFrom<proto::NamespacePage> for NamespacePage {
    type Error = ConvertError;

    fn try_from(page: proto::NamespacePage) -> Result<Self, ConvertError> {
        at_most("next", page.next.len(), CURSOR_BYTES_MAX)?;
        at_most("entries", count_field(&page.entries, ENTRIES_TAG)?, NAMESPACE_ENTRIES_MAX)?;
        at_most("skipped", page.skipped.len(), LIST_MAX)?;
        let entries = proto::NamespaceEntries::decode(page.entries)?.entries;
        Ok(NamespacePage {
            entries: entries.into_iter().map(entry_from).collect::<Result<_, _>>()?,
            next: (!page.next.is_empty()).then_some(page.next),
            at: Lsn::captured(page.at),
            synchronized: page.synchronized,
            skipped: page.skipped.into_iter().map(skipped_from).collect::<Result<_, _>>()?,
        })
    }
}

fn skipped_into(skipped: SkippedName) -> proto::Skipped {
    proto::Skipped {
        root: u32::from(skipped.root.0),
        path: skipped.path.into(),
        what: what_into(skipped.what) as i32,
        errno: skipped.errno,
    }
}

fn skipped_from(skipped: proto::Skipped) -> Result<SkippedName, ConvertError> {
    at_most("path", skipped.path.len(), PATH_BYTES_MAX)?;
    Ok(SkippedName {
        root: root(skipped.root)?,
        path: skipped.path.to_vec(),
        what: what_from(skipped.what)?,
        errno: skipped.errno,
    })
}

fn entry_from(entry: proto::NamespaceEntry) -> Result<NamespaceEntry, ConvertError> {
    let node = NodeId(entry.node);
    node_ok(node)?;
    let at = if node < NodeId::FIRST_FREE && entry.name.is_empty() {
        None
    } else {
        node_ok(NodeId(entry.parent))?;
        Some((NodeId(entry.parent), name_from(&entry.name)?))
    };
    let meta = meta_from(entry.meta)?;
    meta_ok(&meta)?;
    let origin = entry.origin.map(origin_from);
    Ok(NamespaceEntry { node, at, meta, origin, content_known: entry.content_known })
}

impl From<FromMaster> for proto::MasterMessage {
    fn from(message: FromMaster) -> Self {
        use proto::master_message::Message as M;
        let message = match message {
            FromMaster::Hello(hello) => M::Hello(hello.into()),
            FromMaster::Batch(Batch { before, parts }) => M::Batch(proto::Batch { parts, before }),
            FromMaster::Status(status) => M::Status(status.into()),
            FromMaster::Reply(id, outcome) => M::Reply((id, outcome).into()),
            FromMaster::Request(id, request) => {
                M::Request(proto::Request { id, request: Some(request.into()) })
            }
        };
        proto::MasterMessage { message: Some(message) }
    }
}

impl TryFrom<proto::MasterMessage> for FromMaster {
    type Error = ConvertError;

    fn try_from(message: proto::MasterMessage) -> Result<Self, ConvertError> {
        use proto::master_message::Message as M;
        Ok(match required("message", message.message)? {
            M::Hello(hello) => FromMaster::Hello(hello.try_into()?),
            M::Batch(batch) => FromMaster::Batch(Batch { before: batch.before, parts: batch.parts }),
            M::Status(status) => FromMaster::Status(status.try_into()?),
            M::Reply(reply) => {
                FromMaster::Reply(reply.id, outcome_from(required("outcome", reply.outcome)?)?)
            }
            M::Request(request) => {
                FromMaster::Request(request.id, required("request", request.request)?.try_into()?)
            }
        })
    }
}

impl From<FromReplica> for proto::ReplicaMessage {
    fn from(message: FromReplica) -> Self {
        use proto::replica_message::Message as M;
        let message = match message {
            FromReplica::Welcome(welcome) => M::Welcome((*welcome).into()),
            FromReplica::Refused(refused) => M::Refused(proto::Refused {
                reason: proto::Reason::from(refused.reason) as i32,
                text: clip(&refused.text),
            }),
            FromReplica::Ack(progress) => M::Ack(proto::Ack {
                journaled: progress.journaled.captured,
                durable_parts: progress.durable_parts,
                taken_bytes: progress.taken_bytes,
            }),
            FromReplica::Applied(lsn) => {
                M::Applied(proto::Applied { captured: lsn.captured, local: lsn.local })
            }
            FromReplica::Command(id, command) => M::Command((id, command).into()),
            FromReplica::Response(id, answer) => M::Response((id, answer).into()),
        };
        proto::ReplicaMessage { message: Some(message) }
    }
}

impl TryFrom<proto::ReplicaMessage> for FromReplica {
    type Error = ConvertError;

    fn try_from(message: proto::ReplicaMessage) -> Result<Self, ConvertError> {
        use proto::replica_message::Message as M;
        Ok(match required("message", message.message)? {
            M::Welcome(welcome) => FromReplica::Welcome(Box::new(welcome.try_into()?)),
            M::Refused(refused) => FromReplica::Refused(Refused {
                reason: Reason::from_wire(refused.reason)?,
                text: text("text", refused.text)?,
            }),
            M::Ack(ack) => FromReplica::Ack(Progress {
                journaled: Lsn::captured(ack.journaled),
                durable_parts: ack.durable_parts,
                taken_bytes: ack.taken_bytes,
            }),
            M::Applied(applied) => FromReplica::Applied(Lsn::local(applied.captured, applied.local)),
            M::Command(command) => {
                FromReplica::Command(command.id, command_from(required("command", command.command)?)?)
            }
            M::Response(response) => {
                let (id, answer) = answer_from(response)?;
                FromReplica::Response(id, answer)
            }
        })
    }
}

impl From<Vec<Assignment>> for proto::AssignmentList {
    fn from(assignments: Vec<Assignment>) -> Self {
        let assignment = |a: Assignment| {
            let Assignment { scenario, name, spool_bytes_max } = a;
            proto::Assignment { scenario, name, spool_bytes_max }
        };
        proto::AssignmentList { assignments: assignments.into_iter().map(assignment).collect() }
    }
}

impl TryFrom<proto::AssignmentList> for Vec<Assignment> {
    type Error = ConvertError;

    fn try_from(list: proto::AssignmentList) -> Result<Self, ConvertError> {
        at_most("assignments", list.assignments.len(), LIST_MAX)?;
        let assignment = |a: proto::Assignment| {
            let proto::Assignment { scenario, name, spool_bytes_max } = a;
            Ok(Assignment { scenario, name: text("name", name)?, spool_bytes_max })
        };
        list.assignments.into_iter().map(assignment).collect()
    }
}
