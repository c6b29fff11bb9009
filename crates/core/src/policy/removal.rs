//! May a version be removed? Protected ones never, young ones only by force.

use std::time::Duration;

use crate::environment::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// What is known of a version that somebody wants to remove.
#[derive(Clone, Copy, Debug)]
pub struct RemovalFacts {
    /// The version's label protects it.
    pub is_protected: bool,
    /// When the version was made.
    pub created: Timestamp,
    /// The time now.
    pub now: Timestamp,
    /// Versions younger than this stay.
    pub young: Duration,
    /// The user insists.
    pub is_forced: bool,
}

/// Fails with `Refused` if the version must stay.
///
/// A version from the future (clocks differ) counts as young.
pub fn may_remove(facts: RemovalFacts) -> Result<()> {
    if facts.is_protected {
        return Err(Error::new(ErrorKind::Refused, "the version is protected"));
    }
    let is_young = facts.now.since(facts.created) < facts.young;
    if is_young && !facts.is_forced {
        let days = facts.young.as_secs_f64() / 86400.0;
        return Err(Error::new(ErrorKind::Refused, format!("the version is younger than {days} days")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn facts(is_protected: bool, age_days: u64, is_forced: bool) -> RemovalFacts {
        RemovalFacts {
            is_protected,
            created: Timestamp { milliseconds: 100 * DAY },
            now: Timestamp { milliseconds: (100 + age_days) * DAY },
            young: Duration::from_secs(6 * 86_400),
            is_forced,
        }
    }

    #[test]
    fn protection_outweighs_force_and_age() {
        assert_eq!(may_remove(facts(true, 1000, true)).unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn young_versions_need_force() {
        assert_eq!(may_remove(facts(false, 5, false)).unwrap_err().kind(), ErrorKind::Refused);
        assert!(may_remove(facts(false, 5, true)).is_ok());
        assert!(may_remove(facts(false, 6, false)).is_ok());
    }

    #[test]
    fn a_version_from_the_future_is_young() {
        let mut future = facts(false, 0, false);
        future.now = Timestamp { milliseconds: 50 * DAY };
        assert!(may_remove(future).is_err());
    }
}
