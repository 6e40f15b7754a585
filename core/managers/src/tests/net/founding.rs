//! What hosts do with a founding token.

use std::time::Duration;

use super::Net;
use crate::*;

impl Net {
    /// Somebody has a token of this number, and does with it what a host does until it is used.
    pub(in crate::tests) fn strengthen(&mut self, number: u64) {
        self.strengthen_for(number, None);
    }

    /// The same, where it is destroyed already for a history.
    pub(in crate::tests) fn strengthen_for(&mut self, number: u64, mut of: Option<Lineage>) {
        for _ in 0..600 {
            let [master] = self.masters()[..] else {
                self.run(Duration::from_millis(100));
                continue;
            };
            match self.offer(master, number, of) {
                Ok(None) => return,
                Ok(lineage) => of = of.or(lineage),
                Err(_) => self.run(Duration::from_millis(100)),
            }
        }
        panic!("nobody takes it\n{}", self.dump());
    }

    /// Offers a token to a host, or gives the number of one that was destroyed for a history: for
    /// which it is wanted, or nothing where it was used.
    pub(in crate::tests) fn offer(
        &mut self,
        on: usize,
        number: u64,
        of: Option<Lineage>,
    ) -> Result<Option<Lineage>, Refusal> {
        self.tokens += 1;
        let (token, number) = (self.tokens, Founding(number));
        self.give(on, Input::Strengthen { token: Token(token), number, of });
        let host = &mut self.hosts[on];
        if let Some(why) = host.refused.remove(&token) {
            return Err(why);
        }
        Ok(host.wanted.remove(&token))
    }
}
