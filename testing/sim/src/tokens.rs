//! Founding tokens on simulated hosts: what the agent does with one, in a few lines.
//!
//! A host that has a token offers it to the master; where it is wanted the host destroys it, and
//! then gives its number to whoever is master of that history, until it was used. A process that
//! ends in between takes the number with it.

use std::time::Duration;

use skep_catalog::{Granted, Token, Wish};
use skep_node::Input;

use crate::host::HostIx;
use crate::keys;
use crate::plant::Bug;
use crate::world::{Happening, World};

/// Wishes about tokens are numbered from here.
pub(crate) const FIRST: u64 = 1 << 60;
/// A process finds the token so long after its start or after it was laid there.
const FOUND_AFTER: Duration = Duration::from_millis(500);
/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts to give a number whose token is gone.
const GIVE_AGAIN: Duration = Duration::from_millis(250);

/// A token, or what is left of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    number: u64,
    /// For which history it was destroyed, in which process.
    of: Option<(u64, u32)>,
    /// The wish that waits for its answer, and of which process.
    asked: Option<(u64, u32)>,
    wishes: u64,
}

impl World {
    /// The CA makes the next token, and its operator lays it on the disk of `host`.
    pub(crate) fn give_token(&mut self, host: HostIx) {
        if self.foundings == 0 || self.config.bug != Some(Bug::SignsOneNumber) {
            self.foundings += 1;
        }
        let held = Held { number: self.foundings, of: None, asked: None, wishes: 0 };
        self.tokens.insert(host, held);
        self.line(Some(host), "token", None, (self.foundings, 0), || None);
        self.token_found(host);
    }

    /// The process of a host, if it runs, will look for a token.
    pub(crate) fn token_found(&mut self, host: HostIx) {
        let epoch = self.host(host).epoch;
        match self.tokens.get(&host) {
            // What the process before had destroyed went with it.
            Some(held) if held.of.is_some_and(|(_, of)| of != epoch) => {
                self.tokens.remove(&host);
            }
            Some(_) if self.host(host).process.is_some() => {
                let at = self.now() + FOUND_AFTER;
                self.queue.push(at, Happening::Token { host, epoch });
            }
            Some(_) | None => {}
        }
    }

    pub(crate) fn look_after_token(&mut self, host: HostIx) {
        let (epoch, bloc) = (self.host(host).epoch, self.host(host).bloc);
        let Some(held) = self.tokens.get_mut(&host) else { return };
        if held.asked.is_some_and(|(_, of)| of == epoch) {
            return; // Answered some time.
        }
        held.wishes += 1;
        let token = FIRST + (u64::from(host.0) << 32) + (u64::from(epoch) << 16) + held.wishes;
        held.asked = Some((token, epoch));
        let of = held.of.map(|(lineage, _)| lineage);
        let bytes = keys::founding_token(bloc, held.number);
        let wish = Wish::Strengthen { token: Token(bytes), of };
        self.net.give(host, Input::Wish { token, wish });
    }

    pub(crate) fn token_answered(&mut self, host: HostIx, token: u64, granted: &Granted) {
        let epoch = self.host(host).epoch;
        let Some(held) = self.tokens.get_mut(&host) else { return };
        if held.asked != Some((token, epoch)) {
            return;
        }
        held.asked = None;
        let after = match granted {
            Granted::Done => {
                self.tokens.remove(&host);
                return;
            }
            // Gone from the disk, before the number is given to anybody.
            Granted::Wanted { lineage } => {
                held.of = held.of.or(Some((*lineage, epoch)));
                Duration::ZERO
            }
            Granted::Refused { .. }
            | Granted::Decided { .. }
            | Granted::Called { .. }
            | Granted::Shown(_) => {
                if held.of.is_some() {
                    GIVE_AGAIN
                } else {
                    AGAIN
                }
            }
        };
        let at = self.now() + after;
        self.queue.push(at, Happening::Token { host, epoch });
    }
}
