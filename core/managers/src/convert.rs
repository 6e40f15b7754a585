//! Between the engine's structures and ours. The engine's own encoding is used for configuration
//! changes only, and only on bytes that were made here.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry as PbEntry, EntryType,
    HardState, Message as PbMessage, MessageType, Snapshot,
};
use skep_base::NodeId;
use skep_wire::{decode, encode};

use crate::id::RaftId;
use crate::message::EngineBody;
use crate::stored::{ChangeKind, Conf, Entry, Payload, Voter};

/// What the engine marks a vote with that a transfer asked for.
const TRANSFER: &[u8] = b"CampaignTransfer";

pub(crate) type Changes = Vec<(ChangeKind, RaftId, NodeId)>;

pub(crate) fn conf_change(changes: &Changes) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    let singles = changes.iter().map(|(kind, raft, _)| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match kind {
            ChangeKind::Voter => ConfChangeType::AddNode,
            ChangeKind::Learner => ConfChangeType::AddLearnerNode,
            ChangeKind::Remove => ConfChangeType::RemoveNode,
        });
        single.node_id = raft.0;
        single
    });
    change.set_changes(singles.collect::<Vec<_>>().into());
    change
}

pub(crate) fn to_engine(entry: &Entry) -> PbEntry {
    let mut out = PbEntry { index: entry.index, term: entry.term, ..PbEntry::default() };
    match &entry.payload {
        Payload::Empty => {}
        Payload::Record(bytes) => out.data = bytes.clone(),
        Payload::Change(changes) => {
            out.set_entry_type(EntryType::EntryConfChangeV2);
            if !changes.is_empty() {
                let bytes = conf_change(changes).write_to_bytes().unwrap_or_default();
                out.data = bytes.into();
                out.context = encode(changes).into();
            }
        }
    }
    out
}

pub(crate) fn from_engine(entry: &PbEntry) -> Entry {
    let payload = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => Payload::Empty,
        EntryType::EntryNormal => Payload::Record(entry.data.clone()),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            Payload::Change(decode("changes", &entry.context).unwrap_or_default())
        }
    };
    Entry { index: entry.index, term: entry.term, payload }
}

pub(crate) fn hard_state(voter: &Voter) -> HardState {
    HardState { term: voter.term, vote: voter.vote.0, commit: voter.commit, ..HardState::default() }
}

pub(crate) fn conf_state(conf: &Conf) -> ConfState {
    let plain = |ids: &[RaftId]| ids.iter().map(|id| id.0).collect::<Vec<u64>>();
    ConfState {
        voters: plain(&conf.voters),
        learners: plain(&conf.learners),
        voters_outgoing: plain(&conf.outgoing),
        learners_next: plain(&conf.learners_next),
        auto_leave: conf.auto_leave,
        ..ConfState::default()
    }
}

