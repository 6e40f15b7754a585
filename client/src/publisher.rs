//! The task behind a client: one connection, commands sent ahead, each answered once, whatever
//! breaks in between.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_lines::{Reply, Said, code};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::error::Error;
use crate::link::{Dialler, Link, Pauses};
use crate::server::Server;

/// Bytes that are put before the socket ahead of what it takes.
const AHEAD_BYTES: usize = 256 * 1024;

/// One command that wants a reply.
pub(crate) struct Request {
    /// The command's line with its end.
    pub(crate) line: String,
    /// What follows it.
    pub(crate) body: Bytes,
    pub(crate) reply: oneshot::Sender<Result<Reply, Error>>,
    /// Room in the window.
    pub(crate) room: Vec<OwnedSemaphorePermit>,
    pub(crate) since: Instant,
    /// To which server it was sent; then no other may get it.
    pub(crate) sent_to: Option<usize>,
}

/// See the module.
pub(crate) struct Publisher {
    pub(crate) dialler: Dialler,
    pub(crate) servers: Arc<[Server]>,
    pub(crate) patience: Duration,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Commands without a reply, in their order. The first `sent` went over this connection.
    unanswered: VecDeque<Request>,
    sent: usize,
    at: usize,
    pauses: Pauses,
}

/// Why a connection is left.
enum Left {
    /// The client was dropped and everything is answered.
    Done,
    /// It broke, or the agent wants us to come again.
    Broken(io::Error),
}

impl Publisher {
    pub(crate) fn new(
        dialler: Dialler,
        servers: Arc<[Server]>,
        patience: Duration,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            dialler,
            servers,
            patience,
            requests,
            unanswered: VecDeque::new(),
            sent: 0,
            at: 0,
            pauses: Pauses::new(),
        }
    }

    /// Serves until the client is dropped. `first` is the first connection, to that server.
    pub(crate) async fn run(mut self, first: Link, at: usize) {
        self.at = at;
        let mut link = Some(first);
        loop {
            let left = match link.take() {
                Some(link) => self.serve(link).await,
                None => Left::Broken(io::ErrorKind::NotConnected.into()),
            };
            let Left::Broken(mut why) = left else {
                return;
            };
            self.sent = 0;
            while link.is_none() {
                self.give_up(&mut why);
                if self.unanswered.is_empty() {
                    // Nobody is in a hurry: whoever comes next makes us connect.
                    match self.requests.recv().await {
                        Some(request) => self.unanswered.push_back(request),
                        None => return,
                    }
                    self.pauses = Pauses::new();
                }
                match self.dial().await {
                    Ok(dialled) => link = Some(dialled),
                    Err(error) => {
                        why = error;
                        self.pauses.pause().await;
                    }
                }
            }
        }
    }

    /// Connects to the server that may have logged what was not answered; where there is none, to
    /// the first that can be reached.
    async fn dial(&mut self) -> io::Result<Link> {
        let bound = self.unanswered.iter().find_map(|request| request.sent_to);
        let tries = if bound.is_some() { 1 } else { self.servers.len() };
        self.at = bound.unwrap_or(self.at);
        let mut last = io::ErrorKind::NotConnected.into();
        for _ in 0..tries {
            match self.dialler.dial(&self.servers[self.at]).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
            if bound.is_none() {
                self.at = (self.at + 1) % self.servers.len();
            }
        }
        Err(last)
    }

    /// Answers those that have waited for too long.
    fn give_up(&mut self, why: &mut io::Error) {
        let patience = self.patience;
        let late = |request: &Request| request.since.elapsed() >= patience;
        if !self.unanswered.iter().any(late) {
            return;
        }
        let server = self.servers[self.at].clone();
        let (late, rest) =
            std::mem::take(&mut self.unanswered).into_iter().partition::<VecDeque<_>, _>(late);
        self.unanswered = rest;
        for request in late {
            let error = match request.sent_to {
                Some(_) => Error::Uncertain { server: server.clone(), patience },
                None => Error::Unreachable {
                    patience,
                    server: server.clone(),
                    source: io::Error::new(why.kind(), why.to_string()),
                },
            };
            answer(request, Err(error));
        }
    }

    async fn serve(&mut self, mut link: Link) -> Left {
        loop {
            while self.sent < self.unanswered.len() && link.waiting() < AHEAD_BYTES {
                let request = &mut self.unanswered[self.sent];
                link.put(request.line.as_bytes());
                link.put(&request.body);
                request.sent_to = Some(self.at);
                self.sent += 1;
            }
            tokio::select! {
                biased;
                said = link.exchange() => match said {
                    Ok(Said::Reply(reply)) => {
                        if let Some(why) = self.replied(reply) {
                            return Left::Broken(why);
                        }
                    }
                    // Nothing is subscribed to here.
                    Ok(_) => {}
                    Err(error) => return Left::Broken(error),
                },
                request = self.requests.recv() => match request {
                    Some(request) => {
                        self.unanswered.push_back(request);
                        while let Ok(request) = self.requests.try_recv() {
                            self.unanswered.push_back(request);
                        }
                    }
                    None if self.unanswered.is_empty() => return Left::Done,
                    None => return self.finish(link).await,
                },
            }
        }
    }

    /// The client was dropped: what it sent is still answered, or breaks off with the connection.
    async fn finish(&mut self, mut link: Link) -> Left {
        while !self.unanswered.is_empty() {
            while self.sent < self.unanswered.len() && link.waiting() < AHEAD_BYTES {
                let request = &self.unanswered[self.sent];
                link.put(request.line.as_bytes());
                link.put(&request.body);
                self.sent += 1;
            }
            match link.exchange().await {
                Ok(Said::Reply(reply)) => {
                    if self.replied(reply).is_some() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Left::Done
    }

    /// Hands a reply to who waits for it; says why the connection must be left, where it must.
    fn replied(&mut self, reply: Reply) -> Option<io::Error> {
        // To be tried again, with what follows it: so the order stays.
        if matches!(reply.code, code::GOING | code::NOT_YET | code::BUSY) {
            return Some(io::Error::other(reply.to_string()));
        }
        self.pauses = Pauses::new();
        if self.sent == 0 {
            return Some(io::Error::other("a reply to nothing"));
        }
        if let Some(request) = self.unanswered.pop_front() {
            self.sent -= 1;
            answer(request, Ok(reply));
        }
        None
    }
}

fn answer(request: Request, answer: Result<Reply, Error>) {
    drop(request.room);
    // Whoever asked may have gone.
    drop(request.reply.send(answer));
}
