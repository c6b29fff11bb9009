//! `repository.json`: what makes a place a repository. Plain, never changed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::ids::RepositoryId;

/// The format that this program reads and writes.
pub const FORMAT: u32 = 1;

const MAGIC: &str = "backy2 repository";

/// The content of `repository.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryRecord {
    /// Says what this file is.
    pub magic: String,
    /// The format of everything else in the repository.
    pub format: u32,
    /// The id of the repository.
    pub id: RepositoryId,
}

impl RepositoryRecord {
    /// Makes the record of a new repository.
    pub fn new(id: RepositoryId) -> RepositoryRecord {
        RepositoryRecord { magic: MAGIC.to_owned(), format: FORMAT, id }
    }

    /// Returns the content of the file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = super::to_body(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// `Unsupported` if the repository is of a newer format, `Damaged` if this is something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<RepositoryRecord> {
        #[derive(Deserialize)]
        struct Head {
            magic: String,
            format: u32,
        }
        let head: Head = super::from_body(bytes)?;
        if head.magic != MAGIC {
            return Err(Error::damaged("repository.json is not of a backy2 repository"));
        }
        if head.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the repository has format {}, this backy2 knows format {FORMAT}; update backy2", head.format),
            ));
        }
        super::from_body(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let record = RepositoryRecord::new(RepositoryId::from_bytes([7; 16]));
        let bytes = record.to_bytes().unwrap();
        assert_eq!(RepositoryRecord::from_bytes(&bytes).unwrap(), record);
        let newer = br#"{"magic":"backy2 repository","format":2,"ids":["of another shape"]}"#;
        assert_eq!(RepositoryRecord::from_bytes(newer).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(RepositoryRecord::from_bytes(b"{}").unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(RepositoryRecord::from_bytes(b"\xff").unwrap_err().kind(), ErrorKind::Damaged);
    }
}
