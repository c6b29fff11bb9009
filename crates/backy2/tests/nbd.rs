//! `backy2 nbd` with the clients that people use. A test whose client is not installed says so and is skipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod disks;
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use disks::Mount;
use rustix::process::{Pid, Signal, kill_process};
use support::{Place, random};

const MIB: usize = 1 << 20;

/// Returns the paths of programs, or says that one is missing.
fn programs<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let find = |name: &str| {
        let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().map(|folder| Path::new(folder).join(name));
        folders.into_iter().find(|path| path.exists())
    };
    for name in names {
        if find(name).is_none() {
            println!("skipped: {name} is not installed");
            return None;
        }
    }
    Some(names.map(|name| find(name).unwrap()))
}

/// A volume of 24 MiB: data, holes, data; and its version.
fn place() -> (Place, Vec<u8>, String) {
    let place = Place::with_repository();
    let mut bytes = random(1, 24 * MIB);
    bytes[3 * MIB..9 * MIB].fill(0);
    bytes[15 * MIB..23 * MIB].fill(0);
    place.write("image", &bytes);
    let uid = place.backup(&["image", "vm"]);
    (place, bytes, uid)
}

/// A running server, which is stopped with SIGTERM.
struct Server {
    child: Option<Child>,
    uri: String,
}

/// A test that fails leaves no server behind.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    /// Starts `backy2 nbd` and waits until it says where it is.
    fn start(place: &Place, arguments: &[&str]) -> Server {
        let mut all = vec!["-m", "nbd"];
        all.extend(arguments);
        let mut child = place.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("nbd"), "{line:?}");
        Server { child: Some(child), uri: line.trim().to_owned() }
    }

    /// Starts it on a Unix socket in the folder of the place.
    fn unix(place: &Place, arguments: &[&str]) -> Server {
        Server::start(place, &[&["-u", "socket"], arguments].concat())
    }

    /// Returns the URI of an export.
    fn export(&self, place: &Place, name: &str) -> String {
        if self.uri.contains("unix") {
            return format!("nbd+unix:///{name}?socket={}", place.path("socket").display());
        }
        format!("{}{name}", self.uri)
    }

    /// Stops it and returns what it said.
    fn stop(mut self) -> String {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }
}

/// Runs a client that must succeed, and returns what it prints.
fn ok(place: &Place, program: &Path, arguments: &[&str]) -> String {
    let (is_ok, said) = try_run(place, program, arguments);
    assert!(is_ok, "{} {arguments:?}: {said}", program.display());
    said
}

