//! Whole flocks of managers on a network of their own, and the checker against planted bugs. Names
//! are those of the scenarios and of the state diagram in `docs/protocol/managers.md`.

mod fence;
mod flocks;
mod founding;
mod logs;
mod look;
mod meet;
mod merging;
mod net;
mod operator;
mod order;
mod orphans;
mod reach;
mod role;
mod roll;
mod seeds;
mod solitude;
mod standing;
mod strict;
