//! `completions` and `man`: what a package puts beside the program, made from the command line's own definition.

use super::Edge;
use crate::base::fsio::{self, FileError};
use crate::cli::{Cli, Completions, Man};
use crate::exit::Failure;
use crate::ui::Answer;
use clap::CommandFactory;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;

/// What `man --out` wrote.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ManReport {
    /// The pages.
    pub files: Vec<String>,
}

/// Prints a shell's completions.
pub fn completions(args: &Completions) -> Answer {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "relay-backup", &mut out);
    Answer::Text(String::from_utf8_lossy(&out).into_owned())
}

/// Prints the manual page, or writes one a verb into a folder.
pub fn man(_edge: &Edge<'_>, args: &Man) -> Result<Answer, Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &args.out else {
        return Ok(Answer::Text(page(&command, Path::new("the manual page"))?));
    };
    fsio::create_folder(folder, 0o755)?;
    clap_mangen::generate_to(command, folder).map_err(FileError::io("write into", folder))?;
    let listing = std::fs::read_dir(folder).map_err(FileError::io("list", folder))?;
    let mut files = Vec::new();
    for entry in listing {
        let entry = entry.map_err(FileError::io("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with("relay-backup") {
            files.push(entry.path().display().to_string());
        }
    }
    files.sort_unstable();
    Ok(Answer::Man(ManReport { files }))
}

fn page(command: &clap::Command, file: &Path) -> Result<String, Failure> {
    let mut out = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut out).map_err(FileError::io("write", file))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
