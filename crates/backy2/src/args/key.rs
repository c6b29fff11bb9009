//! Arguments of `backy2 key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Add, list and remove what opens the repository
#[derive(Debug, Subcommand)]
pub enum Key {
    Add(KeyAdd),
    List(KeyList),
    Remove(KeyRemove),
}

/// Add a passphrase or key file that opens the repository too
///
/// The repository is opened as usual first. The new passphrase is asked twice on the terminal if no file is named.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  backy2 key add --label 'in the safe'
  backy2 key add --new-key-file /root/backy2.key --label cron")]
pub struct KeyAdd {
    /// The file of 32 to 4096 random bytes to add
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    pub new_key_file: Option<PathBuf>,
    /// The file with the passphrase to add, in one line
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
    /// What you call it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub label: String,
}

/// List what opens the repository
///
/// No passphrase is needed. What the keys are is not shown, and cannot be.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 key list\n  backy2 -ms key list -f id")]
pub struct KeyList {
    /// The fields to show, with commas between them: id, kind, created, label
    #[arg(short = 'f', long, value_name = "A,B")]
    pub fields: Option<String>,
}

/// Remove a passphrase or key file
///
/// You must hold another one that opens the repository: the last one stays. Who has seen the repository with the removed one
/// may have kept its master key; removing it does not take that back.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  backy2 key list\n  backy2 key remove 7f3c0a12")]
pub struct KeyRemove {
    /// The beginning or end of its id in `key list`
    pub id: String,
}
