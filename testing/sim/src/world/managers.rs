//! The managers' disks, the operator who asks, and what is looked at after every step.

use skep_base::{Rng, WallTime};
use skep_catalog::{Command, Expect, Field, Fields, Granted, Key, Payload, Wish, Write};
use skep_managers::{Managers, Me, Output as ManagersOutput};
use skep_node::Input;

use super::{Happening, World};
use crate::host::HostIx;
use crate::report::Checker;

impl World {
    /// The managers of a host, as its disk holds them.
    pub(crate) fn managers_of(&mut self, host: HostIx, seed: u64) -> Managers {
        let now = self.host(host).local(self.now);
        let id = self.id(host);
        let restored = self.host_mut(host).disk.restored_managers();
        let skep_node::Fit { eligible, resources } = self.config.node.fit;
        let me = Me { id, eligible, resources };
        let config = self.config.managers.clone();
        let rng = Rng::seeded(seed ^ 0x6d61_6e61_6765_7273);
        match Managers::new(me, config.clone(), restored, rng.clone(), now) {
            Ok(managers) => managers,
            Err(error) => {
                let name = self.host(host).name.clone();
                self.fail(Checker::Invariant, format!("{name} cannot read its own disk: {error}"));
                // An empty disk can always be read.
                match Managers::new(me, config, skep_managers::Restored::default(), rng, now) {
                    Ok(managers) => managers,
                    Err(error) => panic!("a fresh disk cannot be read: {error}"),
                }
            }
        }
    }

    pub(crate) fn carry_out_managers(&mut self, host: HostIx, output: ManagersOutput) {
        match output {
            ManagersOutput::Persist { ticket, write } => {
                let (now, takes) = (self.now, self.config.disk.sync);
                let state = self.host_mut(host);
                let at = state.disk.finish(now, takes);
                state.disk.put_managers(at, write);
                let epoch = state.epoch;
                let input = Input::Managers(skep_managers::Input::Persisted { ticket });
                let input = Box::new(input);
                self.queue.push(at, Happening::Computed { host, epoch, input });
            }
            ManagersOutput::Event(event) => {
                self.line(Some(host), "managers", None, (0, 0), || Some(format!("{event:?}")));
            }
            ManagersOutput::Done { .. } | ManagersOutput::ReadGranted { .. } => {}
            // The node keeps these to itself.
            other @ (ManagersOutput::Send { .. }
            | ManagersOutput::Announce { .. }
            | ManagersOutput::Install { .. }
            | ManagersOutput::Committed { .. }
            | ManagersOutput::Accepted { .. }
            | ManagersOutput::Refused { .. }
            | ManagersOutput::Obeyed { .. }
            | ManagersOutput::Disobeyed { .. }
            | ManagersOutput::WantCheckpoint
            | ManagersOutput::Pin(_)
            | ManagersOutput::Reject { .. }) => {
                self.fail(Checker::Invariant, format!("a node lets out {other:?}"));
            }
        }
    }

    /// Asks for a setting at a host.
    pub(crate) fn set_entry(&mut self, host: HostIx, name: &str, value: &str) {
        let Ok(key) = format!("setting/{name}").parse::<Key>() else { return };
        let mut fields = Fields::new();
        if fields.set("value", Field::Text(value.to_owned())).is_err() {
            return;
        }
        let put = Some(Payload::of(&fields));
        let write = Write { key, expect: Expect::Anything, put };
        let command = Command::one("sim".to_owned(), WallTime::default(), write);
        let Ok(bytes) = command.to_bytes() else { return };
        let token = self.wishes.ask(self.now, host, (name.to_owned(), value.to_owned()));
        self.line(Some(host), "set", None, (token, 0), || Some(format!("{name} = {value}")));
        self.net.give(host, Input::Wish { token, wish: Wish::Propose(bytes) });
        self.hand_out();
    }

    pub(crate) fn granted(&mut self, host: HostIx, token: u64, granted: &Granted) {
        self.line(Some(host), "granted", None, (token, 0), || Some(format!("{granted:?}")));
        let verdict = self.wishes.granted(self.now, host, token, granted);
        if let Err(what) = verdict {
            let what = format!("{} {what}", self.host(host).name);
            self.fail(Checker::Invariant, what);
        }
    }
}
