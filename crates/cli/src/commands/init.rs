//! `understudy init`: writes a configuration to start from.

use super::{Context, finish, shown};
use crate::{config::template::TEMPLATE, terminal};
use clap::Args;
use std::{fs::OpenOptions, io::Write};
use understudy_core::{Error, Result};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &InitArgs, context: &Context) -> Result<()> {
    let path = &context.config_path;
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| {
        file.write_all(TEMPLATE.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::invalid(format!("write {}: it is there already; --force replaces it", path.display()))
        }
        _ => Error::invalid(format!("write {}: {e}", path.display())),
    })?;
    let name = shown(path);
    terminal::say(format_args!("wrote {name}"));
    terminal::say("next: put your key into OPENAI_API_KEY, then `understudy check` and `understudy serve`");
    finish(context, &serde_json::json!({ "written": name }))
}
