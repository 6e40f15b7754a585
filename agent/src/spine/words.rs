//! What the transport and the membership say, in one another's words.

use skep_control::api::Presence;
use skep_node::{DialFailure, DownReason, Goodbye, Status};
use skep_transport::RefuseReason;

/// How a membership status is shown; nothing for a node that was never met.
#[must_use]
pub const fn presence(status: Status) -> Option<Presence> {
    match status {
        Status::Unmet => None,
        Status::Present => Some(Presence::Present),
        Status::Silent => Some(Presence::Silent),
        Status::Restarting => Some(Presence::Restarting),
        Status::Left => Some(Presence::Left),
    }
}

pub(super) fn down_reason(why: &skep_transport::DownReason) -> DownReason {
    use skep_transport::DownReason as Why;
    match why {
        Why::Closed | Why::Reset => DownReason::Closed,
        Why::TimedOut => DownReason::TimedOut,
        Why::Protocol(_) | Why::TooSlow => DownReason::Fault,
        Why::Local(_) => DownReason::Local,
        Why::Goodbye(text) => {
            Goodbye::from_text(text).map_or(DownReason::Closed, DownReason::Goodbye)
        }
    }
}

pub(super) fn dial_failure(why: &skep_transport::DialFailure) -> DialFailure {
    use skep_transport::DialFailure as Why;
    match why {
        Why::Refused => DialFailure::Refused,
        Why::NoAddress | Why::Overloaded | Why::Closing | Why::TimedOut | Why::Unreachable(_) => {
            DialFailure::Silent
        }
        Why::Handshake(error) => match error.reason() {
            RefuseReason::Myself => DialFailure::Ourselves,
            RefuseReason::WrongPeer
            | RefuseReason::WrongBloc
            | RefuseReason::ForeignCa
            | RefuseReason::NoProtocol
            | RefuseReason::BadCertificate => DialFailure::Stranger,
            RefuseReason::Busy
            | RefuseReason::Abandoned
            | RefuseReason::TimedOut
            | RefuseReason::Tls
            | RefuseReason::NoCertificate
            | RefuseReason::Expired
            | RefuseReason::HelloTimedOut
            | RefuseReason::HelloMalformed
            | RefuseReason::HelloMismatch
            | RefuseReason::IncompatibleVersion
            | RefuseReason::TooManyLinks
            | RefuseReason::TooManyLinksOfPeer
            | RefuseReason::TurnedAway
            | RefuseReason::Enrolment
            | RefuseReason::Closing => DialFailure::Silent,
        },
    }
}
