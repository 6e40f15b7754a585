//! The network between the hosts, whichever of the two makes it.

use anyhow::Result;

use crate::bridge::Bridge;
use crate::netns::NetNs;
use crate::rules::{Dropped, Port, Rules};
use crate::switch::Switch;

/// One of the two networks.
#[derive(Debug)]
pub(crate) enum Fabric {
    Bridge(Bridge),
    Switch(Switch),
}

impl Fabric {
    pub(crate) fn attach(&self, hosts: &[(Port, NetNs)]) -> Result<()> {
        match self {
            Self::Bridge(bridge) => bridge.attach(hosts),
            Self::Switch(switch) => switch.attach(hosts),
        }
    }

    /// Puts rules in force as one event.
    pub(crate) fn apply(&self, rules: &Rules) -> Result<()> {
        match self {
            Self::Bridge(bridge) => bridge.apply(rules),
            Self::Switch(switch) => {
                switch.apply(rules);
                Ok(())
            }
        }
    }

    pub(crate) fn set_carrier(&self, port: Port, up: bool) -> Result<()> {
        match self {
            Self::Bridge(bridge) => bridge.set_carrier(port, up),
            Self::Switch(switch) => switch.set_carrier(port, up),
        }
    }

    pub(crate) fn dropped(&self) -> Result<Dropped> {
        match self {
            Self::Bridge(bridge) => bridge.dropped(),
            Self::Switch(switch) => Ok(switch.dropped()),
        }
    }
}
