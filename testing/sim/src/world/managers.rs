//! The managers' disks, the operator who asks, and what is looked at after every step.

use skep_base::{Rng, WallTime};
use skep_catalog::{Command, Expect, Field, Fields, Granted, Key, Order, Payload, Wish, Write};
use skep_managers::{
    Kept, Managers, Me, Output as ManagersOutput, Restored, Ticket, Write as ManagersWrite,
};
use skep_node::Input;

use super::{Happening, World};
use crate::host::HostIx;
use crate::plant::{self, Bug};
use crate::report::Checker;

impl World {
    /// The managers of a host, as its disk holds them.
    pub(crate) fn managers_of(&mut self, host: HostIx, seed: u64) -> Managers {
        let now = self.host(host).local(self.now);
        let id = self.id(host);
        let restored = self.restored_managers(host);
        let skep_node::Fit { eligible, resources, .. } = self.config.node.fit;
        let eligible = self.host(host).eligible.unwrap_or(eligible);
        let me = Me { id, eligible, resources };
        let config = self.config.managers.clone();
        let rng = Rng::seeded(seed ^ 0x6d61_6e61_6765_7273);
        match Managers::new(me, config.clone(), restored, rng.clone(), now) {
            Ok(managers) => managers,
            Err(error) => {
                let name = self.host(host).name.clone();
                self.fail(Checker::Invariant, format!("{name} cannot read its own disk: {error}"));
                // An empty disk can always be read.
                match Managers::new(me, config, Restored::default(), rng, now) {
                    Ok(managers) => managers,
                    Err(error) => panic!("a fresh disk cannot be read: {error}"),
                }
            }
        }
    }

    /// What a disk gives back, looked at.
    fn restored_managers(&mut self, host: HostIx) -> Restored {
        let now = self.now;
        let mut restored = self.host_mut(host).disk.restored_managers();
        if self.config.bug == Some(Bug::ForgetsItsStamps) && host == plant::INFECTED {
            restored = Restored::default();
        }
        let kept = restored.state.as_ref().and_then(|state| Kept::in_state(state));
        if let Some(watch) = &mut self.watch {
            let verdict = watch.starts(now, host, kept);
            self.watched(verdict);
        }
        restored
    }

    fn persist(&mut self, host: HostIx, ticket: Ticket, write: ManagersWrite) {
        let (now, takes) = (self.now, self.disk_of(host).sync);
        let kept = write.state.as_ref().and_then(|state| Kept::in_state(state));
        let early = self.config.bug == Some(Bug::SaysSafeEarly) && host == plant::INFECTED;
        let state = self.host_mut(host);
        let at = state.disk.sync(now, takes);
        let safe = if early { at + takes * 1_000 } else { at };
        state.disk.put_managers(safe, write);
        let epoch = state.epoch;
        if let Some(watch) = &mut self.watch {
            let slowest = watch.slowest.entry(host).or_default();
            *slowest = at.since(now).max(*slowest);
            if let Some(kept) = kept {
                watch.given(host, safe, kept);
            }
            let verdict = watch.settle(now, host, false);
            self.watched(verdict);
        }
        let input = Input::Managers(skep_managers::Input::Persisted { ticket });
        let input = Box::new(input);
        self.queue.push(at, Happening::Computed { host, epoch, input });
    }

    pub(crate) fn carry_out_managers(&mut self, host: HostIx, output: ManagersOutput) {
        match output {
            ManagersOutput::Persist { ticket, write } => self.persist(host, ticket, write),
            ManagersOutput::Event(event) => {
                self.line(Some(host), "managers", None, (0, 0), || Some(format!("{event:?}")));
                self.log_event(host, &event);
            }
            ManagersOutput::ReadGranted { token, .. } => self.read_granted(host, token.0),
            // A read that was asked of the managers themselves may be refused: nobody waits for it.
            ManagersOutput::Done { .. } | ManagersOutput::Refused { .. } => {}
            // The node keeps these to itself.
            other @ (ManagersOutput::Send { .. }
            | ManagersOutput::Announce { .. }
            | ManagersOutput::Install { .. }
            | ManagersOutput::Committed(_)
            | ManagersOutput::Accepted { .. }
            | ManagersOutput::Called { .. }
            | ManagersOutput::Wanted { .. }
            | ManagersOutput::Obeyed { .. }
            | ManagersOutput::Disobeyed { .. }
            | ManagersOutput::WantCheckpoint
            | ManagersOutput::WantHandOver { .. }
            | ManagersOutput::Pin(_)
            | ManagersOutput::Reject { .. }) => {
                self.fail(Checker::Invariant, format!("a node lets out {other:?}"));
            }
        }
    }

    /// Asks for a setting of a number that nobody asked for before.
    pub(crate) fn set_number(&mut self, host: HostIx, name: &str) {
        let value = self.wishes.next_number();
        self.want(host, name, Expect::Anything, value);
    }

    /// A host measures that it has so much of 1000 to spare.
    pub(crate) fn load(&mut self, host: HostIx, resources: u16) {
        let all = skep_managers::Parts {
            network: resources,
            processor: resources,
            memory: resources,
            disk: resources,
        };
        self.net.give(host, Input::Spare { resources, parts: all });
        self.hand_out();
    }

    /// Lets a host's clock run faster by so many millionths.
    pub(crate) fn set_drift(&mut self, host: HostIx, millionths: i64) {
        self.host_mut(host).drift = millionths;
    }

    /// Asks for a setting of a number that is asked for once only. Gives the wish's token.
    pub(crate) fn want(
        &mut self,
        host: HostIx,
        name: &str,
        expect: Expect,
        value: u64,
    ) -> Option<u64> {
        self.set_entry_if(host, name, expect, &crate::wishes::text_of(value))
    }

    fn set_entry_if(
        &mut self,
        host: HostIx,
        name: &str,
        expect: Expect,
        value: &str,
    ) -> Option<u64> {
        let key = format!("setting/{name}").parse::<Key>().ok()?;
        let mut fields = Fields::new();
        fields.set("value", Field::Text(value.to_owned())).ok()?;
        let put = Some(Payload::of(key.kind(), &fields));
        let write = Write { key, expect, put };
        let command = Command::one("sim".to_owned(), WallTime::default(), write);
        let bytes = command.to_bytes().ok()?;
        let token = self.wishes.ask(self.now, host, (name.to_owned(), value.to_owned()));
        self.line(Some(host), "set", None, (token, 0), || Some(format!("{name} = {value}")));
        self.net.give(host, Input::Wish { token, wish: Wish::Propose(bytes) });
        self.hand_out();
        Some(token)
    }

    /// An operator at `host` orders something of the managers. Gives the wish's token.
    pub(crate) fn order_managers(&mut self, host: HostIx, order: Order) -> u64 {
        let what = format!("{order:?}");
        let token = self.wishes.ask(self.now, host, ("an order".to_owned(), what));
        self.line(Some(host), "order", None, (token, 0), || Some(format!("{order:?}")));
        self.net.give(host, Input::Wish { token, wish: Wish::Manage(order) });
        self.hand_out();
        token
    }

    pub(crate) fn granted(&mut self, host: HostIx, token: u64, granted: &Granted) {
        self.line(Some(host), "granted", None, (token, 0), || Some(format!("{granted:?}")));
        if token >= crate::tokens::FIRST {
            return self.token_answered(host, token, granted);
        }
        let verdict = self.wishes.granted(self.now, host, token, granted);
        if let Err(what) = verdict {
            let what = format!("{} {what}", self.host(host).name);
            self.fail(Checker::Invariant, what);
        }
        self.watch_granted(token, granted);
    }
}
