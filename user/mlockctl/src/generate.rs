// SPDX-License-Identifier: GPL-2.0

//! Completions and manual pages, from the same definitions as the arguments.

use crate::{Failure, cli::Cli};
use clap::CommandFactory;
use std::{fs, io, path::Path, process::ExitCode};

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    clap_complete::generate(shell, &mut Cli::command(), "mlockctl", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn manual_pages(directory: &Path) -> Result<ExitCode, Failure> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    Ok(ExitCode::SUCCESS)
}
