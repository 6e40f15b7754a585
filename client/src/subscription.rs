//! A subscription: a connection of its own, over which an agent pushes a group's updates.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_base::GroupName;
use skep_lines::{Command, Gap, Long, Reply, Said, Start, Update, code};

use crate::client::{done, reach};
use crate::error::Error;
use crate::link::{Dialler, Link, Pauses};
use crate::options::Options;
use crate::server::Server;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe(skep_lines::Subscribe);

impl Subscribe {
    /// Of a group, what comes from now on; nothing is remembered.
    #[must_use]
    pub const fn to(group: GroupName) -> Self {
        Self(skep_lines::Subscribe { group, name: None, start: Start::Default })
    }

    /// Under a name: the agent remembers what was acknowledged, and hands over what was not again.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// From somewhere else than where the name left off, or than from now on.
    #[must_use]
    pub const fn from(mut self, start: Start) -> Self {
        self.0.start = start;
        self
    }
}

/// What a subscriber is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An update.
    Update(Update),
    /// An update that is longer than [`Options::whole_max`]: [`Subscription::part`] gives its body.
    /// What is not taken of it before the next event is asked for is dropped.
    Long(Long),
    /// Updates did not come to the agent's node, or were dropped before they were handed over. An
    /// application that must have all brings itself back in step with another site (FLOOD-2).
    Gap(Gap),
    /// So much is gone from the log that nobody knows which updates it was.
    Lost {
        /// How many places of the log; those of other groups among them count as well.
        lost: u64,
    },
    /// All that was in the log when it was looked at has been handed over; with a name, and
    /// acknowledged. Comes once for each connection.
    CaughtUp,
}

/// A subscription. It lasts until it is dropped, over broken connections and restarts of the agent.
pub struct Subscription {
    dialler: Dialler,
    /// Cursors mean nothing to another agent, so there is one.
    server: Server,
    patience: Duration,
    wanted: skep_lines::Subscribe,
    link: Option<Link>,
    /// Where to go on after a broken connection, without a name.
    cursor: u64,
    /// Of the long update whose body is coming in.
    long: Option<u64>,
    /// Replies to acknowledgements that have not come.
    acks: VecDeque<u64>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({} at {}, {})", self.wanted.group, self.cursor, self.server)
    }
}

impl Subscription {
    pub(crate) async fn open(
        dialler: Dialler,
        options: &Options,
        Subscribe(wanted): Subscribe,
    ) -> Result<Self, Error> {
        let (link, at) = reach(&dialler, options).await?;
        let server = options.servers.get(at).cloned().ok_or(Error::Closed)?;
        let mut subscription = Self {
            dialler,
            server,
            patience: options.patience,
            wanted,
            link: None,
            cursor: 0,
            long: None,
            acks: VecDeque::new(),
        };
        let first = subscription.wanted.clone();
        subscription.begin(link, first).await.map_err(|error| match error {
            Begin::Refused(error) => error,
            Begin::Broken(error) => subscription.no_agent(&error),
        })?;
        Ok(subscription)
    }

    /// Which group it is of.
    #[must_use]
    pub const fn group(&self) -> &GroupName {
        &self.wanted.group
    }

