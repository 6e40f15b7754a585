//! Channels of applications: `serve` and `channel` (FLOOD-2).

use skep_base::{ChannelName, NodeId, NodeName};
use skep_client_port::{Joined, Refusal};
use skep_lines::code;
use tokio::sync::oneshot;

use crate::channel::ChannelError;
use crate::spine::Spine;

/// Where a client waits for its channel.
type Reply = oneshot::Sender<Result<Joined, Refusal>>;

impl Spine {
    /// A client waits for a channel, until it has one or goes.
    pub(super) fn serve_channel(&self, name: &ChannelName, mut reply: Reply) {
        let wait = match self.reach.channels().serve(name) {
            Ok(wait) => wait,
            Err(error) => return drop(reply.send(Err(refusal(&error)))),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = reply.closed() => {}
                came = wait => {
                    let came = came.map_err(|_| stopping());
                    let joined =
                        came.map(|came| Joined { node: came.from, stream: Box::new(came.stream) });
                    drop(reply.send(joined));
                }
            }
        });
    }

    /// A client opens a channel.
    pub(super) fn open_channel(&self, node: NodeName, name: ChannelName, mut reply: Reply) {
        let reach = self.reach.clone();
        let me = self.clients.me.clone();
        let id = NodeId::derive(&self.identity.current().info().bloc, &node);
        tokio::spawn(async move {
            tokio::select! {
                () = reply.closed() => {}
                opened = reach.open_channel(&me, &node, (id, &name)) => {
                    let joined = match opened {
                        Ok(stream) => Ok(Joined { node: node.clone(), stream: Box::new(stream) }),
                        Err(error) => Err(refusal(&error)),
                    };
                    drop(reply.send(joined));
                }
            }
        });
    }
}

fn refusal(error: &ChannelError) -> Refusal {
    let code = match error {
        ChannelError::Reach(_) => code::UNREACHABLE,
        ChannelError::Denied { .. } => code::NOT_FOUND,
        ChannelError::TooMany { .. } => code::BUSY,
    };
    Refusal::new(code, error.to_string())
}

fn stopping() -> Refusal {
    Refusal::new(code::GOING, "the agent stops: connect again in a moment")
}
