// SPDX-License-Identifier: GPL-2.0

//! The command line of mlock_rs.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "replaces pages under the feet of a call")]
mod arena;
mod bar;
mod cli;
mod daemon;
mod demo;
mod doctor;
mod find;
mod generate;
mod lock;
mod run;
mod status;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

/// Why a command failed: said to the user, and nothing else is to be done.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Lock(args) => lock::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { directory } => generate::manual_pages(&directory),
    };
    done.unwrap_or_else(|error| {
        say(&*error);
        ExitCode::FAILURE
    })
}

/// Tell of an error, and what to do about it if that is known.
fn say(error: &(dyn std::error::Error + 'static)) {
    match error.downcast_ref::<mlock_rs::Error>() {
        Some(error) => eprintln!("mlockctl: {error:#}"),
        None => eprintln!("mlockctl: {error}"),
    }
}
