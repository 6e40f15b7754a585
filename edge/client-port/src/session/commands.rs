//! What a client wants, but for updates.

use skep_base::GroupName;
use skep_lines::{Command, CommandError, Reply, Subscribe, code};

use super::push::Subscription;
use super::{MAX_SUBSCRIPTIONS, Session};
use crate::answer;
use crate::backend::{Ask, Pusher};
use crate::channel::Wanted;
use crate::server::Counts;

impl Session {
    pub(super) async fn command(&mut self, command: Command) {
        Counts::add(&self.shared.counts.commands, 1);
        match command {
            Command::Data(publish) => self.expect(Ok(publish), None),
            Command::Binary { size, publish } => self.expect(Ok(publish), Some(size)),
            Command::Help => self.say(answer::help()),
            Command::Noop => self.say(Reply::new(code::DONE, "still here")),
            Command::Quit => {
                self.say(Reply::new(code::CLOSING, "good-bye"));
                self.closing = true;
            }
            channel @ (Command::Serve { .. } | Command::Channel { .. }) => {
                self.send_batch().await;
                self.want(channel).await;
            }
            other @ (Command::Group(_)
            | Command::Groups
            | Command::Statistics
            | Command::Topology(_)
            | Command::Nearest
            | Command::Subscribe(_)
            | Command::Ack { .. }
            | Command::Unsubscribe(_)
            | Command::Forget { .. }
            | Command::Exit) => {
                // The agent is asked in the order of the commands.
                self.send_batch().await;
                self.question(other).await;
            }
        }
    }

    /// The connection is to become a channel.
    pub(super) async fn want(&mut self, command: Command) {
        if !self.subscriptions.is_empty() {
            let text = "you are subscribed: open the channel over a connection of its own";
            return self.say(Reply::new(code::SEQUENCE, text));
        }
        if let Some((wanted, ask)) = Wanted::of(command) {
            self.wanted = Some(wanted);
            self.ask(ask).await;
        }
    }

    pub(super) async fn question(&mut self, command: Command) {
        let client = self.id;
        let ask = match command {
            Command::Group(group) => Ask::Group { group, slot: self.slot(None) },
            Command::Groups => Ask::Groups(self.slot(None)),
            Command::Statistics => Ask::Statistics(self.slot(None)),
            Command::Topology(group) => Ask::Topology { group, slot: self.slot(None) },
            Command::Nearest => Ask::Nearest(self.slot(None)),
            Command::Subscribe(subscribe) => {
                if let Some(refusal) = self.may_subscribe(&subscribe) {
                    return self.say(refusal);
                }
                let reply = self.first + self.replies.len() as u64;
                let named = subscribe.name.is_some();
                let subscription = Subscription { reply, named, given: 0, owed: false };
                self.subscriptions.insert(subscribe.group.clone(), subscription);
                let pusher = Pusher::new(self.notes_in.clone(), reply);
                Ask::Subscribe { client, subscribe, pusher, slot: self.slot(None) }
            }
            Command::Ack { group, cursor } => {
                if let Some(refusal) = self.may_ack(&group, cursor) {
                    return self.say(refusal);
                }
                Ask::Ack { client, group, cursor, slot: Some(self.slot(None)) }
            }
            Command::Unsubscribe(group) => {
                if self.subscriptions.remove(&group).is_none() {
                    let text = format!("you are not subscribed to {group}");
                    return self.say(Reply::new(code::SEQUENCE, text));
                }
                Ask::Unsubscribe { client, group, slot: Some(self.slot(None)) }
            }
            Command::Forget { group, name } => Ask::Forget { group, name, slot: self.slot(None) },
            Command::Exit if !(self.shared.host.may_exit)(&self.who) => {
                tracing::warn!(client = %self.who, "a client asked us to exit, and may not");
                let text = "this agent's configuration does not let you: see client.exit_allowed";
                return self.say(Reply::new(code::DENIED, text));
            }
            Command::Exit => Ask::Exit { who: self.who.clone(), slot: self.slot(None) },
            Command::Data(_)
            | Command::Binary { .. }
            | Command::Serve { .. }
            | Command::Channel { .. }
            | Command::Help
            | Command::Noop
            | Command::Quit => return,
        };
        self.ask(ask).await;
    }

    pub(super) fn may_subscribe(&self, subscribe: &Subscribe) -> Option<Reply> {
        let group = &subscribe.group;
        if self.subscriptions.contains_key(group) {
            let text = format!("you are subscribed to {group} already");
            return Some(Reply::new(code::SEQUENCE, text));
        }
        (self.subscriptions.len() >= MAX_SUBSCRIPTIONS).then(|| {
            let text =
                format!("a client may have {MAX_SUBSCRIPTIONS} subscriptions: connect twice");
            Reply::new(code::BUSY, text)
        })
    }

    pub(super) fn may_ack(&self, group: &GroupName, cursor: u64) -> Option<Reply> {
        let Some(subscription) = self.subscriptions.get(group) else {
            let text = format!("you are not subscribed to {group}");
            return Some(Reply::new(code::SEQUENCE, text));
        };
        // What was not written yet cannot have been dealt with.
        (cursor > subscription.given).then(|| {
            let given = subscription.given;
            Reply::new(code::SEQUENCE, format!("{cursor} was not given yet: {group} is at {given}"))
        })
    }

    pub(super) fn wrong(&mut self, error: &CommandError) {
        let reply = answer::wrong(error);
        match error {
            CommandError::Publish { size, .. } => self.expect(Err(reply), *size),
            CommandError::Unknown(_)
            | CommandError::Characters
            | CommandError::Usage { .. }
            | CommandError::Size(_) => self.say(reply),
        }
    }
}
