//! Block devices, by means of loop devices; they need root, and are skipped without.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use backy_core::ErrorKind;
use backy_core::units::ByteRange;
use backy_device::conformance::{check_source, check_target};
use backy_device::{DeviceOptions, TargetRequest, open_source, open_target};

/// A loop device over a file, detached in the end.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Option<Loop> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Loop(String::from_utf8(output.stdout).unwrap().trim().to_owned()))
            }
            Ok(output) => {
                println!("skipped: no loop device: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no losetup: {error}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn block_devices_pass_and_are_refused_while_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    // Three sectors more than a whole number of pages.
    let size_bytes = (2 << 20) + 3 * 512;
    File::create(&image).unwrap().set_len(size_bytes).unwrap();
    let Some(device) = Loop::new(&image) else { return };

    for uses_direct_io in [true, false] {
        let options = DeviceOptions { uses_direct_io };
        let source = open_source(&device.0, &options).unwrap();
        assert_eq!(source.size_bytes(), size_bytes);
        assert_eq!(source.url(), format!("file://{}", device.0));
        let all = ByteRange::between(0, size_bytes);
        assert_eq!(source.data_ranges(all).unwrap(), [all]);

        let request = TargetRequest { size_bytes, may_overwrite: false, options };
        let error = open_target(&device.0, &request).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("--force"), "{error}");

        let request = TargetRequest { may_overwrite: true, ..request };
        let larger = TargetRequest { size_bytes: size_bytes + 1, ..request };
        assert_eq!(open_target(&device.0, &larger).err().unwrap().kind(), ErrorKind::InvalidInput);

        let target = open_target(&device.0, &request).unwrap();
        assert!(!target.is_known_zero());
        let error = open_target(&device.0, &request).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("is in use"), "{error}");

        let bytes = check_target(&*target);
        check_source(&*source, &bytes);
        target.check_unchanged().unwrap();
        drop(target);
        assert!(fs::read(&image).unwrap() == bytes);
    }
}
