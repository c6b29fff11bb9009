//! URLs of sources and targets, as they were typed.

use backy_core::Error;

use crate::exit::Failure;

/// Makes the path in a URL absolute, so that it means the same in every folder; other schemes stay as they are.
pub(super) fn absolute(url: &str) -> Result<String, Failure> {
    let path = match url.split_once("://") {
        None => url,
        Some(("file", path)) => path,
        Some(_) => return Ok(url.to_owned()),
    };
    if path.is_empty() {
        return Err(Failure::usage(format!("{url:?} names no file")));
    }
    let absolute = std::path::absolute(path).map_err(|error| Error::io(format!("find the folder of {path}"), error))?;
    match absolute.to_str() {
        Some(path) => Ok(format!("file://{path}")),
        None => Err(Failure::usage(format!("the path of {url:?} is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_nothing_else_changes() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("a b").unwrap(), format!("file://{}/a b", here.display()));
        assert_eq!(absolute("file:///dev/x?y#z").unwrap(), "file:///dev/x?y#z");
        assert_eq!(absolute("null://1GiB").unwrap(), "null://1GiB");
        assert!(absolute("file://").is_err());
    }
}
