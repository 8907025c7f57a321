//! Chores of this workspace: `cargo xtask ci | instructions [--update] | layers | spec [--gaps]`.

mod ci;
mod drafts;
mod instructions;
mod layers;
mod sources;
mod spec;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <command>

Commands:
  ci            Run what CI runs, step by step; stop at the first failure
  instructions  Count by valgrind what hot paths of the core take, and compare with benches/instructions.toml
  instructions --update
                Count and write that file
  layers        Check the direction of the dependencies between the crates
  spec          Check drafts/: requirements, proofs, and what the code cites
  spec --gaps   The same, and list every requirement that is not done

Exit status: 0 all is well, 1 a check failed, 2 wrong usage.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    let result = match words.as_slice() {
        ["ci"] => ci::run(&root),
        ["instructions"] => instructions::run(&root, instructions::Mode::Check),
        ["instructions", "--update"] => instructions::run(&root, instructions::Mode::Update),
        ["layers"] => layers::run(&root),
        ["spec"] => spec::run(&root, false),
        ["spec", "--gaps"] => spec::run(&root, true),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder: two above this crate's, whatever the current folder is.
fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
