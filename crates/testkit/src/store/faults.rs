//! The ways to fail: by rule and by chance.

use backy_core::ErrorKind;

use super::log::Operation;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails, and nothing has happened.
    Before(ErrorKind),
    /// Fails although it has happened: the reply got lost.
    After(ErrorKind),
    /// A put fails with `Unavailable` in its middle, and nothing is to be seen of it.
    Torn,
    /// *Hostile*: a put fails in its middle, and that many first bytes are to be seen as the object.
    TornVisible {
        /// How many bytes are left.
        kept_bytes: usize,
    },
    /// A put or delete happens twice, as if the network had repeated it; it succeeds.
    Repeated,
    /// A put fails with this, and is on its way: it happens when [`super::FaultyStore::land`] says so.
    Late(ErrorKind),
    /// A put succeeds, and once more is on its way.
    RepeatedLate,
}

/// Which calls fail, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The operation; any if there is none.
    pub operation: Option<Operation>,
    /// What the name, or the prefix of a listing, begins with.
    pub prefix: String,
    /// How many matching calls pass before the first one fails.
    pub skip: u64,
    /// How many matching calls fail after that.
    pub times: u64,
    /// How they fail.
    pub fault: Fault,
}

impl Rule {
    /// Makes the rule that the next call of `operation` on names that begin with `prefix` fails.
    pub fn once(operation: Operation, prefix: &str, fault: Fault) -> Rule {
        Rule { operation: Some(operation), prefix: prefix.to_owned(), skip: 0, times: 1, fault }
    }

    /// Makes the rule that all calls of `operation` on names that begin with `prefix` fail.
    pub fn always(operation: Operation, prefix: &str, fault: Fault) -> Rule {
        Rule { times: u64::MAX, ..Rule::once(operation, prefix, fault) }
    }

    /// Makes the same rule, but the first `skip` matching calls pass.
    pub fn after(self, skip: u64) -> Rule {
        Rule { skip, ..self }
    }

    pub(super) fn matches(&self, operation: Operation, name: &str) -> bool {
        self.operation.is_none_or(|mine| mine == operation) && name.starts_with(&self.prefix)
    }
}

/// How often calls fail by chance, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// `Unavailable`, and nothing has happened.
    pub before_permille: u32,
    /// `Unavailable`, although it has happened.
    pub after_permille: u32,
    /// A put or delete happens twice.
    pub repeated_permille: u32,
    /// A put fails with `Unavailable`, and happens later.
    pub late_permille: u32,
    /// A put happens, and once more later.
    pub repeated_late_permille: u32,
}

/// Whether the call at which a host crashes still has its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMoment {
    /// The call has no effect.
    Before,
    /// The call has its effect, but nobody learns of it.
    After,
    /// A put is on its way; any other call has no effect.
    Late,
}
