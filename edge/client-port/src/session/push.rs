//! Answers in their turn, and what a client subscribed to.

use skep_base::GroupName;
use skep_lines::{Gap, code, write_gap, write_update_head};

use super::stream::{Step, Streaming};
use super::{OUTPUT_BYTES, Session};
use crate::answer::{self, Answer, Refusal};
use crate::backend::{Ask, Note, Push, Pushed};
use crate::server::Counts;

pub(super) struct Subscription {
    /// The number of the reply to `subscribe`: nothing is pushed before it, and nothing that was
    /// meant for another subscription to the same group.
    pub(super) reply: u64,
    /// It acknowledges by itself.
    pub(super) named: bool,
    /// The last place that the client was given.
    pub(super) given: u64,
    /// Without a name, it is acknowledged for the client when the client has taken it.
    pub(super) owed: bool,
}

/// One subscription: the group, and the number of the reply to `subscribe`. A client may end one
/// and begin another while what was pushed to the first is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Of {
    group: GroupName,
    reply: u64,
}

/// One thing that is pushed.
pub(super) enum Item {
    Update(Pushed),
    Gap(Gap),
    /// A line about the group.
    Line(String),
    /// Nothing more of the group comes; with a word to the client, that it is sent away.
    End(Option<&'static str>),
}

impl Session {
    pub(super) fn note(&mut self, first: Note) {
        let mut next = Some(first);
        while let Some(note) = next {
            match note {
                Note::Answer(number, answer) => self.answered(number, answer),
                Note::Push(reply, push) => {
                    let of = push.group().map(|group| Of { group, reply });
                    self.held.extend(of.map(|of| (of, push)));
                }
            }
            next = self.notes.try_recv().ok();
        }
    }

    fn answered(&mut self, number: u64, answer: Result<Answer, Refusal>) {
        let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let mut answer = answer;
        if let Ok(Answer::Statistics(figures)) = &mut answer {
            figures.extend(self.shared.statistics());
        }
        if let Some(place) = self.replies.get_mut(at) {
            *place = Some(answer::reply(answer));
        }
    }

    /// Writes the replies whose turn it is. Nothing comes between the parts of a body.
    pub(super) fn render(&mut self) {
        while self.stream.is_none()
            && let Some(Some(reply)) = self.replies.front()
        {
            self.out.append(|tail| reply.write(tail));
            self.replies.pop_front();
            self.first += 1;
        }
    }

    /// Pushes what may be pushed. Of a subscription that has ended nothing is.
    pub(super) fn deliver(&mut self) {
        let first = self.first;
        for (of, push) in std::mem::take(&mut self.held) {
            match self.subscription(&of) {
                Some(_) if of.reply >= first => self.held.push_back((of, push)),
                Some(_) => self.line_up(&of, push),
                None => {}
            }
        }
        while self.stream.is_none()
            && let Some((of, item)) = self.lined_up.pop_front()
        {
            if self.subscription(&of).is_some() {
                self.push(of, item);
            }
        }
    }

    fn subscription(&mut self, of: &Of) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(&of.group).filter(|it| it.reply == of.reply)
    }

    fn line_up(&mut self, of: &Of, push: Push) {
        let group = &of.group;
        let items: Vec<Item> = match push {
            Push::Lost { lost, .. } => {
                [Item::Line(format!("{} {group} {lost} lost\r\n", code::LOST))].into()
            }
            Push::CaughtUp { cursor, .. } => {
                [Item::Line(format!("{} {group} {cursor} caught up\r\n", code::CAUGHT_UP))].into()
            }
            Push::Ended { .. } => [Item::End(None)].into(),
            Push::Taken { .. } => {
                [Item::End(Some("another client has subscribed under the same name"))].into()
            }
            Push::Updates { updates, gaps } => in_order(updates, gaps),
        };
        self.lined_up.extend(items.into_iter().map(|item| (of.clone(), item)));
    }

    fn push(&mut self, of: Of, item: Item) {
        match item {
            Item::Line(line) => self.line(&line),
            Item::Gap(gap) => {
                let mut line = String::new();
                if write_gap(&gap, &mut line).is_ok() {
                    self.line(&line);
                }
                self.given(&of, gap.cursor);
            }
            Item::End(word) => {
                self.subscriptions.remove(&of.group);
                if let Some(word) = word {
                    self.go(word);
                }
            }
            Item::Update(Pushed { update, stored: Some(body) }) => {
                self.stream = Some(Streaming::new(of, update, body));
            }
            Item::Update(Pushed { update, stored: None }) => {
                let mut head = String::new();
                if write_update_head(&update, update.body.len() as u64, &mut head).is_ok() {
                    self.line(&head);
                    self.out.body(update.body);
                    self.line("\r\n");
                }
                Counts::add(&self.shared.counts.pushed, 1);
                self.given(&of, update.cursor);
            }
        }
    }

    /// Goes on with a long body.
    pub(super) fn streamed(&mut self, step: Step) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        let (of, cursor) = (stream.of.clone(), stream.update.cursor);
        match step {
            Step::Open => {
                let mut head = String::new();
                if write_update_head(&stream.update, stream.length, &mut head).is_ok() {
                    self.line(&head);
                }
                self.stream = Some(stream);
            }
            Step::Portion(bytes) => {
                self.out.body(bytes);
                if !stream.is_done() {
                    self.stream = Some(stream);
                    return;
                }
                self.line("\r\n");
                Counts::add(&self.shared.counts.pushed, 1);
                self.given(&of, cursor);
            }
            // The log made room while it waited for its turn.
            Step::Gone => {
                self.line(&format!("{} {} 1 lost\r\n", code::LOST, of.group));
                self.given(&of, cursor);
            }
        }
    }

    fn given(&mut self, of: &Of, cursor: u64) {
        if let Some(subscription) = self.subscription(of) {
            subscription.given = cursor;
            subscription.owed = !subscription.named;
        }
    }

    /// Acknowledges what clients without a name have taken: then more comes.
    pub(super) async fn pay(&mut self) {
        let taken = self.stream.is_none() && self.out.bytes() < OUTPUT_BYTES;
        if !taken || !self.subscriptions.values().any(|one| one.owed) {
            return;
        }
        let owed = self.subscriptions.iter_mut().filter(|(_, one)| one.owed);
        let owed: Vec<_> = owed
            .map(|(group, one)| {
                one.owed = false;
                (group.clone(), one.given)
            })
            .collect();
        for (group, cursor) in owed {
            self.ask(Ask::Ack { client: self.id, group, cursor, slot: None }).await;
        }
    }

    fn line(&mut self, line: &str) {
        self.out.append(|tail| tail.extend_from_slice(line.as_bytes()));
    }
}

/// Updates and gaps as they stand in the log.
fn in_order(updates: Vec<Pushed>, gaps: Vec<Gap>) -> Vec<Item> {
    let mut items = Vec::with_capacity(updates.len() + gaps.len());
    let mut gaps = gaps.into_iter().peekable();
    for pushed in updates {
        while let Some(gap) = gaps.next_if(|gap| gap.cursor < pushed.update.cursor) {
            items.push(Item::Gap(gap));
        }
        items.push(Item::Update(pushed));
    }
    items.extend(gaps.map(Item::Gap));
    items
}