pub(crate) fn conf(state: &ConfState) -> Conf {
    let ours = |ids: &[u64]| {
        let mut ids: Vec<RaftId> = ids.iter().map(|id| RaftId(*id)).collect();
        ids.sort_unstable();
        ids
    };
    Conf {
        voters: ours(&state.voters),
        learners: ours(&state.learners),
        outgoing: ours(&state.voters_outgoing),
        learners_next: ours(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

/// What a message of the engine says, but a snapshot's, which the caller makes.
pub(crate) fn body_of(message: &PbMessage, beat: u64) -> Option<EngineBody> {
    let (index, log_term, commit) = (message.index, message.log_term, message.commit);
    let commit_term = message.commit_term;
    Some(match message.get_msg_type() {
        MessageType::MsgAppend => {
            let entries = message.entries.iter().map(from_engine).collect();
            EngineBody::Append { index, log_term, commit, entries }
        }
        MessageType::MsgAppendResponse if message.reject => EngineBody::AppendRefused {
            index,
            hint: message.reject_hint,
            hint_term: log_term,
            commit,
        },
        MessageType::MsgAppendResponse => EngineBody::Appended { index, commit },
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => EngineBody::Vote {
            pre: kind == MessageType::MsgRequestPreVote,
            index,
            log_term,
            commit,
            commit_term,
            transfer: message.context == TRANSFER,
        },
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            EngineBody::Voted {
                pre: kind == MessageType::MsgRequestPreVoteResponse,
                granted: !message.reject,
                commit,
                commit_term,
            }
        }
        MessageType::MsgHeartbeat => EngineBody::Heartbeat { commit, beat },
        MessageType::MsgHeartbeatResponse => EngineBody::HeartbeatReply { commit, beat },
        MessageType::MsgTimeoutNow => EngineBody::TimeoutNow,
        MessageType::MsgSnapshot
        | MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => return None,
    })
}

/// The engine's message of a body that was found good. A snapshot's comes from its image.
pub(crate) fn message_of(body: &EngineBody, from: RaftId, to: RaftId, term: u64) -> PbMessage {
    let mut out = PbMessage { from: from.0, to: to.0, term, ..PbMessage::default() };
    let pick = |pre, one, other| if pre { one } else { other };
    match body {
        EngineBody::Append { index, log_term, commit, entries } => {
            out.set_msg_type(MessageType::MsgAppend);
            (out.index, out.log_term, out.commit) = (*index, *log_term, *commit);
            out.set_entries(entries.iter().map(to_engine).collect::<Vec<_>>().into());
        }
        EngineBody::Appended { index, commit } => {
            out.set_msg_type(MessageType::MsgAppendResponse);
            (out.index, out.commit) = (*index, *commit);
        }
        EngineBody::AppendRefused { index, hint, hint_term, commit } => {
            out.set_msg_type(MessageType::MsgAppendResponse);
            out.reject = true;
            (out.index, out.reject_hint, out.log_term) = (*index, *hint, *hint_term);
            out.commit = *commit;
        }
        EngineBody::Vote { pre, index, log_term, commit, commit_term, transfer } => {
            let (one, other) = (MessageType::MsgRequestPreVote, MessageType::MsgRequestVote);
            out.set_msg_type(pick(*pre, one, other));
            (out.index, out.log_term) = (*index, *log_term);
            (out.commit, out.commit_term) = (*commit, *commit_term);
            if *transfer {
                out.context = Bytes::from_static(TRANSFER);
            }
        }
        EngineBody::Voted { pre, granted, commit, commit_term } => {
            let one = MessageType::MsgRequestPreVoteResponse;
            out.set_msg_type(pick(*pre, one, MessageType::MsgRequestVoteResponse));
            out.reject = !granted;
            (out.commit, out.commit_term) = (*commit, *commit_term);
        }
        EngineBody::Heartbeat { commit, .. } => {
            out.set_msg_type(MessageType::MsgHeartbeat);
            out.commit = *commit;
        }
        EngineBody::HeartbeatReply { commit, .. } => {
            out.set_msg_type(MessageType::MsgHeartbeatResponse);
            out.commit = *commit;
        }
        EngineBody::TimeoutNow | EngineBody::Snapshot { .. } => {
            out.set_msg_type(MessageType::MsgTimeoutNow);
        }
    }
    out
}

pub(crate) fn snapshot_of(index: u64, term: u64, conf: &Conf, image: Bytes) -> Snapshot {
    let mut snapshot = Snapshot { data: image, ..Snapshot::default() };
    let head = snapshot.mut_metadata();
    (head.index, head.term) = (index, term);
    head.set_conf_state(conf_state(conf));
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_from_the_engine_as_they_were() {
        let node = NodeId::from_bytes([1; 16]);
        let payloads = [
            Payload::Empty,
            Payload::Record(Bytes::from_static(b"x")),
            Payload::Change(Vec::new()),
            Payload::Change(vec![
                (ChangeKind::Remove, RaftId(7), node),
                (ChangeKind::Voter, RaftId(8), node),
            ]),
        ];
        for payload in payloads {
            let entry = Entry { index: 4, term: 2, payload };
            assert_eq!(from_engine(&to_engine(&entry)), entry);
        }
    }
}