    /// Where it stands: what follows has not been handed over.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next update, or word about them. Can be left at any point and called again: nothing is
    /// lost.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the connection broke and the agent was not reached again for as
    /// long as the patience lasts; call again to go on trying. [`Error::Refused`] when the agent
    /// will not have it, such as when another client has subscribed under the same name.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if self.link.is_none() {
                self.again().await?;
            }
            let Some(link) = &mut self.link else { continue };
            match link.exchange().await {
                Ok(Said::Update(update)) => {
                    self.cursor = update.cursor;
                    return Ok(Event::Update(update));
                }
                Ok(Said::Long(long)) => {
                    self.long = Some(long.cursor);
                    return Ok(Event::Long(long));
                }
                Ok(Said::Part(_)) => {}
                Ok(Said::LongEnd) => self.long_end(),
                Ok(Said::Gap(gap)) => {
                    self.cursor = gap.cursor;
                    return Ok(Event::Gap(gap));
                }
                Ok(Said::Lost { lost, .. }) => return Ok(Event::Lost { lost }),
                Ok(Said::CaughtUp { cursor, .. }) => {
                    self.cursor = self.cursor.max(cursor);
                    return Ok(Event::CaughtUp);
                }
                Ok(Said::Reply(reply)) => self.replied(reply)?,
                Err(_) => self.broken(),
            }
        }
    }

    /// The next part of the body of the long update that was handed over last; nothing when all of
    /// it came. Can be left at any point and called again.
    ///
    /// # Errors
    /// [`Error::BrokenOff`] when the connection broke: drop what came of it.
    /// [`Subscription::next`] goes on, and gives the update again.
    pub async fn part(&mut self) -> Result<Option<Bytes>, Error> {
        while self.long.is_some() {
            let Some(link) = &mut self.link else { break };
            match link.exchange().await {
                Ok(Said::Part(part)) => return Ok(Some(part)),
                Ok(Said::LongEnd) => {
                    self.long_end();
                    return Ok(None);
                }
                // Nothing comes between the parts of a body.
                Ok(_) => {}
                Err(_) => {
                    self.broken();
                    return Err(Error::BrokenOff { server: self.server.clone() });
                }
            }
        }
        Ok(None)
    }

    /// Until all of its body came, an update was not handed over.
    fn long_end(&mut self) {
        self.cursor = self.long.take().unwrap_or(self.cursor);
    }

    fn broken(&mut self) {
        (self.link, self.long) = (None, None);
    }

    /// Says that this update and all before it are dealt with: [`Subscription::ack_to`].
    ///
    /// # Errors
    /// As there.
    pub async fn ack(&mut self, update: &Update) -> Result<(), Error> {
        self.ack_to(update.cursor).await
    }

    /// Says that everything up to a cursor is dealt with. Returns when that is on its way; what the
    /// agent did not get is handed over again.
    ///
    /// # Errors
    /// None today: a connection that broke is made again by [`Subscription::next`].
    pub async fn ack_to(&mut self, cursor: u64) -> Result<(), Error> {
        if self.wanted.name.is_none() {
            return Ok(());
        }
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let command = Command::Ack { group: self.wanted.group.clone(), cursor };
        link.put(format!("{command}\r\n").as_bytes());
        self.acks.push_back(cursor);
        if link.flush().await.is_err() {
            self.link = None;
        }
        Ok(())
    }

    /// Waits until the agent has everything that was acknowledged, and ends the subscription.
    ///
    /// # Errors
    /// [`Error::NoAgent`] when the connection breaks before that: what was acknowledged last may be
    /// handed over again.
    pub async fn close(mut self) -> Result<(), Error> {
        let Some(mut link) = self.link.take() else {
            return Ok(());
        };
        // Answered when everything before it is.
        let asked = async {
            link.put(b"quit\r\n");
            link.flush().await?;
            loop {
                if let Said::Reply(reply) = link.said().await?
                    && reply.code == code::CLOSING
                {
                    return Ok(());
                }
            }
        };
        asked.await.map_err(|error: io::Error| self.no_agent(&error))
    }

    fn replied(&mut self, reply: Reply) -> Result<(), Error> {
        if reply.code == code::GOING {
            self.link = None;
            // A restart passes; somebody of the same name does not.
            let taken = reply.text().contains("same name");
            return if taken { done(reply).map(drop) } else { Ok(()) };
        }
        self.acks.pop_front();
        Ok(())
    }

    /// Connects again, and goes on where it was.
    async fn again(&mut self) -> Result<(), Error> {
        let (since, mut pauses) = (Instant::now(), Pauses::new());
        loop {
            let error = match self.dialler.dial(&self.server).await {
                Ok(link) => match self.begin(link, self.resumed()).await {
                    Ok(()) => return Ok(()),
                    Err(Begin::Refused(error)) => return Err(error),
                    Err(Begin::Broken(error)) => error,
                },
                Err(error) => error,
            };
            if since.elapsed() >= self.patience {
                let (patience, server) = (self.patience, self.server.clone());
                return Err(Error::Unreachable { patience, server, source: error });
            }
            pauses.pause().await;
        }
    }

    /// A name goes on where it left off; without one we know where that was.
    fn resumed(&self) -> skep_lines::Subscribe {
        let mut wanted = self.wanted.clone();
        wanted.start = match wanted.name {
            Some(_) => Start::Default,
            None => Start::After(self.cursor),
        };
        wanted
    }

    async fn begin(&mut self, mut link: Link, how: skep_lines::Subscribe) -> Result<(), Begin> {
        let command = Command::Subscribe(how).to_string();
        let reply = link.ask(&command).await.map_err(Begin::Broken)?;
        if reply.is_temporary() {
            return Err(Begin::Broken(io::Error::other(reply.to_string())));
        }
        let reply = done(reply).map_err(Begin::Refused)?;
        let cursor = reply.text().split(' ').nth(1).and_then(|word| word.parse().ok());
        self.cursor = cursor.unwrap_or(self.cursor);
        self.acks.clear();
        self.long = None;
        self.link = Some(link);
        Ok(())
    }

    fn no_agent(&self, error: &io::Error) -> Error {
        Error::NoAgent { server: self.server.clone(), what: error.to_string() }
    }
}

/// Why a subscription did not begin.
enum Begin {
    Refused(Error),
    Broken(io::Error),
}
