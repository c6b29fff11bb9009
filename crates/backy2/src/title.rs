//! How far a job is, as the name of the process: `backy2 45% vm1` in `top` and `ps -o comm`.
//!
//! The system takes 15 bytes of it. The command line that `ps` shows by default stays as it was typed: to write over it
//! would need memory that is not ours.

/// The longest name that the system keeps, in bytes.
const NAME_BYTES_MAX: usize = 15;

/// Shows how far the job on `name` is; without progress if there is none to show.
pub fn show(percent: Option<u64>, name: &str) {
    // The name is a comfort: where /proc is missing there is none.
    let _ = std::fs::write("/proc/self/comm", compact(percent, name));
}

fn compact(percent: Option<u64>, name: &str) -> String {
    let percent = percent.map_or_else(String::new, |percent| format!(" {percent}%"));
    let mut title = format!("backy2{percent} {name}");
    while title.len() > NAME_BYTES_MAX {
        title.pop();
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_fits_and_is_cut_between_letters() {
        assert_eq!(compact(Some(45), "vm1"), "backy2 45% vm1");
        assert_eq!(compact(None, "vm1"), "backy2 vm1");
        assert_eq!(compact(Some(100), "aaäää"), "backy2 100% aa");
    }
}