/// Runs a client; says whether it succeeded, and what it prints.
fn try_run(place: &Place, program: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).current_dir(place.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

#[test]
fn qemu_reads_compares_and_converts_a_version() {
    let Some([qemu_img]) = programs(["qemu-img"]) else { return };
    let (place, bytes, uid) = place();
    let server = Server::start(&place, &["-p", "0"]);
    for name in ["vm@latest", uid.as_str()] {
        let said = ok(&place, &qemu_img, &["compare", "-f", "raw", "-F", "raw", "image", &server.export(&place, name)]);
        assert!(said.contains("identical"), "{said}");
    }
    let export = server.export(&place, "vm@latest");
    let map = ok(&place, &qemu_img, &["map", "-f", "raw", "--output=json", &export]);
    assert_eq!(map.matches("\"data\": true").count(), 3, "{map}");
    ok(&place, &qemu_img, &["convert", "-f", "raw", "-O", "raw", "-W", "-m", "8", &export, "converted"]);
    assert!(place.read("converted") == bytes);
    server.stop();
}

#[test]
fn qemu_writes_to_an_overlay_and_the_version_stays() {
    let Some([qemu_io, qemu_img]) = programs(["qemu-io", "qemu-img"]) else { return };
    let (place, bytes, _) = place();
    let server = Server::unix(&place, &["--writable", "vm@latest"]);
    let export = server.export(&place, "");
    let steps = [
        "write -P 7 1M 100k",
        "read -P 7 1M 100k",
        "write -z 5000 64k",
        "read -P 0 5000 64k",
        "discard 10M 1M",
        "write -f -P 9 4095 2",
        "read -P 9 4095 2",
        "flush",
        "aio_write -P 3 12M 1M",
        "aio_write -P 4 14M 300k",
        "aio_flush",
        "read -P 3 12M 1M",
        "read -P 4 14M 300k",
    ];
    let commands: Vec<&str> = steps.iter().flat_map(|step| ["-c", step]).collect();
    let said = ok(&place, &qemu_io, &[&["-f", "raw"], commands.as_slice(), &[export.as_str()]].concat());
    assert!(!said.contains("failed"), "{said}");
    let (is_ok, said) = try_run(&place, &qemu_io, &["-f", "raw", "-c", "read 24M 512", &export]);
    assert!(!is_ok || said.contains("beyond") || said.contains("failed"), "{said}");
    server.stop();
    // Another server finds nothing of it.
    let server = Server::unix(&place, &["vm@latest"]);
    ok(&place, &qemu_img, &["compare", "-f", "raw", "-F", "raw", "image", &server.export(&place, "vm@latest")]);
    let (is_ok, said) = try_run(&place, &qemu_io, &["-f", "raw", "-c", "write 0 4096", &server.export(&place, "")]);
    assert!(!is_ok && said.contains("Permission denied"), "it is read-only: {said}");
    server.stop();
    place.ok(&["restore", "vm@latest", "restored"]);
    assert!(place.read("restored") == bytes);
}

#[test]
fn an_overlay_with_a_name_is_kept() {
    let Some([qemu_io]) = programs(["qemu-io"]) else { return };
    let (place, _, uid) = place();
    for (write, read) in [("write -P 1 1M 64k", "read -P 1 1M 64k"), ("write -P 2 2M 64k", "read -P 1 1M 64k")] {
        let server = Server::unix(&place, &["--overlay", "kept", &uid]);
        let said = ok(&place, &qemu_io, &["-f", "raw", "-c", write, "-c", read, &server.export(&place, "")]);
        assert!(!said.contains("failed"), "{said}");
        server.stop();
    }
    place.write("other", &random(2, MIB));
    place.backup(&["other", "other"]);
    let said = place.fails(3, &["nbd", "-u", "socket", "--overlay", "kept", "other@latest"]);
    assert!(said.contains("belongs to another version"), "{said}");
}

#[test]
fn a_full_disk_under_an_overlay_fails_the_write_alone() {
    let Some([qemu_io]) = programs(["qemu-io"]) else { return };
    let (place, _, uid) = place();
    let disk = match Mount::tmpfs(&place.path("small"), 2) {
        Ok(mount) => mount,
        Err(reason) => {
            println!("skipped: needs root to mount a tmpfs: {reason}");
            return;
        }
    };
    let server = Server::unix(&place, &["--overlay", "small/kept", &uid]);
    let export = server.export(&place, "");
    let run = |steps: &[&str]| {
        let commands: Vec<&str> = steps.iter().flat_map(|step| ["-c", step]).collect();
        try_run(&place, &qemu_io, &[&["-f", "raw"], commands.as_slice(), &[export.as_str()]].concat()).1
    };
    let said = run(&["write -P 1 1M 1M", "flush", "write -P 2 4M 4M", "read -P 1 1M 1M", "read 12M 1M"]);
    assert_eq!(said.matches("No space left on device").count(), 1, "{said}");
    assert!(!said.contains("verification failed") && said.matches("read 1048576/1048576").count() == 2, "{said}");
    disk.resize(16);
    let said = run(&["write -P 2 4M 4M", "flush", "read -P 1 1M 1M", "read -P 2 4M 4M"]);
    assert!(!said.contains("failed") && !said.contains("No space"), "{said}");
    let log = server.stop();
    assert!(log.contains("No space left on device"), "{log}");
}

#[test]
fn the_tools_of_libnbd_find_nothing_wrong() {
    let Some([nbdinfo, nbdcopy]) = programs(["nbdinfo", "nbdcopy"]) else { return };
    let (place, bytes, uid) = place();
    let server = Server::unix(&place, &["--writable"]);
    let list = ok(&place, &nbdinfo, &["--list", &server.export(&place, "")]);
    assert!(list.contains("vm@latest") && list.contains(&uid), "{list}");
    let export = server.export(&place, "vm@latest");
    let map = ok(&place, &nbdinfo, &["--map", &export]);
    let expected =
        ["0     3145728    0", "3145728     6291456    3", "9437184     6291456    0", "15728640     8388608    3"];
    assert!(expected.iter().all(|line| map.contains(line)), "{map}");
    ok(&place, &nbdcopy, &["--connections=4", "--requests=16", &export, "copied"]);
    assert!(place.read("copied") == bytes);
    let other = random(3, 24 * MIB);
    place.write("new", &other);
    ok(&place, &nbdcopy, &["--flush", "new", &export]);
    ok(&place, &nbdcopy, &[&export, "copied"]);
    assert!(place.read("copied") == other);
    server.stop();
}

#[test]
fn libnbd_by_hand_gets_the_right_errors() {
    let Some([python]) = programs(["python3"]) else { return };
    if !Command::new(&python).args(["-c", "import nbd"]).status().unwrap().success() {
        println!("skipped: python3-libnbd is not installed");
        return;
    }
    let (place, _, _) = place();
    let server = Server::unix(&place, &["vm@latest"]);
    let script = "
import errno, nbd, sys
h = nbd.NBD()
h.set_strict_mode(0)
h.add_meta_context('base:allocation')
h.connect_uri(sys.argv[1])
size = h.get_size()
assert h.is_read_only() and h.can_multi_conn() and h.can_df()
def fails(number, call):
    try: call()
    except nbd.Error as error: assert error.errnum == number, (error, number)
    else: raise Exception('it did not fail')
fails(errno.EINVAL, lambda: h.pread(512, size))
fails(errno.EINVAL, lambda: h.pread(512, size - 511))
fails(errno.EPERM, lambda: h.pwrite(b'x' * 512, 0))
fails(errno.EPERM, lambda: h.zero(512, 0))
seen = []
def extents(context, offset, entries, error): seen.extend(entries)
h.block_status(size, 0, extents)
assert sum(seen[0::2]) == size, seen
chunks = []
def chunk(data, offset, kind, error): chunks.append((len(data), kind))
h.pread_structured(4 << 20, 2 << 20, chunk)
assert chunks == [(1 << 20, nbd.READ_DATA), (3 << 20, nbd.READ_HOLE)], chunks
h.shutdown()
";
    ok(&place, &python, &["-c", script, &server.export(&place, "")]);
    server.stop();
}

#[test]
fn libnbd_is_told_truly_what_can_be_done() {
    let Some([nbdinfo]) = programs(["nbdinfo"]) else { return };
    let (place, _, _) = place();
    let can = |server: &Server, what: &[&str]| {
        let export = server.export(&place, "vm@latest");
        try_run(&place, &nbdinfo, &[what, &[export.as_str()]].concat()).0
    };
    let server = Server::unix(&place, &[]);
    for what in [&["--is", "read-only"][..], &["--can", "df"], &["--can", "multi-conn"], &["--can", "structured-reply"]]
    {
        assert!(can(&server, what), "{what:?}");
    }
    for what in
        [&["--can", "write"][..], &["--can", "trim"], &["--can", "zero"], &["--is", "tls"], &["--is", "rotational"]]
    {
        assert!(!can(&server, what), "{what:?}");
    }
    let map = ok(&place, &nbdinfo, &["--map", "--totals", &server.export(&place, "vm@latest")]);
    assert!(map.lines().any(|line| line.trim_start().starts_with("10485760  ")), "{map}");
    server.stop();
    let server = Server::unix(&place, &["--writable"]);
    for what in ["write", "trim", "zero", "fua", "flush", "multi-conn"] {
        assert!(can(&server, &["--can", what]), "{what}");
    }
    server.stop();
}

#[test]
fn nbdkit_checks_data_and_holes_against_the_restored_image() {
    let Some([nbdkit, nbdcopy]) = programs(["nbdkit", "nbdcopy"]) else { return };
    let (place, _, _) = place();
    place.ok(&["restore", "vm@latest", "restored"]);
    let server = Server::unix(&place, &["vm@latest"]);
    let export = server.export(&place, "");
    // checkwrite compares what nbdcopy writes with what is there, and that what it calls a hole is zero.
    let check = |from: &str| {
        let copy = format!("'{}' --connections=4 --sparse=4096 '{from}' \"$uri\"", nbdcopy.display());
        try_run(&place, &nbdkit, &["-U", "-", "--filter=checkwrite", "file", "restored", "--run", &copy])
    };
    let (is_ok, said) = check(&export);
    assert!(is_ok, "{said}");
    // The same through nbdkit as a client in the middle, which asks for block status itself.
    let proxy = format!("uri={export}");
    let checking = format!(
        "from=\"$uri\"; '{}' -U - --filter=checkwrite file restored --run \"'{}' --connections=4 '$from' \\\"\\$uri\\\"\"",
        nbdkit.display(),
        nbdcopy.display()
    );
    let (is_ok, said) = try_run(&place, &nbdkit, &["-r", "-U", "-", "nbd", &proxy, "--run", &checking]);
    assert!(is_ok, "{said}");
    // It can fail: one byte of the restored image is another.
    let mut restored = place.read("restored");
    restored[10 * MIB] ^= 1;
    place.write("restored", &restored);
    let (is_ok, said) = check(&export);
    assert!(!is_ok, "a difference was not found: {said}");
    server.stop();
}

#[test]
fn nbdkit_in_the_middle_writes_over_several_connections() {
    let Some([nbdkit, nbdcopy]) = programs(["nbdkit", "nbdcopy"]) else { return };
    let (place, bytes, _) = place();
    let mut new = random(5, 24 * MIB);
    new[5 * MIB..7 * MIB].fill(0);
    new[20 * MIB + 100..22 * MIB].fill(0);
    place.write("new", &new);
    let server = Server::unix(&place, &["--writable", "vm@latest"]);
    let export = server.export(&place, "");
    let proxy = format!("uri={export}");
    for more in [&["--filter=fua", "fuamode=force"][..], &["--filter=stats", "statsfile=/dev/null"]] {
        let copy = format!("'{}' --connections=8 --requests=16 --flush new \"$uri\"", nbdcopy.display());
        let (filter, parameter) = (more[0], more[1]);
        ok(&place, &nbdkit, &["-U", "-", filter, "nbd", &proxy, parameter, "--run", &copy]);
        ok(&place, &nbdcopy, &["--connections=4", &export, "copied"]);
        assert!(place.read("copied") == new);
        new.rotate_right(MIB + 77);
        place.write("new", &new);
    }
    server.stop();
    place.ok(&["restore", "vm@latest", "restored"]);
    assert!(place.read("restored") == bytes, "the version was touched");
}

#[test]
fn nbdfuse_shows_the_version_as_a_file() {
    let Some([nbdfuse, fusermount]) = programs(["nbdfuse", "fusermount3"]) else { return };
    if !Path::new("/dev/fuse").exists() {
        println!("skipped: there is no /dev/fuse");
        return;
    }
    let (place, bytes, _) = place();
    let server = Server::unix(&place, &["vm@latest"]);
    std::fs::create_dir(place.path("mnt")).unwrap();
    let (file, pid) = (text(place.path("mnt/disk")), text(place.path("pid")));
    let mut command = Command::new(&nbdfuse);
    let mut child = command.args(["-r", "-P", &pid, &file, &server.export(&place, "")]).spawn().unwrap();
    // It writes its number down when it is mounted.
    while !place.path("pid").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let is_mounted = child.try_wait().unwrap().is_none();
    let read = is_mounted.then(|| std::fs::read(&file));
    let unmounted = Command::new(&fusermount).args(["-u", &text(place.path("mnt"))]).status().unwrap().success();
    let ended = child.wait().unwrap();
    assert!(is_mounted, "nbdfuse does not mount: {ended}");
    assert!(read.unwrap().unwrap() == bytes && unmounted);
    server.stop();
}

#[test]
fn nbdsh_trims_and_zeroes_and_sees_the_holes() {
    let Some([nbdsh, _]) = programs(["nbdsh", "python3"]) else { return };
    let (place, _, _) = place();
    let server = Server::unix(&place, &["--writable", "vm@latest"]);
    let script = "
def holes(offset, count):
    seen = []
    h.block_status(count, offset, lambda context, offset, entries, error: seen.extend(entries))
    return list(zip(seen[0::2], seen[1::2]))
assert holes(0, 1 << 20) == [(1 << 20, 0)]
h.trim(1 << 16, 1 << 16)
h.zero(1 << 16, 3 << 16, nbd.CMD_FLAG_FUA)
h.zero(1 << 16, 5 << 16, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(6 << 16, 1 << 16)[:1 << 16] == bytes(1 << 16)
assert holes(1 << 16, 1 << 16) == [(1 << 16, 3)], holes(1 << 16, 1 << 16)
assert holes(3 << 16, 1 << 16) == [(1 << 16, 3)]
h.pwrite(b'x' * 5000, 1 << 16, nbd.CMD_FLAG_FUA)
assert h.pread(5001, 1 << 16) == b'x' * 5000 + bytes(1)
assert holes(1 << 16, 8192) == [(8192, 0)]
h.flush()
";
    let mut command = Command::new(&nbdsh);
    // It is found by its name, and must be the system's own, which has libnbd.
    command.env("PATH", "/usr/bin:/bin");
    let output = command
        .args(["--base-allocation", "-u", &server.export(&place, ""), "-c", script])
        .current_dir(place.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("No module named") {
        println!("skipped: python3-libnbd is not installed");
        return;
    }
    assert!(output.status.success(), "{said}");
    server.stop();
}

#[test]
fn a_damaged_block_is_an_error_for_the_client_and_a_line_in_the_log() {
    let Some([qemu_io]) = programs(["qemu-io"]) else { return };
    let (place, _, uid) = place();
    // Most of the largest pack is data: somewhere in its middle is a block.
    let pack = place.files("repository/packs").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let server = Server::unix(&place, &[&uid]);
    let commands: Vec<String> = (0..24 * MIB / 65536).map(|number| format!("read {} 64k", number * 65536)).collect();
    let mut arguments = vec!["-r", "-f", "raw"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    let export = server.export(&place, "");
    arguments.push(&export);
    for _ in 0..2 {
        let (_, said) = try_run(&place, &qemu_io, &arguments);
        assert_eq!(said.matches("Input/output error").count(), 1, "{said}");
    }
    let log = server.stop();
    let is_about_it = |line: &&str| line.contains(&uid) && line.contains("cannot be read");
    assert_eq!(log.lines().filter(is_about_it).count(), 1, "{log}");
}

#[test]
fn tls_lets_in_whom_it_should() {
    let Some([nbdinfo, nbdcopy, openssl]) = programs(["nbdinfo", "nbdcopy", "openssl"]) else { return };
    let (place, bytes, _) = place();
    let folder = place.path("tls");
    std::fs::create_dir(&folder).unwrap();
    let sh = "set -e; cd tls
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca-cert.pem
    for who in server client; do
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$who -keyout $who-key.pem -out $who.csr
      printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' > ext
      openssl x509 -req -days 2 -in $who.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -extfile ext -out $who-cert.pem
    done";
    ok(&place, Path::new("/bin/sh"), &["-c", &format!("PATH={}:$PATH; {sh}", openssl.parent().unwrap().display())]);
    let file = |name: &str| format!("tls/{name}.pem");
    let (chain, key, authority) = (file("server-cert"), file("server-key"), file("ca-cert"));
    let with_tls = ["-p", "0", "--tls-certificate", &chain, "--tls-key", &key];
    let certificates = text(folder.clone());

    let server = Server::start(&place, &[&with_tls[..], &["-w", "--tls-client-authority", &authority]].concat());
    assert!(server.uri.starts_with("nbds://"), "{}", server.uri);
    let export = format!("{}?tls-certificates={certificates}", server.export(&place, "vm@latest"));
    ok(&place, &nbdcopy, &["--connections=4", &export, "copied"]);
    assert!(place.read("copied") == bytes);
    // Requests of all lengths, many at once: records end everywhere.
    let other = random(3, 24 * MIB);
    place.write("new", &other);
    for length in ["--request-size=65536", "--request-size=4096", "--request-size=1048576"] {
        ok(&place, &nbdcopy, &["--flush", "--requests=32", length, "new", &export]);
    }
    ok(&place, &nbdcopy, &[&export, "copied"]);
    assert!(place.read("copied") == other);
    let (is_ok, said) = try_run(&place, &nbdinfo, &[&server.export(&place, "vm@latest").replace("nbds://", "nbd://")]);
    assert!(!is_ok, "it lets clients in without TLS: {said}");
    std::fs::rename(folder.join("client-cert.pem"), folder.join("kept")).unwrap();
    let (is_ok, said) = try_run(&place, &nbdinfo, &[&export]);
    assert!(!is_ok, "it lets clients in without a certificate: {said}");
    server.stop();

    let server = Server::start(&place, &with_tls);
    let export = format!("{}?tls-certificates={certificates}", server.export(&place, "vm@latest"));
    let (is_ok, said) = try_run(&place, &nbdinfo, &["--size", &export]);
    assert!(is_ok, "{said}");
    server.stop();
    place.fails(2, &["nbd", "--tls-certificate", &key, "--tls-key", &key]);
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let (place, _, uid) = place();
    place.fails(4, &["nbd", "nothing@latest"]);
    place.fails(2, &["nbd", "--overlay", "o"]);
    place.fails(2, &["nbd", "--connect", "/dev/nbd0", &uid, "vm@latest"]);
    place.fails(2, &["nbd", "-u", "socket", "-p", "1", &uid]);
    place.write("file", b"precious");
    place.fails(3, &["nbd", "-u", "file"]);
    assert_eq!(place.read("file"), b"precious");
    let server = Server::unix(&place, &[]);
    let said = place.fails(7, &["nbd", "-u", "socket"]);
    assert!(said.contains("somebody listens"), "{said}");
    server.stop();
    assert!(!place.path("socket").exists());
}
