//! `backy2 fuse`: all versions as files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backy_core::{Error, ErrorKind};
use backy_serve::fuse::{MountSettings, Scratch, mount};
use backy_serve::{ViewCache, ViewSettings};

use crate::app::App;
use crate::args::fuse::Fuse;
use crate::exit::{Exit, Failure};
use crate::{console, daemon, output, signals, title};

/// So late a new version appears at most.
const LISTING_LIFETIME: Duration = Duration::from_secs(5);

pub(super) fn run(app: &App, arguments: &Fuse) -> Result<Exit, Failure> {
    if arguments.is_daemon && !daemon::is_daemon() {
        return daemon::start();
    }
    let repository = Arc::new(app.repository()?);
    // From here on a signal unmounts; before, it ends the program as usual.
    let cancel = signals::watch()?;
    let settings = ViewSettings {
        cache_bytes: usize::try_from(arguments.cache_size).unwrap_or(usize::MAX),
        patience: Duration::from_secs(arguments.timeout),
        ..ViewSettings::default()
    };
    let cache = ViewCache::new(repository, settings)?;
    let settings = MountSettings {
        allows_others: arguments.allow_other,
        listing_lifetime: LISTING_LIFETIME,
        scratch: scratch(app, arguments)?,
    };
    let mounted = mount(cache, &arguments.mountpoint, settings).map_err(failure)?;
    title::show(None, "fuse");
    if arguments.is_daemon {
        console::message(&format!("Mounted at {}.", arguments.mountpoint.display()));
        daemon::say_ready()?;
    } else if app.output.is_for_people() {
        console::message(&format!("Mounted at {}; Ctrl-C or umount ends it.", arguments.mountpoint.display()));
    } else {
        output::line(&arguments.mountpoint.display().to_string())?;
    }
    mounted.wait(&cancel)?;
    Ok(Exit::Success)
}

fn scratch(app: &App, arguments: &Fuse) -> Result<Scratch, Failure> {
    // A daemon works in another folder.
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| Failure::from(Error::io(format!("find {}", path.display()), error)))
    };
    match (&arguments.overlay_dir, &arguments.scratch_dir) {
        (Some(folder), _) => Ok(Scratch::Kept(absolute(folder)?)),
        (None, Some(folder)) => Ok(Scratch::Unnamed(absolute(folder)?)),
        (None, None) => Ok(Scratch::Unnamed(app.scratch_folder())),
    }
}

fn failure(error: Error) -> Failure {
    match error.kind() {
        // Each says what to do.
        ErrorKind::Busy | ErrorKind::Unsupported => Failure::without_hint(error),
        ErrorKind::Refused => Failure::without_hint(error).hint("mount on an empty folder, or unmount what is there"),
        ErrorKind::NotFound => Failure::from(error).hint("make the folder first"),
        ErrorKind::PermissionDenied => {
            Failure::without_hint(error).hint("may you write to the folder, and read and write /dev/fuse?")
        }
        _ => Failure::of_request(error),
    }
}
