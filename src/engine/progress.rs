//! What a flow tells while it works; the edge turns it into a progress bar or plain lines.

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step began: `reading btcpay`, `looking at vault local`.
    Step(String),
    /// This many more bytes of plaintext were read, or of objects checked.
    Bytes(u64),
    /// How many bytes or items are expected in all, where that is known.
    Total(u64),
    /// An artifact was read to its end.
    ArtifactDone {
        /// Its name.
        name: String,
        /// Its plaintext length in bytes.
        length: u64,
    },
}
