//! `backy2 nbd`: versions as disks for whoever speaks NBD.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backy_core::ids::VersionUid;
use backy_core::{Error, ErrorKind};
use backy_engine::Repository;
use backy_engine::repository::versions::VersionState;
use backy_serve::nbd::export::Exports;
use backy_serve::nbd::kernel::connect;
use backy_serve::nbd::listen::{Listener, serve};
use backy_serve::nbd::tls::{Certificates, server_config};
use backy_serve::nbd::versions::{ReadName, VersionExports, Writes};
use backy_serve::{Overlay, ViewCache, ViewSettings};
use tracing::warn;

use crate::app::App;
use crate::args::nbd::Nbd;
use crate::exit::{Exit, Failure};
use crate::{console, output, signals, version_spec};

pub(super) fn run(app: &App, arguments: &Nbd) -> Result<Exit, Failure> {
    let is_single = arguments.versions.len() == 1;
    if !is_single && (arguments.overlay.is_some() || arguments.connect.is_some()) {
        return Err(Failure::usage("--overlay and --connect are for a single version"));
    }
    let tls = certificates(arguments).map(server_config).transpose().map_err(Failure::of_request)?;
    // Before the repository is opened: whoever starts us sees at once that the address is taken.
    let listener = match &arguments.connect {
        Some(_) => None,
        None => Some(listen(arguments)?),
    };
    let repository = Arc::new(app.repository()?);
    let cancel = signals::watch()?;
    let offered = offered(app, &repository, &arguments.versions)?;
    let settings = ViewSettings {
        cache_bytes: usize::try_from(arguments.cache_size).unwrap_or(usize::MAX),
        patience: Duration::from_secs(arguments.timeout),
        ..ViewSettings::default()
    };
    let cache = ViewCache::new(repository, settings)?;
    let exports = VersionExports::new(cache, offered, writes(app, arguments)?, read_name(app));
    match (&arguments.connect, listener) {
        (Some(device), _) => connect(device, exports.open("")?, &cancel, &app.environment)?,
        (None, Some(listener)) => {
            // What cannot be opened is said now, and not to the first client; and it stays open between clients.
            let _held = if is_single { Some(exports.open("")?) } else { None };
            announce(app, &listener, tls.is_some(), arguments)?;
            serve(&[listener], &exports, tls.as_ref(), &cancel, app.environment.clock.as_ref())?;
        }
        (None, None) => {}
    }
    exports.flush()?;
    Ok(Exit::Success)
}

fn certificates(arguments: &Nbd) -> Option<Certificates<'_>> {
    let (chain, key) = (arguments.tls_certificate.as_deref()?, arguments.tls_key.as_deref()?);
    Some(Certificates { chain, key, client_authority: arguments.tls_client_authority.as_deref() })
}

fn listen(arguments: &Nbd) -> Result<Listener, Failure> {
    let listener = match &arguments.socket {
        Some(path) => Listener::unix(path),
        None => Listener::tcp(SocketAddr::new(arguments.bind_address, arguments.bind_port)),
    };
    let is_open_to_all = !arguments.bind_address.is_loopback() && arguments.tls_client_authority.is_none();
    if arguments.socket.is_none() && is_open_to_all {
        warn!(
            "whoever reaches {} can read the versions; --tls-client-authority lets in only those with a certificate",
            arguments.bind_address
        );
    }
    listener.map_err(|error| match error.kind() {
        ErrorKind::Busy => Failure::without_hint(error),
        _ => Failure::from(error).hint("another address or port: -a, -p; a Unix socket: -u"),
    })
}

/// Finds the versions that were named, so that a typing error is seen now.
fn offered(app: &App, repository: &Repository, names: &[String]) -> Result<Vec<(String, VersionUid)>, Failure> {
    let mut offered = Vec::new();
    for name in names {
        let spec = version_spec::parse(name, &app.output.zone)?;
        let entry = repository.find_version(&spec).map_err(Failure::of_version)?;
        let uid = entry.manifest.uid;
        match entry.state {
            VersionState::Incomplete => {
                let message = format!("version {uid} is incomplete: its backup did not end, so it cannot be served");
                return Err(Failure::from(Error::new(ErrorKind::Refused, message)));
            }
            VersionState::Invalid => warn!("version {uid} is invalid: some of its blocks cannot be read"),
            VersionState::Valid => {}
        }
        offered.push((name.clone(), uid));
    }
    Ok(offered)
}

fn writes(app: &App, arguments: &Nbd) -> Result<Writes, Failure> {
    match &arguments.overlay {
        Some(path) => Ok(Writes::Kept(path.clone())),
        None if !arguments.is_writable && arguments.scratch_dir.is_none() => Ok(Writes::Refused),
        None => {
            let folder = arguments.scratch_dir.clone().unwrap_or_else(|| app.scratch_folder());
            Overlay::make_folder(&folder)?;
            Ok(Writes::Scratch(folder))
        }
    }
}

/// Clients name versions as the command line does.
fn read_name(app: &App) -> ReadName {
    let zone = app.output.zone.clone();
    Box::new(move |name| {
        version_spec::parse(name, &zone).map_err(|_| Error::invalid(format!("{name:?} is no name of a version")))
    })
}

/// Says where the server is: scripts read it as a line.
fn announce(app: &App, listener: &Listener, has_tls: bool, arguments: &Nbd) -> Result<(), Failure> {
    let uri = listener.uri(has_tls);
    if !app.output.is_for_people() {
        return output::line(&uri);
    }
    let what = match arguments.versions.as_slice() {
        [] => "all versions".to_owned(),
        names => names.join(", "),
    };
    let how = match (&arguments.overlay, arguments.is_writable || arguments.scratch_dir.is_some()) {
        (Some(path), _) => format!("writable, kept in {}", path.display()),
        (None, true) => "writable until this ends".to_owned(),
        (None, false) => "read-only".to_owned(),
    };
    console::message(&format!("Serving {what} at {uri} ({how})."));
    Ok(())
}
