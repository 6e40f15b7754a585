//! `skep notify`: who is told of incidents, and whether that works.

use skep_control::api::TestNotify;

use super::{Screen, connect};
use crate::args::NotifyVerb;
use crate::exit::Exit;
use crate::render;

pub(super) async fn notify(verb: NotifyVerb, screen: &mut Screen<'_>) -> anyhow::Result<Exit> {
    match verb {
        NotifyVerb::Ls(args) => {
            let notices = connect(&args.socket).await?.notices().await?;
            screen.answer(args.json, &notices, render::notices)?;
            Ok(Exit::Done)
        }
        NotifyVerb::Test(args) => {
            let client = connect(&args.socket).await?;
            let tested = client.test_notify(&TestNotify { target: args.target }).await?;
            screen.answer(args.json, &tested, |tested, _| render::tested(tested))?;
            let taken = tested.iter().all(|tested| tested.taken);
            Ok(if taken { Exit::Done } else { Exit::Failed })
        }
    }
}
