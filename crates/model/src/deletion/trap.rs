//! The traps: sentences of the protocol that can be left out, to see what they are there for.

/// A sentence of the protocol that is left out. The number is that of `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// H1: a cleanup lists the leases after its mark.
    LeasesAfterMark,
    /// H2: a record is ripe when no held lease is older than its time stamp. The clocks are perfect.
    OlderByClock,
    /// H3: a removed version is deleted at once; versions are not condemned.
    VersionsNotCondemned,
    /// H4: a manifest that was listed and is gone when read is left out of the mark.
    GoneManifestIgnored,
    /// H5: a condemned slot that a live version points to is taken off the list again.
    Uncondemning,
    /// H6: the name of a record is its number alone.
    RecordNameShared,
    /// H7: a job reads the records of a higher number than it has seen.
    NumberCursor,
    /// H8: a record is applied to the index once, when it is read first; the index is rebuilt later.
    DroppedOnce,
    /// H9: a recheck asks only whether everything is there.
    RecheckWithoutLog,
    /// H10: a pack is rewritten to the slots that some version points to.
    RewriteTheLive,
    /// H11: revocations are tidied away.
    RevocationTidied,
    /// H12: a job looks for the revocation before it reads the manifest of its base.
    RevocationBeforeManifest,
    /// H13: a job keeps the map of its base from before its lease.
    BaseFromBeforeLease,
    /// H13: a job builds on a condemned version.
    CondemnedBase,
    /// H13: the mark leaves out void versions.
    MarkSkipsVoid,
    /// H13: the slots of a doomed version are deleted before its manifest.
    SlotsBeforeManifests,
    /// H15: the name of a rewritten pack is its generation alone.
    GenerationNameShared,
    /// H16: of a pack's generations only the highest counts.
    HighestGenerationAlone,
    /// H16: older generations are deleted without the newer one having been verified.
    NotVerified,
    /// H19: a listing of the versions is taken for one moment.
    ListingIsOneMoment,
    /// H20: a job does not mark its version after it saw that its lease was not revoked.
    NoMarkByTheJob,
    /// H20: a job marks its version without having looked again.
    MarkWithoutLook,
    /// H21: a job that goes on from a checkpoint publishes under the name that the first job may still use.
    ManifestNameShared,
    /// H22: the tombstone of a version is deleted with its manifest.
    TombstoneTidied,
    /// H23: a job goes on under a new lease without looking whether what it refers to is condemned.
    ChangeWithoutLook,
    /// H23: a job drops its old lease as soon as the new one is put.
    OldLeaseDroppedFirst,
}
