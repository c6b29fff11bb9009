//! What a check has to say.

use backy_core::ids::VersionUid;
use backy_core::units::ByteRange;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Something is damaged or missing.
    Damage,
    /// Something is left over, or will be tidied by a cleanup.
    Harmless,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The object, by its name in the store; of a pack of which nothing is there, the beginning of its names.
    pub object: String,
    /// The version that it is about, if it is about one.
    pub version: Option<VersionUid>,
    /// What of that version is lost: ascending, without overlaps.
    pub extents: Vec<ByteRange>,
    /// What is wrong.
    pub problem: String,
    /// What follows from that.
    pub meaning: &'static str,
    /// What can be done that nobody should do unasked.
    pub remedy: Option<String>,
}

impl Finding {
    /// Makes a finding that something is damaged.
    pub(super) fn damage(object: impl ToString, problem: impl ToString, meaning: &'static str) -> Finding {
        Finding {
            weight: Weight::Damage,
            object: object.to_string(),
            version: None,
            extents: Vec::new(),
            problem: problem.to_string(),
            meaning,
            remedy: None,
        }
    }

    /// Makes a finding that does no harm.
    pub(super) fn harmless(object: impl ToString, problem: impl ToString, meaning: &'static str) -> Finding {
        Finding { weight: Weight::Harmless, ..Finding::damage(object, problem, meaning) }
    }

    /// Says of which version it is.
    pub(super) fn of(self, uid: VersionUid) -> Finding {
        Finding { version: Some(uid), ..self }
    }

    /// Says what can be done by somebody who knows what it costs.
    pub(super) fn with_remedy(self, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..self }
    }
}
